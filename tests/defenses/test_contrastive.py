"""The contrastive recipes: their loss worked out by hand, and what a margin does."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from explorer.core import Classifier, seeded
from explorer.defenses import RECIPES
from explorer.defenses.contrastive import contrastive_loss, distances_between


class Seen(Classifier):
    """Two pixels are the two features; the classifier on top has two classes."""

    def __init__(self):
        super().__init__((0.0,), (1.0,), (1, 1, 2), 2)
        self.head = nn.Linear(2, 2)
        with torch.no_grad():
            self.head.weight.copy_(torch.tensor([[2.0, 0.0], [0.0, 2.0]]))
            self.head.bias.zero_()

    def embed(self, normalised):
        return normalised.flatten(1)


# Distances: 0-1 0.5 (one class), 0-2 0.4, 1-2 0.3 (different classes).
POINTS = torch.tensor([[0.1, 0.1], [0.4, 0.5], [0.1, 0.5]])
X, Y = POINTS.view(3, 1, 1, 2), torch.tensor([0, 0, 1])


def test_pairs_of_a_class_pay_their_squared_distance_others_what_they_lack_to_the_margin():
    found = contrastive_loss(torch.tensor([3.0, 3.0, 1.0]), torch.tensor([True, False, False]), margin=4.0)
    assert float(found) == pytest.approx((9 + 1 + 9) / 3)


def test_beyond_the_margin_there_is_no_loss_and_no_pull_and_inside_it_there_is():
    apart = torch.tensor([0.5, 1.5, 0.5, 1.5], requires_grad=True)
    same = torch.tensor([False, False, True, True])
    (pull,) = torch.autograd.grad(contrastive_loss(apart, same, margin=1.0), apart)
    assert pull.tolist() == pytest.approx([-2 * 0.5 / 4, 0.0, 2 * 0.5 / 4, 2 * 1.5 / 4])
    assert float(contrastive_loss(apart[1:2], same[1:2], margin=1.0).detach()) == 0


def test_features_that_coincide_have_a_finite_gradient():
    features = torch.ones(2, 3, requires_grad=True)
    contrastive_loss(distances_between(features, features), torch.eye(2).bool(), margin=1.0).backward()
    assert torch.equal(features.grad, torch.zeros(2, 3))


def test_the_loss_of_clean_pairs_worked_out_by_hand():
    recipe = RECIPES["contrastive"](weight=0.5, margin=0.6, label_smoothing=0.0)
    model = Seen()
    pairs = (0.5**2 + (0.6 - 0.4) ** 2 + (0.6 - 0.3) ** 2) / 3
    expected = float(F.cross_entropy(model(X), Y).detach()) + 0.5 * pairs
    assert float(recipe.loss(model, X, Y, seeded(0)).detach()) == pytest.approx(expected, rel=1e-5)
    plain = RECIPES["contrastive"](weight=0.0, label_smoothing=0.0).loss(model, X, Y, seeded(0))
    assert float(plain.detach()) == pytest.approx(float(F.cross_entropy(model(X), Y).detach()))


def test_a_batch_of_one_image_has_no_pairs():
    recipe = RECIPES["contrastive"](label_smoothing=0.0)
    expected = F.cross_entropy(Seen()(X[:1]), Y[:1])
    assert float(recipe.loss(Seen(), X[:1], Y[:1], seeded(0)).detach()) == pytest.approx(float(expected.detach()))


def test_the_loss_of_attacked_pairs_worked_out_by_hand():
    recipe = RECIPES["contrastive-adversarial"](weight=0.5, margin=0.6, label_smoothing=0.0)
    moved = POINTS + torch.tensor([0.0, 0.1])

    class Planted(type(recipe)):
        def training_inputs(self, model, x, y, rng, epoch=0):
            return moved.view(3, 1, 1, 2)

    pairs = 0.0
    for i in range(3):
        for j in range(3):
            d = float((moved[i] - POINTS[j]).norm())
            pairs += d**2 if Y[i] == Y[j] else max(0.0, 0.6 - d) ** 2
    model = Seen()
    expected = float(F.cross_entropy(model(moved.view(3, 1, 1, 2)), Y).detach()) + 0.5 * pairs / 9
    planted = Planted(weight=0.5, margin=0.6, label_smoothing=0.0)
    assert float(planted.loss(model, X, Y, seeded(0)).detach()) == pytest.approx(expected, rel=1e-5)


def test_training_on_it_draws_a_class_together_and_pushes_the_others_away():
    recipe = RECIPES["contrastive"](weight=5.0, margin=1.0)
    spread = nn.Parameter(X.flatten(1).clone())

    class Free(Seen):
        """Its features are free parameters, whatever the pixels."""

        def embed(self, normalised):
            return spread

    before = torch.cdist(spread, spread).detach()
    optimizer = torch.optim.SGD([spread], lr=0.05)
    for _ in range(40):
        optimizer.zero_grad()
        recipe.loss(Free(), X, Y, seeded(0)).backward()
        optimizer.step()
    after = torch.cdist(spread, spread).detach()
    assert after[0, 1] < before[0, 1] / 2 and min(after[0, 2], after[1, 2]) > max(before[0, 2], before[1, 2])
