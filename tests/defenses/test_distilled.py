"""Defensive distillation: its loss by hand, and the false security that is its property."""

import pytest
import torch
import torch.nn.functional as F

from explorer.attacks import ATTACKS
from explorer.core import Ball, Goal, run, seeded
from explorer.data import load
from explorer.defenses import RECIPES, distilled
from explorer.models import zoo

from .test_ibp import linear


def test_the_loss_by_hand(monkeypatch):
    x, y = torch.tensor([0.3, 0.6]).view(1, 1, 1, 2), torch.tensor([1])
    student, teacher = linear([-1.0, 3.0], 5.0), linear([-10.0, 0.0], 5.0)
    log_odds = (3 * 0.6 - 0.3) / 10  # of class 1, at temperature 10
    right = torch.tensor(log_odds).sigmoid()
    plain = RECIPES["distilled"](temperature=10.0)
    assert float(plain.loss(student, x, y, seeded(0)).detach()) == pytest.approx(-float(right.log()), rel=1e-5)

    monkeypatch.setattr(distilled, "_loaded", lambda name, device: teacher)
    taught = RECIPES["distilled"](temperature=10.0, teacher="fashion_mnist/any")
    label = torch.tensor(
        -0.3
    ).sigmoid()  # the teacher's probability of class 1, whose lead is -10 x 0.3, at temperature 10
    by_hand = -(label * right.log() + (1 - label) * (1 - right).log())
    assert float(taught.loss(student, x, y, seeded(0)).detach()) == pytest.approx(float(by_hand), rel=1e-5)


def test_the_shipped_network_looks_robust_to_a_plain_gradient_and_is_not():
    """The cross-entropy's own gradient is zero for most pictures, so a step along its sign changes nothing."""
    model, images = zoo.load("fashion_mnist/distilled"), load("fashion_mnist", n=100, source="sample")
    x = images.x.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(F.cross_entropy(model(x), images.y, reduction="sum"), x)
    plain = (images.x + 0.1 * gradient.sign()).clamp(0, 1)
    goal = Goal.untargeted(images.y)
    ours = run(ATTACKS["fgsm"]().walk(model, images.x, goal, Ball("linf", 0.1), rng=seeded(0)), goal)
    near = run(ATTACKS["deepfool"]().walk(model, images.x, goal, Ball("l2", 3.0), rng=seeded(0)), goal)
    assert float((model(plain).argmax(1) == images.y).float().mean()) > 0.7
    assert float(ours.success.float().mean()) > 0.9 and float(near.success.float().mean()) > 0.9
