"""The 1-Lipschitz network: no pair, drawn or sought, is enlarged by a layer, the features, or a lead beyond its slope."""

import pytest
import torch
import torch.nn.functional as F

from explorer.core import InvalidValue, seeded
from explorer.models.lipschitz_net import LipschitzNet, SDPLayer, UnitRows


def layer_of(kernel=3, channels=5, seed=0, dtype=torch.float64):
    """Of no special weights: large, far from the identity, with q of many sizes."""
    torch.random.default_generator.manual_seed(seed)
    layer = SDPLayer(channels, kernel).to(dtype)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape))
    return layer.requires_grad_(False)


def network(std=0.25, shape=(3, 32, 32), dtype=torch.float64, **more):
    torch.random.default_generator.manual_seed(0)
    channels = shape[0]
    model = LipschitzNet(
        (0.4,) * channels, (std,) * channels, shape, 10, **({"width": 16, "depths": (2, 1)} | more)
    ).to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return model.freeze()


def jacobian_norm(function, x, rounds=60):
    """The largest singular value of the Jacobian at x (1,...), by power iteration."""
    change = torch.randn(x.shape, generator=seeded(1), dtype=x.dtype)
    for _ in range(rounds):
        change = change / change.norm()
        _, moved = torch.func.jvp(function, (x,), (change,))
        _, back = torch.func.vjp(function, x)
        (change,) = back(moved)
    return float(moved.norm())


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("seed", range(3))
def test_a_layer_of_any_weights_enlarges_no_direction_anywhere(kernel, seed):
    layer = layer_of(kernel, seed=seed)
    for at in range(5):
        x = 3 * torch.randn(1, 5, 6, 6, generator=seeded(at), dtype=torch.float64)
        assert jacobian_norm(layer, x) <= 1 + 1e-9


def test_t_minus_the_products_is_positive_semidefinite_at_the_borders_too():
    """The convolution written out as a matrix: what the theorem asks of T, and that nothing near it is needed less."""
    layer = layer_of(channels=2)
    basis = torch.eye(2 * 16, dtype=torch.float64).view(-1, 2, 4, 4)
    w = F.conv2d(basis, layer.weight, padding=1).flatten(1).T  # (outputs, inputs)
    t = (2 / layer.scale()).repeat_interleave(16)
    lowest = torch.linalg.eigvalsh(torch.diag(t) - w @ w.T)[0]
    assert float(lowest) > 0
    assert float(torch.linalg.eigvalsh(torch.diag(0.2 * t) - w @ w.T)[0]) < 0


def test_the_layer_by_hand():
    layer = SDPLayer(1, 1)
    with torch.no_grad():
        layer.weight.fill_(3.0)
        layer.bias.fill_(-3.0)
    found = layer(torch.tensor([2.0, 0.5]).view(2, 1, 1, 1)).flatten().tolist()
    assert found == pytest.approx([2.0 - 2 * 3 / 9 * (3 * 2.0 - 3), 0.5])


@pytest.mark.parametrize("std", [0.25, 2.0])
@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28)])
def test_the_features_move_no_farther_than_the_pixels_whatever_std_is(std, shape):
    model = network(std, shape)
    x = torch.rand(1, *shape, generator=seeded(0), dtype=torch.float64)
    largest = jacobian_norm(model.features, x, rounds=25)
    assert 0.5 < largest <= 1 + 1e-9
    for seed in range(20):
        other = torch.rand(1, *shape, generator=seeded(seed + 1), dtype=torch.float64)
        other = other if seed % 2 else x + 0.01 * (other - 0.5)
        assert float((model.features(x) - model.features(other)).norm()) <= float((x - other).norm()) * (1 + 1e-9)


def test_a_lead_shrinks_no_faster_than_its_slope_under_attack():
    model = network(dtype=torch.float32)
    x = torch.rand(4, 3, 32, 32, generator=seeded(0))
    slopes = model.slopes()
    for i, k in ((0, 1), (7, 3)):
        at, before = x.clone(), model(x)
        for _ in range(15):  # ascent along the lead's own gradient, 0.1 a step
            at.requires_grad_(True)
            z = model(at)
            (slope,) = torch.autograd.grad((z[:, k] - z[:, i]).sum(), at)
            at = (at + 0.1 * F.normalize(slope.flatten(1), dim=1).view_as(at)).detach()
        lost = ((before[:, i] - before[:, k]) - (model(at)[:, i] - model(at)[:, k])).double()
        reached = lost / ((at - x).flatten(1).norm(dim=1) * slopes[i, k])
        assert bool((reached <= 1 + 1e-5).all()) and float(reached.min()) > 0.1


def test_the_last_layer_s_rows_have_length_one_and_slopes_are_their_distances():
    head = UnitRows(3, 2)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[3.0, 4.0, 0.0], [0.0, 0.0, 2.0]]))
        head.bias.copy_(torch.tensor([0.5, 0.0]))
    assert head(torch.tensor([[5.0, 10.0, 7.0]])).tolist() == [pytest.approx([11.5, 7.0])]
    model = network()
    model.head = head
    torch.testing.assert_close(model.slopes(), torch.tensor([[0.0, 2**0.5], [2**0.5, 0.0]], dtype=torch.float64))


def test_widths_and_depths_that_do_not_fit_are_refused():
    for wrong, words in (
        ({"width": 11}, "width must be at least"),
        ({"depths": ()}, "depths must be"),
        ({"depths": (1, -1)}, "depths"),
        ({"kernels": (3, 2)}, "kernels must be odd"),
        ({"depths": (1, 1, 1), "kernels": (3, 3)}, "kernels must be odd, one for each of 3"),
    ):
        with pytest.raises(InvalidValue, match=words):
            LipschitzNet((0.5,) * 3, (0.25,) * 3, **wrong)
