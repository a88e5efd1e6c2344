"""MI-FGSM and FGSM with a random start against what can be computed by hand: on linear networks, logits W x + b."""

from functools import partial

import pytest
import torch

from explorer.attacks import ATTACKS
from explorer.attacks.gradient import degenerate
from explorer.attacks.mifgsm import normalized
from explorer.core import Ball, Goal, run, seeded
from tests.attacks.optimum import images

MIFGSM, RFGSM, PGD = ATTACKS["mifgsm"], ATTACKS["rfgsm"], ATTACKS["pgd"]
SHAPE = (3, 4, 4)
interior = partial(images, seed=12)


@pytest.fixture
def model(linear):
    return linear(torch.randn(2, 48, generator=seeded(11)))


def zeros(n):
    return Goal.untargeted(torch.zeros(n, dtype=torch.int64))


def best_direction(model, ball):
    return ball.steepest((model.weight[1] - model.weight[0]).float().view(1, *SHAPE))


def spread(n, seed=0):
    return torch.randn(n, *SHAPE, generator=seeded(seed))


# MI-FGSM


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("steps", [1, 10, 30])
def test_under_a_constant_gradient_every_momentum_ends_at_the_best_point(momentum, steps, ball, model):
    """The step is eps / steps by default, so the end is x + eps * steepest(g), and no step is wasted on the way."""
    x = interior(4)
    walk = list(MIFGSM(steps=steps, momentum=momentum).walk(model, x, zeros(4), ball, seeded(0)))
    assert torch.allclose(walk[-1].x, x + ball.eps * best_direction(model, ball), atol=1e-6)
    for step in walk:
        assert step.distance.tolist() == pytest.approx([ball.eps * step.index / steps] * 4, rel=1e-4, abs=1e-9)


def test_targeted_it_goes_the_other_way(ball, model):
    x, goal = interior(4), Goal.targeted(torch.zeros(4, dtype=torch.int64))
    *_, end = MIFGSM().walk(model, x, goal, ball, seeded(0))
    assert torch.allclose(end.x, x - ball.eps * best_direction(model, ball), atol=1e-6)


def test_a_given_step_size_is_relative_to_eps(ball, model):
    _, second, *_ = MIFGSM(rel_step=0.3).walk(model, interior(2), zeros(2), ball, seeded(0))
    assert second.distance.tolist() == pytest.approx([0.3 * ball.eps] * 2, rel=1e-4)


def test_without_momentum_it_is_pgd(ball, trained):
    net, x, y = trained
    goal = Goal.untargeted(y[:8])
    plain = PGD(steps=6, rel_step=0.2, random_start=False).walk(net, x[:8], goal, ball, seeded(0))
    for a, b in zip(
        plain, MIFGSM(steps=6, rel_step=0.2, momentum=0).walk(net, x[:8], goal, ball, seeded(0)), strict=True
    ):
        assert torch.allclose(a.x, b.x, atol=1e-6)


def test_the_memory_is_the_papers_sum_up_to_a_factor():
    gradients, state, kept = [spread(3, seed=s) * 10.0 ** (s - 2) for s in range(5)], {}, torch.zeros(3, *SHAPE)
    for gradient in gradients:
        direction = MIFGSM(momentum=0.8).direction(gradient, state)
        kept = 0.8 * kept + gradient / gradient.abs().sum((1, 2, 3), keepdim=True)
        assert torch.allclose(direction, kept * 48, rtol=1e-4, atol=1e-5) and not degenerate(direction).any()


@pytest.mark.parametrize("size", [1e-42, 1e-30, 1e-3, 1e30, 3e38])
def test_the_memory_neither_under_nor_overflows(size):
    gradient = spread(2).clamp(-1, 1) * size
    direction = normalized(gradient)
    assert torch.isfinite(direction).all() and not degenerate(direction).any()
    assert float(direction.abs().mean()) == pytest.approx(1, rel=1e-3)


def test_images_do_not_share_their_momentum(ball, trained):
    net, x, y = trained
    together = list(MIFGSM().walk(net, x[:4], Goal.untargeted(y[:4]), ball, seeded(0)))
    for i in range(4):
        alone = list(MIFGSM().walk(net, x[i : i + 1], Goal.untargeted(y[i : i + 1]), ball, seeded(0)))
        assert torch.allclose(alone[-1].x[0], together[-1].x[i], atol=1e-5)


def test_each_restart_begins_without_memory(ball, model):
    """The gradient is 5 steps long +g, then -g from the restart on: with the old momentum it would still go along +g."""
    x = interior(2)

    class Turning(type(model)):
        def embed(self, normalised):
            features = super().embed(normalised)
            return features if self.passes <= 6 else 2 * features.detach() - features

    turning = Turning(torch.randn(2, 48, generator=seeded(11)))
    steps = list(MIFGSM(steps=5, restarts=2).walk(turning, x, zeros(2), ball, seeded(0)))
    gains = [
        (b.x - a.x).mul(best_direction(model, ball)).sum((1, 2, 3)) for a, b in zip(steps, steps[1:], strict=False)
    ]
    assert all((g > 0).all() for g in gains[:5]) and (gains[6] < 0).all()


# Gradients that say nothing


@pytest.mark.parametrize("momentum", [0.0, 1.0])
def test_a_dead_gradient_at_the_first_step_does_not_freeze_the_image(momentum, ball, model):
    """0/0 in the plain formula would make the momentum NaN for good and move no pixel ever after."""
    model.blind, x = 1, interior(4)
    steps = list(MIFGSM(momentum=momentum, rel_step=0.2).walk(model, x, zeros(4), ball, seeded(0)))
    assert steps[0].degenerate.all() and not any(s.degenerate.any() for s in steps[1:])
    assert all((a.x != b.x).flatten(1).any(1).all() for a, b in zip(steps[:5], steps[1:5], strict=False))
    gained = (steps[-1].x - steps[1].x).mul(best_direction(model, ball)).sum((1, 2, 3))
    whole = float(best_direction(model, ball).abs().sum() if ball.norm == "linf" else 1) * ball.eps
    assert (gained > 0.8 * whole).all()


def test_a_dead_gradient_later_on_keeps_the_momentum(ball, linear):
    """Steps 3 and 4 are blind or poisoned: the walk goes straight on."""

    class Blinking(linear):
        def embed(self, normalised):
            features = super().embed(normalised)
            if self.passes == 3:
                return features.detach() + 0 * features
            return features + 0 * (0 * features).sqrt() if self.passes == 4 else features  # slope 0 * infinity

    net, x = Blinking(torch.randn(2, 48, generator=seeded(11))), interior(3)
    steps = list(MIFGSM().walk(net, x, zeros(3), ball, seeded(0)))
    assert [bool(s.degenerate.all()) for s in steps] == [i in (2, 3) for i in range(11)]
    assert torch.allclose(steps[-1].x, x + ball.eps * best_direction(net, ball), atol=1e-6)


def test_only_the_dead_image_is_moved_at_random(ball, linear):
    class HalfBlind(linear):
        def embed(self, normalised):
            features = super().embed(normalised)
            return torch.cat([features[:1].detach() + 0 * features[:1], features[1:]])

    net, x = HalfBlind(torch.randn(2, 48, generator=seeded(11))), interior(2)
    goal = zeros(2)
    *_, end = MIFGSM().walk(net, x, goal, ball, seeded(0))
    assert torch.allclose(end.x[1], (x + ball.eps * best_direction(net, ball))[1], atol=1e-6)
    assert float(end.distance[0]) > 0.2 * ball.eps
    assert run(MIFGSM().walk(net, x, goal, ball, seeded(0)), goal).degenerate_share == 0.5


# FGSM with a random start


@pytest.mark.parametrize("rel_start", [0.0, 0.3, 0.5, 0.95])
def test_the_random_step_and_the_gradient_step_share_the_budget(rel_start, ball, model):
    x = interior(6)
    start, end = RFGSM(rel_start=rel_start).walk(model, x, zeros(6), ball, seeded(0))
    assert start.distance.tolist() == pytest.approx([rel_start * ball.eps] * 6, rel=1e-4, abs=1e-9)
    expected = start.x + (1 - rel_start) * ball.eps * best_direction(model, ball)
    assert torch.allclose(end.x, expected, atol=1e-6)
    if ball.norm == "linf":
        moved = (start.x - x).abs()
        assert torch.allclose(moved, torch.full_like(moved, rel_start * ball.eps), atol=1e-7), "a corner"


def test_half_the_budget_spent_blindly_costs_a_linear_network_that_part_of_the_drop(linear):
    """In Linf the end's margin moved by (eps - alpha) * |w|_1 + alpha * <sign(noise), w>: never more than FGSM's."""
    ball, model, x = Ball("linf", 0.03), linear(torch.randn(2, 48, generator=seeded(11))), interior(64)
    w = (model.weight[1] - model.weight[0]).float()
    goal = zeros(64)
    start, end = RFGSM().walk(model, x, goal, ball, seeded(0))
    luck = (start.x - x).flatten(1) @ w
    moved = (goal.margin(end.logits) - goal.margin(model(x))).float()
    assert torch.allclose(moved, 0.015 * w.abs().sum() + luck, atol=1e-4)
    assert (moved < 0.03 * w.abs().sum()).all() and float(luck.abs().mean()) < 0.2 * float(0.015 * w.abs().sum())


def test_with_no_random_step_it_is_fgsm(ball, trained):
    net, x, y = trained
    goal = Goal.untargeted(y[:8])
    *_, end = RFGSM(rel_start=0).walk(net, x[:8], goal, ball, seeded(0))
    *_, fgsm = ATTACKS["fgsm"]().walk(net, x[:8], goal, ball, seeded(0))
    assert torch.allclose(end.x, fgsm.x, atol=1e-6)


def test_every_restart_starts_elsewhere_and_the_first_is_random_too(ball, model):
    x = interior(2)
    steps = list(RFGSM(restarts=3).walk(model, x, zeros(2), ball, seeded(0)))
    starts = [s.x for s in steps[::2]]
    assert len(steps) == 6 and not any(torch.equal(a, b) for i, a in enumerate(starts) for b in [x, *starts[:i]])
