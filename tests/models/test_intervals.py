"""Interval bounds: they hold every output of the box, exactly for one layer, and name what they cannot read."""

import pytest
import torch
from torch import nn

from explorer.core import InvalidValue, seeded
from explorer.models import ARCHITECTURES
from explorer.models.intervals import around, bounds, layers_of, margins
from explorer.models.mlp import MLP
from explorer.models.plain_conv import PlainConv

CHAINS = [key for key in ARCHITECTURES.keys() if hasattr(ARCHITECTURES[key], "chain")]


def network(key, **more):
    torch.random.default_generator.manual_seed(0)
    return ARCHITECTURES[key]((0.4,) * 3, (0.25,) * 3, (3, 32, 32), 10, **more).freeze().double()


def box(n=3, eps=0.02):
    return around(torch.rand(n, 3, 32, 32, generator=seeded(0), dtype=torch.float64), eps)


def test_the_chains_are_those_that_the_error_names():
    assert CHAINS == ["lenet", "mlp", "plain-conv"]


@pytest.mark.parametrize("key", CHAINS)
def test_the_layers_in_order_are_the_network(key):
    model = network(key)
    x = box()[0]
    through = (x - model.mean) / model.std
    for layer in layers_of(model):
        through = layer(through)
    torch.testing.assert_close(through, model(x))


@pytest.mark.parametrize("key", CHAINS)
def test_no_picture_of_the_box_leaves_the_bounds(key):
    model = network(key)
    low, high = box()
    below, above = bounds(model, low, high)
    lead = margins(model, low, high, torch.tensor([0, 4, 9]))
    for seed in range(50):
        at = torch.rand(low.shape, generator=seeded(seed), dtype=torch.float64)
        at = at if seed % 2 else at.round()  # corners, too
        z = model(low + at * (high - low))
        assert bool((z >= below - 1e-9).all()) and bool((z <= above + 1e-9).all())
        apart = z.gather(1, torch.tensor([[0], [4], [9]])) - z
        assert bool((apart >= lead - 1e-9).all())


@pytest.mark.parametrize("key", CHAINS)
def test_an_empty_box_has_the_logits_for_bounds_and_a_larger_box_wider_ones(key):
    model = network(key)
    x = box()[0]
    for ends in bounds(model, x, x):
        torch.testing.assert_close(ends, model(x))
    narrow, wide = (bounds(model, *around(x, eps)) for eps in (0.01, 0.05))
    assert bool((wide[0] < narrow[0]).all()) and bool((narrow[1] < wide[1]).all())


def test_a_linear_layer_s_bounds_are_reached_at_corners():
    model = MLP((0.0,), (0.5,), (1, 2, 2), 2, hidden=(3,)).double().freeze()
    with torch.no_grad():
        model.layers[0][0].bias.fill_(100.0)  # every unit is on: the network is linear
        low, high = around(torch.full((1, 1, 2, 2), 0.5, dtype=torch.float64), 0.1)
        below, above = bounds(model, low, high)
        corners = torch.cartesian_prod(*[torch.tensor([0.4, 0.6], dtype=torch.float64)] * 4).view(16, 1, 2, 2)
        z = model(corners)
    # layer by layer: each layer alone is exact, two in a row need not be
    assert bool((below <= z.amin(0) + 1e-9).all()) and bool((above >= z.amax(0) - 1e-9).all())
    one = nn.Linear(4, 2).double().requires_grad_(False)
    model.chain = lambda: (nn.Flatten(), one)
    below, above = bounds(model, low, high)
    z = one(corners.flatten(1) / 0.5)
    torch.testing.assert_close(below[0], z.amin(0))
    torch.testing.assert_close(above[0], z.amax(0))
    lead = margins(model, low, high, torch.tensor([1]))
    torch.testing.assert_close(lead[0], torch.stack(((z[:, 1] - z[:, 0]).amin(), torch.zeros((), dtype=torch.float64))))


def test_a_lead_is_bounded_better_than_by_the_logits_bounds():
    model = network("plain-conv")
    low, high = box(eps=0.005)
    y = torch.tensor([0, 4, 9])
    below, above = bounds(model, low, high)
    plain = below.gather(1, y[:, None]) - above
    lead = margins(model, low, high, y)
    others = torch.arange(10) != y[:, None]
    assert bool((lead[others] > plain[others]).all()) and bool((lead[~others] == 0).all())


def test_pixels_stay_within_their_range():
    low, high = around(torch.tensor([[[[0.0, 0.95, 0.5]]]]), 0.1)
    assert low.flatten().tolist() == pytest.approx([0.0, 0.85, 0.4]) and high.flatten().tolist() == pytest.approx(
        [0.1, 1.0, 0.6]
    )


def test_a_layer_that_cannot_be_read_is_named():
    model = PlainConv((0.5,) * 3, (0.25,) * 3)
    model.layers.insert(1, nn.BatchNorm2d(16))
    with pytest.raises(InvalidValue, match=r"layer 2 of PlainConv is a BatchNorm2d"):
        bounds(model, *around(torch.rand(1, 3, 32, 32), 0.1))
    with pytest.raises(InvalidValue, match=r"read off a chain of layers .*; PreActResNet18 is none"):
        bounds(
            ARCHITECTURES["preact-resnet18"]((0.5,) * 3, (0.25,) * 3, width=4), *around(torch.rand(1, 3, 32, 32), 0.1)
        )
    model.chain = lambda: (model.layers[0], nn.ReLU())
    with pytest.raises(InvalidValue, match="ends in ReLU"):
        margins(model, *around(torch.rand(1, 3, 32, 32), 0.1), torch.tensor([0]))


def test_the_plain_network_s_own_errors():
    for wrong in ({"convolutions": ()}, {"convolutions": ((16, 4),)}, {"convolutions": ((0, 3, 1),)}, {"hidden": (0,)}):
        with pytest.raises(InvalidValue, match="convolutions must be"):
            PlainConv((0.5,) * 3, (0.25,) * 3, **wrong)
    with pytest.raises(InvalidValue, match="leaves no pixel"):
        PlainConv((0.5,) * 3, (0.25,) * 3, convolutions=[(4, 4, 2)] * 6)
