"""CROWN's bounds hold every point of the box, lie between interval bounds and the truth, and are exact where a network is linear."""

import pytest
import torch
from torch import nn

from explorer.certify import linear_bounds
from explorer.certify.linear_bounds import LinearBounds
from explorer.core import InvalidValue, seeded
from explorer.models import ARCHITECTURES
from explorer.models.intervals import around
from explorer.models.intervals import margins as interval_margins
from explorer.models.lenet import LeNet
from explorer.models.mlp import MLP
from explorer.models.plain_conv import PlainConv

GREY = ((0.4,), (0.25,))


def tiny(kind: str, seed: int):
    """A small random network, its biases as large as what they are added to."""
    torch.random.default_generator.manual_seed(seed)
    if kind == "mlp":
        shape = (1, 2, 2)
        model = MLP(*GREY, shape, 3, hidden=(5, 4))
    elif kind == "conv":
        shape = (1, 6, 6)
        model = PlainConv(*GREY, shape, 3, convolutions=((2, 3, 1), (3, 3, 2)), hidden=(6,))
    else:
        shape = (1, 16, 16)
        model = LeNet(*GREY, shape, 3)
    for name, weight in model.freeze().named_parameters():
        if name.endswith("bias"):
            weight.normal_(0, 0.5)
    return model, shape


def points(low, high, n=400, seed=0):
    at = torch.rand(n, *low.shape[1:], generator=seeded(seed), dtype=torch.float64)
    at[: n // 2] = at[: n // 2].round()  # corners
    return low + at * (high - low)


@pytest.mark.parametrize("kind", ["mlp", "conv", "lenet"])
@pytest.mark.parametrize("eps", [0.02, 0.15])
def test_interval_bounds_crown_and_what_is_there_follow_each_other(kind, eps):
    tighter = []
    for seed in range(6):
        model, shape = tiny(kind, seed)
        x = torch.rand(1, *shape, generator=seeded(seed), dtype=torch.float64)
        low, high = around(x, eps)
        y = model.double()(x).argmax(1)
        plain, found = interval_margins(model, low, high, y), LinearBounds(model).margins(low, high, y)
        z = model(points(low, high, seed=seed))
        truth = (z.gather(1, y.expand(len(z), 1)) - z).amin(0, keepdim=True)
        assert bool((plain <= found + 1e-12).all()) and bool((found <= truth + 1e-9).all())
        assert found[0, y] == 0
        tighter.append(float((found - plain).max()))
    assert max(tighter) > 1e-3


def test_a_network_whose_units_are_all_on_is_bounded_exactly():
    model = MLP(*GREY, (1, 2, 2), 2, hidden=(3, 3)).double().freeze()
    for layer in model.layers:
        layer[0].bias.fill_(50.0)
    low, high = around(torch.full((1, 1, 2, 2), 0.5, dtype=torch.float64), 0.1)
    corners = torch.cartesian_prod(*[torch.tensor([0.4, 0.6], dtype=torch.float64)] * 4).view(16, 1, 2, 2)
    z = model(corners)
    found = LinearBounds(model).margins(low, high, torch.tensor([0]))
    torch.testing.assert_close(found[0, 1], (z[:, 0] - z[:, 1]).amin())


def test_one_relu_by_hand():
    """relu on [-1, 1.1]: slope 1 below, 1.1/2.1 (z + 1) above; alone, plain CROWN's -1 is looser than the interval's 0."""
    low, high = torch.tensor([[-1.0]]).double(), torch.tensor([[1.1]]).double()
    up, shift = linear_bounds._back_relu(torch.tensor([[1.0], [-1.0]]).double(), low, high)
    torch.testing.assert_close(up, torch.tensor([[1.0], [-1.1 / 2.1]]).double())
    torch.testing.assert_close(shift, torch.tensor([0.0, -1.1 / 2.1]).double())
    model = MLP((0.0,), (1.0,), (1, 1, 1), 2, hidden=(1,)).double().freeze()
    model.layers[0][0].weight.fill_(2.1)
    model.layers[0][0].bias.fill_(-1.0)
    model.head.weight.copy_(torch.tensor([[1.0], [0.0]]))
    model.head.bias.fill_(0.0)
    box = torch.zeros(1, 1, 1, 1).double(), torch.ones(1, 1, 1, 1).double()
    assert LinearBounds(model).margins(*box, torch.tensor([0]))[0, 1] == 0  # the tighter of both


def test_a_maximum_is_enclosed():
    pool = nn.MaxPool2d(2)
    low = torch.tensor([[[[0.0, 1.0], [0.2, 0.1]]]]).double()
    for top in (0.9, 1.5):  # nobody can exceed the second; somebody can
        high = torch.tensor([[[[top, 2.0], [0.8, 0.9]]]]).double()
        layer = linear_bounds.Bounded(pool, low, high)
        z = points(low, high)
        out = pool(z).flatten()
        for sign in (1.0, -1.0):
            slopes, shift = linear_bounds._back_maximum(torch.full((1, 1), sign).double(), layer)
            below = (slopes * z).flatten(1).sum(1) + shift
            assert bool((below <= sign * out + 1e-12).all())
            assert bool((below == sign * out).all()) is (top == 0.9)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        (
            "_back_linear",
            lambda real: lambda m, s, shape: (real(m, s, shape)[0], 0 * real(m, s, shape)[1]),
        ),  # bias forgotten
        (
            "_back_relu",
            lambda real: lambda s, low, high: (*real(s, low, high)[:1], -real(s, low, high)[1]),
        ),  # sign turned
        (
            "_back_relu",
            lambda real: lambda s, low, high: (-real(s, low, high)[0], real(s, low, high)[1]),
        ),  # slope turned
    ],
)
def test_a_planted_fault_is_found(monkeypatch, name, wrong):
    monkeypatch.setattr(linear_bounds, name, wrong(getattr(linear_bounds, name)))
    caught = False
    for kind in ("mlp", "conv"):
        for seed in range(6):
            model, shape = tiny(kind, seed)
            x = torch.rand(1, *shape, generator=seeded(seed), dtype=torch.float64)
            low, high = around(x, 0.15)
            y = model.double()(x).argmax(1)
            z = model(points(low, high, seed=seed))
            truth = (z.gather(1, y.expand(len(z), 1)) - z).amin(0, keepdim=True)
            caught |= bool((LinearBounds(model).margins(low, high, y) > truth + 1e-9).any())
    assert caught


def test_a_layer_that_cannot_be_read_is_named():
    model = PlainConv(*GREY, (1, 8, 8), 3)
    model.layers.insert(1, nn.BatchNorm2d(16))
    with pytest.raises(InvalidValue, match=r"layer 2 of PlainConv is a BatchNorm2d"):
        LinearBounds(model)
    with pytest.raises(InvalidValue, match=r"read off a chain of layers"):
        LinearBounds(ARCHITECTURES["preact-resnet18"]((0.5,) * 3, (0.25,) * 3, width=4))
