"""Spectral normalization with smoothing: what the loss sees, and the network it trains."""

import torch

from explorer.core import seeded, use_generator
from explorer.defenses import RECIPES
from explorer.models._spectral import SpectralConv2d
from explorer.training.state import build

CPU = torch.device("cpu")


def test_the_loss_sees_attacked_images_under_noise_and_is_their_cross_entropy():
    recipe = RECIPES["spectral"](width=4, start="", noise=0.2, inner_steps=2, label_smoothing=0.0)
    plain = RECIPES["spectral"](width=4, start="", noise=0.0, inner_steps=2, label_smoothing=0.0)
    model = build(recipe, CPU).eval()
    x, y = torch.rand(8, 3, 32, 32, generator=seeded(0)), torch.arange(8)
    attacked, seen = plain.training_inputs(model, x, y, seeded(1)), recipe.training_inputs(model, x, y, seeded(1))
    noise = (seen - attacked) / 0.2
    assert float((attacked - x).abs().max()) <= recipe.eps + 1e-6
    assert abs(float(noise.std()) - 1) < 0.02 and float(seen.min()) < 0 < 1 < float(seen.max())
    with torch.no_grad():
        expected = -model(seen).log_softmax(1).gather(1, y[:, None]).mean()
    torch.testing.assert_close(recipe.loss(model, x, y, seeded(1)).detach(), expected)


def test_it_goes_on_from_the_linf_network_with_convolutions_cut_to_the_bound():
    recipe = RECIPES["spectral"]()
    assert recipe.start == "cifar10/pgd-linf" and recipe.architecture()[1] == {"width": 32, "bound": recipe.bound}
    model = build(RECIPES["spectral"](width=4, start="", bound=0.5), CPU).freeze()
    with torch.no_grad(), use_generator(seeded(0)):
        assert torch.equal(model(torch.ones(1, 3, 32, 32)), model(torch.ones(1, 3, 32, 32)))
    layers = [module for module in model.modules() if isinstance(module, SpectralConv2d)]
    assert len(layers) == 20 and {layer.bound for layer in layers} == {0.5}


def test_the_twin_is_trained_alike_without_the_bound():
    spectral, twin = RECIPES["spectral"](), RECIPES["spectral-twin"]()
    assert {**spectral.to_dict()} == {**twin.to_dict(), "bound": spectral.bound}
    assert twin.architecture() == ("preact-resnet18", {"width": 32})
