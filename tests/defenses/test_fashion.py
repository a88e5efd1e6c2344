"""The Fashion-MNIST recipes: Deep Defense's loss by hand and its gradient by finite differences, and what the others show."""

import math

import pytest
import torch
from torch import nn

from explorer.core import Classifier, InvalidValue, seeded
from explorer.defenses import RECIPES
from explorer.defenses.deep_defense import LARGEST_EXPONENT, relative_length, to_boundary
from explorer.models.mlp import MLP
from explorer.training.data import split
from explorer.training.state import build

CPU = torch.device("cpu")
X = torch.tensor([0.4, 0.5, 0.6, 0.5]).view(1, 1, 2, 2)
W = [1.0, -2.0, 3.0, 0.5]
LEAD, SIZE = 0.4 - 1.0 + 1.8 + 0.25, math.sqrt(1 + 4 + 9 + 0.25)  # of class 1 over class 0 at X; of its slope
RATIO = 1.02 * LEAD / SIZE / math.sqrt(0.16 + 0.25 + 0.36 + 0.25)  # one update reaches the only boundary, which is flat


class Linear(Classifier):
    """Two classes, four pixels: logit 1 minus logit 0 is W.x."""

    def __init__(self):
        super().__init__((0.0,), (1.0,), (1, 2, 2), 2)
        self.head = nn.Linear(4, 2, bias=False)
        with torch.no_grad():
            self.head.weight.copy_(torch.stack((torch.zeros(4), torch.tensor(W))))

    def embed(self, normalised):
        return normalised.flatten(1)


def test_the_way_to_a_flat_boundary_is_the_lead_over_the_slope_and_a_little_beyond():
    for label in (1, 0):  # away from the true class; or, where the model is wrong, to it: the same boundary
        change = to_boundary(Linear(), X, torch.tensor([label]))
        assert float(relative_length(change, X)) == pytest.approx(RATIO, rel=1e-5)
        expected = -1.02 * LEAD / SIZE**2 * torch.tensor(W).view(1, 1, 2, 2)
        torch.testing.assert_close(change, expected, atol=1e-6, rtol=1e-5)
        assert Linear()(X + change).argmax() == 0 and not change.requires_grad


@pytest.mark.parametrize("label", [1, 0])
def test_deep_defense_by_hand(label):
    recipe = RECIPES["deep-defense"](weight=15.0, right_rate=25.0, wrong_rate=5.0)
    cross_entropy = math.log(1 + math.exp(-LEAD if label else LEAD))
    term = math.exp(-25 * RATIO) if label else math.exp(5 * RATIO)
    found = float(recipe.loss(Linear(), X, torch.tensor([label]), seeded(0)).detach())
    assert found == pytest.approx(cross_entropy + 15 * term, rel=1e-4)


def test_a_wrong_image_far_away_pulls_no_harder_than_the_largest_exponent():
    recipe = RECIPES["deep-defense"](weight=1.0, wrong_rate=1000.0)
    found = float(recipe.loss(Linear(), X, torch.tensor([0]), seeded(0)).detach())
    assert found == pytest.approx(math.log(1 + math.exp(LEAD)) + math.exp(LARGEST_EXPONENT), rel=1e-5)


def small_net(seed):
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)
        return MLP((0.0,), (1.0,), (1, 2, 3), 3, hidden=(8,)).double()


def distances(model, x, y):
    ratio = relative_length(to_boundary(model, x, y, through=True), x)
    right = model(x).argmax(1) == y
    return torch.where(right, -25 * ratio, 5 * ratio).exp().sum()


def test_the_gradient_goes_through_all_updates_as_finite_differences_say():
    model = small_net(3)
    x = torch.rand(6, 1, 2, 3, generator=seeded(1), dtype=torch.float64)
    y = model(x).argmax(1)
    y[:2] = (y[:2] + 1) % 3  # two of them wrong
    with torch.no_grad():
        first, whole = (to_boundary(model, x, y, steps=steps) for steps in (1, 5))
    assert not torch.allclose(first, whole)  # more than one update, or there would be little to go through
    parameters = list(model.parameters())
    gradients = torch.autograd.grad(distances(model, x, y), parameters)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        flat = parameter.data.view(-1)
        for index, slope in enumerate(gradient.flatten().tolist()):
            ends = []
            for step in (1e-6, -2e-6):
                flat[index] += step
                ends.append(float(distances(model, x, y).detach()))
            flat[index] += 1e-6
            assert slope == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-4, abs=1e-6)


def test_a_gradient_that_stops_at_the_change_would_be_another():
    model, x = small_net(3), torch.rand(4, 1, 2, 3, generator=seeded(1), dtype=torch.float64)
    change = to_boundary(model, x, model(x).argmax(1), through=True)
    assert change.requires_grad and not to_boundary(model, x, model(x).argmax(1)).requires_grad
    (slope,) = torch.autograd.grad(relative_length(change, x).sum(), [model.head.weight])
    assert float(slope.abs().max()) > 0


def test_wrong_images_are_moved_to_their_class_and_right_ones_away_from_it():
    model = small_net(3)
    x = torch.rand(20, 1, 2, 3, generator=seeded(2), dtype=torch.float64)
    said = model(x).argmax(1)
    away = model(x + to_boundary(model, x, said, steps=50)).argmax(1)
    other = (said + 1) % 3
    toward = model(x + to_boundary(model, x, other, steps=50)).argmax(1)
    assert bool((away != said).all()) and float((toward == other).double().mean()) > 0.7


def test_deepfool_images_are_the_starting_network_s_and_stay_so():
    recipe = RECIPES["fashion-deepfool"](start="")
    x, y = torch.rand(6, 1, 28, 28, generator=seeded(0)), torch.zeros(6, dtype=torch.int64)
    model = build(recipe, CPU)
    y = model(x).argmax(1)
    shown = recipe.training_inputs(model, x, y, seeded(0))
    assert bool((model(shown).argmax(1) != y).all()) and float((shown - x).abs().max()) > 0
    with torch.no_grad():
        model.head.weight.mul_(-1)
    torch.testing.assert_close(recipe.training_inputs(model, x, y, seeded(0)), shown)


def test_the_pictures_are_neither_flipped_nor_shifted():
    pixels = torch.randint(0, 256, (1300, 1, 4, 4), generator=seeded(0), dtype=torch.uint8)
    images = split(pixels, torch.zeros(1300, dtype=torch.int64), None, CPU, augment=RECIPES["fashion-mlp"].augment)
    rows = torch.arange(300)
    assert torch.equal(images.trained.batch(rows, seeded(0)), images.trained.pixels[rows].float() / 255)


def test_hidden_layers_as_text():
    assert RECIPES["fashion-mlp"](hidden="500-150").architecture() == ("mlp", {"hidden": [500, 150]})
    for wrong in ("", "100-", "-5", "ten", "0"):
        with pytest.raises(InvalidValue, match="hidden"):
            RECIPES["fashion-mlp"](hidden=wrong).architecture()
    with pytest.raises(InvalidValue, match="hidden"):
        MLP((0.0,), (1.0,), (1, 2, 2), 3, hidden=())
    assert MLP((0.0,), (1.0,), (1, 2, 2), 3, hidden=(7, 5)).features(X).shape == (1, 5)
