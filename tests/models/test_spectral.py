"""Convolutions of a bounded norm: measured by a power iteration of our own, on the convolution, in double precision."""

import copy

import pytest
import torch
import torch.nn.functional as F

from explorer.core import seeded
from explorer.models import ARCHITECTURES
from explorer.models._spectral import SpectralConv2d

SIZE = (10, 10)


def enlargement(linear, channels, size=SIZE, rounds=400):
    """The largest ||linear(x)|| / ||x||, by power iteration with the transpose that autograd gives."""
    image = torch.rand(1, channels, *size, generator=seeded(7), dtype=torch.float64)
    for _ in range(rounds):
        image = (image / image.norm()).detach().requires_grad_(True)
        moved = linear(image)
        (image,) = torch.autograd.grad(0.5 * moved.square().sum(), image)
    return float(moved.detach().norm())


def layer_of(bound, stride=1, kernel=3, scale=1.0, inputs=3, outputs=5):
    torch.random.default_generator.manual_seed(0)
    layer = SpectralConv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False, bound=bound)
    with torch.no_grad():
        layer.weight.mul_(scale)
    return layer.requires_grad_(False).double()


@pytest.mark.parametrize(("stride", "kernel"), [(1, 3), (2, 3), (2, 1)])
def test_a_large_convolution_is_cut_to_its_bound_and_a_small_one_left_alone(stride, kernel):
    large = layer_of(0.7, stride, kernel, scale=10.0)
    assert enlargement(large, 3) == pytest.approx(0.7, rel=0.01)
    small = layer_of(1000.0, stride, kernel)
    x = torch.rand(2, 3, *SIZE, generator=seeded(0), dtype=torch.float64)
    torch.testing.assert_close(small(x), F.conv2d(x, small.weight, None, stride, kernel // 2))


def test_the_kernel_as_a_matrix_would_not_do():
    layer = layer_of(1.0, inputs=1, outputs=1)
    with torch.no_grad():
        layer.weight.fill_(1 / 3)
    assert float(torch.linalg.matrix_norm(layer.weight.flatten(1), 2)) == pytest.approx(
        1.0
    )  # so it would be left alone
    plain = enlargement(lambda x: F.conv2d(x, layer.weight, None, 1, 1), 1)
    assert plain > 2.7  # but it almost triples a flat image
    assert enlargement(layer, 1) == pytest.approx(1.0, rel=0.01)


def test_in_training_the_bound_holds_nearly_and_the_gradient_is_that_of_the_divided_kernel():
    layer = layer_of(0.7, scale=10.0).requires_grad_(True)
    assert enlargement(layer, 3, rounds=60) == pytest.approx(0.7, rel=0.1)
    x = torch.rand(2, 3, *SIZE, generator=seeded(0), dtype=torch.float64)
    layer(x).square().sum().backward()
    along = float(
        (layer.weight.grad * layer.weight).sum()
    )  # a larger kernel is divided by as much more: nothing changes
    assert abs(along) < 1e-6 * float(layer.weight.grad.norm() * layer.weight.norm())


def test_the_norm_follows_the_weights_and_the_size_and_depends_on_nothing_else():
    layer = layer_of(0.7, scale=10.0)
    before = float(layer.norm(SIZE))
    assert float(layer.norm((4, 4))) < before
    with torch.no_grad():
        layer.weight.mul_(2)
    assert float(layer.norm(SIZE)) == pytest.approx(2 * before, rel=1e-6)
    assert float(copy.deepcopy(layer).norm(SIZE)) == float(layer.norm(SIZE))


def test_a_network_takes_the_weights_of_a_plain_one_and_is_deterministic():
    def network(bound):
        torch.random.default_generator.manual_seed(0)
        return ARCHITECTURES["preact-resnet18"]((0.5,) * 3, (0.25,) * 3, width=4, bound=bound).freeze()

    plain, bounded, loose = network(0.0), network(0.5), network(1e6)
    assert plain.state_dict().keys() == bounded.state_dict().keys() and not bounded.stochastic
    x = torch.rand(2, 3, 32, 32, generator=seeded(1))
    torch.testing.assert_close(loose(x), plain(x))
    assert torch.equal(bounded(x), bounded(x)) and not torch.allclose(bounded(x), plain(x))
    layers = [module for module in bounded.modules() if isinstance(module, torch.nn.Conv2d)]
    assert len(layers) == 20 and all(isinstance(layer, SpectralConv2d) for layer in layers)
