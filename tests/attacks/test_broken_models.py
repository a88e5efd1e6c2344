"""Models broken on purpose: their gradients hide the way, and what needs no gradient, or averages, or comes from outside finds it.

All share the weights of one trained network, which plain PGD fools; so none of them is any more robust than that.
"""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from explorer.attacks import ATTACKS
from explorer.core import Ball, Classifier, Goal, current_rng, run, seeded, use_generator
from explorer.evaluation.verdict import verify

BALL = Ball("linf", 0.06)
FAILS, SUCCEEDS = 0.4, 0.7  # shares of 48 images; what was seen lies at 0.02 to 0.21, and at 0.83 to 0.92
LEVELS = 16
AVERAGE = 32


class Broken(Classifier):
    """The network `inner`, seen through something that harms its gradients."""

    def __init__(self, inner):
        super().__init__([0.5], [0.25], inner.input_shape, inner.num_classes)
        self.inner, self.head = inner, nn.Identity()
        self.freeze()

    def features(self, pixels):
        return self.inner(pixels)


class RoundedInput(Broken):
    """Pixels are rounded before they are looked at: a slope of zero everywhere."""

    def features(self, pixels):
        return self.inner((pixels * LEVELS).round() / LEVELS)


class RoundedAnswer(Broken):
    """Logits come in steps of 1/64."""

    def features(self, pixels):
        return (self.inner(pixels) * 64).round() / 64


class Saturated(Broken):
    """Logits scaled until they go through a softmax that is 0 or 1 in float32: its derivative is exactly zero."""

    def features(self, pixels):
        return torch.softmax(1e4 * self.inner(pixels), 1)


class Scaled(Broken):
    """Logits scaled until the cross-entropy's derivative, 1 - p(true), is exactly zero in float32."""

    def features(self, pixels):
        return 1e4 * self.inner(pixels)


class RandomResize(Broken):
    """Each picture is shrunk to 2, 3 or 4 pixels a side, by picking pixels at random places, and enlarged again."""

    stochastic = True

    def features(self, pixels):
        rng, n, side = current_rng(pixels.device), len(pixels), pixels.shape[-1]
        size = torch.randint(2, 5, (n, 1), generator=rng).float()
        cell = (torch.arange(side) * size / side).floor()  # which small pixel each one belongs to
        rows, columns = (
            ((cell + torch.rand(n, 1, generator=rng)) * side / size).floor().clamp(max=side - 1).long()
            for _ in range(2)
        )
        picked = pixels[torch.arange(n)[:, None, None], :, rows[:, :, None], columns[:, None, :]]
        return self.inner(picked.movedim(-1, 1))


@pytest.fixture(scope="module")
def share_fooled(trained):
    """`share_fooled(model, attack)`: of all images, on fresh draws; `made_on`: another model that the attack sees."""
    _, x, y = trained
    goal = Goal.untargeted(y)

    def measured(model, attack, made_on=None):
        outcome = run(attack.walk(made_on or model, x, goal, BALL, seeded(0)), goal)
        return float(
            verify(model, outcome.x, x, goal, BALL, seeded(99)).reached.float().mean()
        ), outcome.degenerate_share

    return measured


def test_the_network_behind_them_all_falls_to_plain_pgd(trained, share_fooled):
    assert share_fooled(trained[0], ATTACKS["pgd"]())[0] > SUCCEEDS


@pytest.mark.parametrize("kind", [RoundedInput, RoundedAnswer, Saturated])
def test_without_a_slope_pgd_fails_and_says_that_it_was_blind(kind, trained, share_fooled):
    model, x, y = kind(trained[0]), *trained[1:]
    assert bool((model(x).argmax(1) == y).all())  # as good as the network itself
    share, degenerate = share_fooled(model, ATTACKS["pgd"]())
    assert share < FAILS and degenerate > 0.99


@pytest.mark.parametrize("kind", [RoundedInput, RoundedAnswer, Saturated])
def test_without_a_slope_a_transfer_succeeds(kind, trained, share_fooled):
    assert share_fooled(kind(trained[0]), ATTACKS["pgd"](), made_on=trained[0])[0] > SUCCEEDS


@pytest.mark.parametrize("kind", [RoundedInput, RoundedAnswer])
def test_without_a_slope_square_succeeds(kind, trained, share_fooled):
    assert share_fooled(kind(trained[0]), ATTACKS["square"](**ATTACKS["square"].presets["weak"]))[0] > SUCCEEDS


def test_scaled_logits_blind_autograds_cross_entropy_but_not_the_projects(trained, share_fooled):
    model, x, y = Scaled(trained[0]), *trained[1:]
    region, at = BALL.around(x), x.clone()
    for _ in range(20):  # PGD as it is usually written
        at.requires_grad_(True)
        (gradient,) = torch.autograd.grad(F.cross_entropy(model(at), y, reduction="sum"), at)
        at = region.project(at.detach() + BALL.eps / 8 * gradient.sign())
    usual = float(verify(model, at, x, Goal.untargeted(y), BALL, seeded(0)).reached.float().mean())
    share, degenerate = share_fooled(model, ATTACKS["pgd"]())
    assert usual < FAILS and share > SUCCEEDS and degenerate == 0


@pytest.mark.parametrize("steps", [3, 10])
def test_behind_a_random_resize_averaging_succeeds_where_single_draws_fail(steps, trained, share_fooled):
    model = RandomResize(trained[0])
    single, average = (
        ATTACKS["pgd"](steps=steps, rel_step=2.5 / steps if steps > 3 else 0.5, random_start=False, draws=draws)
        for draws in (1, AVERAGE)
    )
    assert share_fooled(model, single)[0] < FAILS
    assert share_fooled(model, average)[0] > SUCCEEDS


def test_behind_a_random_resize_a_transfer_succeeds(trained, share_fooled):
    model, x, y = RandomResize(trained[0]), *trained[1:]
    with use_generator(seeded(1)):
        assert float((model(x).argmax(1) == y).float().mean()) > SUCCEEDS
    assert share_fooled(model, ATTACKS["pgd"](), made_on=trained[0])[0] > SUCCEEDS
