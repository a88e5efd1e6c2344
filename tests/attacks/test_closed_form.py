"""FGSM and PGD against what can be computed by hand: on linear networks, logits W x + b."""

import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import brentq
from torch import nn

from explorer.attacks import ATTACKS
from explorer.attacks.gradient import value_and_grad
from explorer.core import LOSSES, Ball, Goal, InvalidValue, run, seeded, use_generator
from tests.attacks.optimum import SHAPE, images, weights

FGSM, PGD = ATTACKS["fgsm"], ATTACKS["pgd"]
ATTACKERS = [FGSM(), FGSM(loss="margin"), PGD(steps=60), PGD(random_start=False), PGD(steps=60, loss="margin")]
NEAR = 1e-3  # L2 steps turn a random start into the best direction little by little


def dual(ball, direction):
    """max of <direction, delta> over the ball: eps times the 1-norm (Linf) or the 2-norm (L2); rows of (...,D)."""
    return ball.eps * (direction.abs().sum(-1) if ball.norm == "linf" else direction.pow(2).sum(-1).sqrt())


def margin(model, x, goal):
    """(N,) float64, of the model's own weights."""
    logits = x.double().flatten(1) @ model.weight.T + model.head.bias.double()
    return goal.margin(logits)


def both_goals(y, classes=2):
    return [Goal.untargeted(y), Goal.targeted((y + 1) % classes)]


# Two classes: the optimum is known exactly


@pytest.mark.parametrize("attack", ATTACKERS, ids=str)
def test_the_margin_moves_by_the_dual_norm(attack, ball, linear):
    model, x = linear(weights(2)), images(8)
    for goal in both_goals(torch.tensor([0, 1] * 4)):
        outcome = run(attack.walk(model, x, goal, ball, seeded(1)), goal)
        moved = margin(model, outcome.x, goal) - margin(model, x, goal)
        best = dual(ball, model.weight[1] - model.weight[0])
        assert (moved <= best * (1 + 1e-6)).all(), "more than is possible"
        assert torch.allclose(moved, best.expand(8), rtol=NEAR)


@pytest.mark.parametrize(
    "attack", [FGSM(), PGD(random_start=False), PGD(steps=50, rel_step=0.1, random_start=True)], ids=str
)
def test_the_verdict_is_exact(attack, ball, linear):
    """Images whose distance to the boundary is 0.999 and 1.001 times what the ball reaches."""
    weight = weights(2)
    direction = (weight[1] - weight[0]).double()
    model, factors = linear(weight), torch.tensor([0.5, 0.999, 1.001, 1.5] * 2, dtype=torch.float64)
    y = torch.tensor([0] * 4 + [1] * 4)
    side = torch.where(y == 0, -1.0, 1.0).double()
    base = 0.5 - direction * ((0.5 * direction).sum() / direction.pow(2).sum())  # on the boundary
    wanted = side * factors * dual(ball, direction)
    x = (base + wanted[:, None] * direction / direction.pow(2).sum()).float().view(8, *SHAPE)
    assert x.min() > 0.1 and x.max() < 0.9
    for goal in both_goals(y):
        outcome = run(attack.walk(model, x, goal, ball, seeded(0)), goal)
        assert outcome.success.tolist() == [True, True, False, False] * 2


@pytest.mark.parametrize("bias", [-20.0, -1000.0, 1000.0])
@pytest.mark.parametrize("attack", ATTACKERS, ids=str)
def test_a_shift_of_all_logits_changes_nothing(attack, ball, bias, linear):
    x, y = images(4), torch.tensor([0, 1, 0, 1])
    for goal in both_goals(y):
        steps = [
            list(attack.walk(linear(weights(2), torch.full((2,), shift)), x, goal, ball, seeded(2)))
            for shift in (0.0, bias)
        ]
        for plain, shifted in zip(*steps, strict=True):
            assert torch.allclose(plain.x, shifted.x, atol=1e-6)


@pytest.mark.parametrize("attack", ATTACKERS, ids=str)
def test_a_very_confident_network_is_attacked_all_the_same(attack, ball, linear):
    """At scale 1e4 the float32 gradient of cross-entropy is exactly zero, yet the best step is the same."""
    x = images(6)
    model, calm = linear(weights(2), scale=1e4), linear(weights(2))
    y = model(x).argmax(1)
    leaf = x.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(F.cross_entropy(model(leaf), y, reduction="sum"), leaf)
    assert not gradient.any()
    for goal in both_goals(y):
        outcome = run(attack.walk(model, x, goal, ball, seeded(3)), goal)
        moved = margin(calm, outcome.x, goal) - margin(calm, x, goal)
        assert torch.allclose(moved, dual(ball, calm.weight[1] - calm.weight[0]).expand(6), rtol=NEAR)
        assert outcome.degenerate_share == 0


# Several classes


def test_one_margin_step_pulls_the_nearest_class_by_the_dual_norm(ball, linear):
    model, x = linear(weights(7)), images(16)
    logits = model(x)
    for goal in both_goals(logits.argmax(1), 7):
        y = goal.labels
        rival = logits.scatter(1, y[:, None], float("-inf")).argmax(1)
        start, end = FGSM(loss="margin").walk(model, x, goal, ball, seeded(0))
        sign = -1 if goal.is_targeted else 1
        direction = sign * (model.weight[rival] - model.weight[y])
        moved = ((end.x - start.x).double().flatten(1) * direction).sum(1)
        assert torch.equal(start.x, x) and torch.allclose(moved, dual(ball, direction), rtol=NEAR)


@pytest.mark.parametrize("attack", ATTACKERS, ids=str)
def test_success_is_never_claimed_where_it_is_impossible_and_found_where_it_is_easy(attack, ball, linear):
    """Some class k lies within reach if and only if m_k < eps * dual(w_k - w_y)."""
    model, x = linear(0.05 * weights(7)), images(64)
    logits = model(x).double()
    y = logits.argmax(1)
    reach = dual(ball, model.weight[None] - model.weight[y][:, None])  # (N,K)
    gap = logits.gather(1, y[:, None]) - logits
    own = F.one_hot(y, 7).bool()
    possible = ((gap < reach) & ~own).any(1)
    easy = ((gap < 0.5 * reach) & ~own).any(1)
    goal = Goal.untargeted(y)
    found = run(attack.walk(model, x, goal, ball, seeded(4)), goal).success
    assert possible.any() and not possible.all() and easy.any()
    assert not (found & ~possible).any() and found[easy].all()
    if type(attack) is PGD and attack.loss == "margin":  # cross-entropy pulls several classes at once
        assert int(found.sum()) >= 0.9 * int(possible.sum())


@pytest.mark.parametrize("loss", LOSSES)
def test_the_step_follows_the_gradient_of_the_loss(loss, linear):
    """Against autograd on the loss itself, where autograd is fine."""
    model, x = linear(0.1 * weights(5)), images(6)
    for goal in both_goals(torch.arange(6) % 5, 5):
        leaf = x.clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(goal.loss(model(leaf), loss).sum(), leaf)
        start, end = FGSM(loss=loss).walk(model, x, goal, Ball("l2", 0.2), seeded(0))
        step = (end.x - start.x).flatten(1)
        steep = gradient.flatten(1).any(1)  # DLR is flat where the true class comes third
        assert not start.degenerate.any() and int(steep.sum()) >= 4
        assert torch.allclose(F.cosine_similarity(step, gradient.flatten(1))[steep], torch.tensor(1.0), atol=1e-4)
        assert torch.allclose(step.norm(dim=1), torch.full((6,), 0.2), rtol=1e-4)


# The walk itself


def test_fgsm_is_pgd_with_one_full_step_and_no_random_start(ball, linear):
    model, x = linear(weights(5)), images(4)
    goal = Goal.untargeted(torch.arange(4))
    pgd = PGD(steps=1, rel_step=1.0, random_start=False)
    for a, b in zip(
        FGSM().walk(model, x, goal, ball, seeded(0)), pgd.walk(model, x, goal, ball, seeded(0)), strict=True
    ):
        assert torch.equal(a.x, b.x) and torch.equal(a.loss, b.loss)


def test_under_a_constant_gradient_the_distance_grows_evenly(ball, linear):
    """Step size eps/T for T steps ends at x0 + eps * steepest(g)."""
    model, x = linear(weights(2)), images(3)
    goal = Goal.untargeted(torch.zeros(3, dtype=torch.int64))
    steps = list(PGD(steps=8, rel_step=1 / 8, random_start=False).walk(model, x, goal, ball, seeded(0)))
    for step in steps:
        assert step.distance.tolist() == pytest.approx([ball.eps * step.index / 8] * 3, rel=1e-4, abs=1e-9)
    direction = (model.weight[1] - model.weight[0]).float().view(1, *SHAPE)
    assert torch.allclose(steps[-1].x, x + ball.eps * ball.steepest(direction), atol=1e-5)


def test_the_number_of_steps_restarts_and_passes(ball, linear):
    model, x = linear(weights(3)), images(2)
    goal = Goal.untargeted(torch.zeros(2, dtype=torch.int64))
    steps = list(PGD(steps=4, restarts=3, draws=2).walk(model, x, goal, ball, seeded(0)))
    assert [s.index for s in steps] == list(range(15)) and steps[-1].index == steps[-1].total
    assert [s.restart for s in steps] == [0] * 5 + [1] * 5 + [2] * 5
    assert steps[-1].forwards.tolist() == [3 * 5 * 2] * 2 and steps[-1].backwards.tolist() == [3 * 4 * 2] * 2
    assert steps[0].backwards.tolist() == [2, 2] and steps[4].backwards.tolist() == [8, 8]


def test_every_restart_begins_anew_inside_the_ball(ball, linear):
    model, x = linear(weights(3)), images(2)
    goal = Goal.untargeted(torch.zeros(2, dtype=torch.int64))
    steps = list(PGD(steps=1, restarts=3).walk(model, x, goal, ball, seeded(0)))
    starts = [s.x for s in steps[::2]]
    assert not any(torch.equal(a, b) for i, a in enumerate(starts) for b in [x, *starts[:i]])
    plain = list(PGD(steps=1, restarts=2, random_start=False).walk(model, x, goal, ball, seeded(0)))
    assert torch.equal(plain[0].x, x) and not torch.equal(
        plain[2].x, x
    )  # a second try from the image would be the same


def test_a_batch_of_one_walks_as_in_a_batch_of_many(ball, linear):
    model, x = linear(weights(5)), images(6)
    y = torch.arange(6) % 5
    attack = PGD(steps=10, random_start=False)
    together = list(attack.walk(model, x, Goal.untargeted(y), ball, seeded(0)))
    for i in range(6):
        alone = list(attack.walk(model, x[i : i + 1], Goal.untargeted(y[i : i + 1]), ball, seeded(0)))
        for a, b in zip(alone, together, strict=True):
            assert torch.allclose(a.x[0], b.x[i], atol=1e-6) and torch.allclose(a.loss[0], b.loss[i], atol=1e-4)


# Images at the edge of the pixel range


def test_in_linf_the_clipped_optimum_is_reached(linear):
    ball, model = Ball("linf", 0.2), linear(weights(2))
    x = torch.rand(8, *SHAPE, generator=seeded(5)).mul(2).sub(0.5).clamp(0, 1)  # half of the pixels at 0 or 1
    goal = Goal.untargeted(torch.zeros(8, dtype=torch.int64))
    direction = (model.weight[1] - model.weight[0]).view(1, *SHAPE)
    best = (x.double() + 0.2 * direction.sign()).clamp(0, 1)
    for attack in (FGSM(), PGD()):
        outcome = run(attack.walk(model, x, goal, ball, seeded(0)), goal)
        assert torch.allclose(outcome.x.double(), best, atol=1e-6)


def test_in_l2_the_clipped_optimum_is_nearly_reached_and_never_passed(linear):
    """The optimum is clip(lambda * w, -x, 1 - x) with lambda such that its length is eps."""
    ball, model = Ball("l2", 0.8), linear(weights(2))
    x = torch.rand(8, *SHAPE, generator=seeded(5)).mul(2).sub(0.5).clamp(0, 1)
    goal = Goal.untargeted(torch.zeros(8, dtype=torch.int64))
    w = model.weight[1] - model.weight[0]
    outcome = run(PGD(steps=60, random_start=False).walk(model, x, goal, ball, seeded(0)), goal)
    moved = margin(model, outcome.x, goal) - margin(model, x, goal)
    for i, image in enumerate(x.double().flatten(1)):

        def clipped(scale, image=image):
            return (scale * w).clamp(-image, 1 - image)

        scale = brentq(lambda s: float(clipped(s).norm()) - 0.8, 0, 100)
        best = float((clipped(scale) * w).sum())
        assert 0.98 * best <= float(moved[i]) <= best * (1 + 1e-6)


# Gradients that say nothing


def test_one_dead_gradient_does_not_freeze_an_image(ball, linear):
    model, x = linear(weights(2)), images(4)
    model.blind = 1
    goal = Goal.untargeted(torch.zeros(4, dtype=torch.int64))
    steps = list(PGD(random_start=False).walk(model, x, goal, ball, seeded(0)))
    assert steps[0].degenerate.all() and not any(s.degenerate.any() for s in steps[1:])
    moved = margin(model, steps[-1].x, goal) - margin(model, x, goal)
    assert torch.allclose(moved, dual(ball, model.weight[1] - model.weight[0]).expand(4), rtol=NEAR)


def test_gradients_that_stay_dead_are_reported_and_the_image_still_moves(ball, linear):
    model, x = linear(weights(2)), images(4)
    model.blind = 10**9
    goal = Goal.untargeted(torch.zeros(4, dtype=torch.int64))
    outcome = run(PGD(random_start=False).walk(model, x, goal, ball, seeded(0)), goal)
    assert outcome.degenerate_share == 1.0
    steps = list(PGD(random_start=False).walk(model, x, goal, ball, seeded(0)))
    assert (steps[-1].distance > 0.3 * ball.eps).all() and (steps[-1].distance <= ball.eps).all()


def test_only_the_dead_image_takes_a_random_step(ball, linear):
    class HalfBlind(linear):
        def embed(self, normalised):
            features = super().embed(normalised)
            return torch.cat([features[:1].detach() + 0 * features[:1], features[1:]])

    model, x = HalfBlind(weights(2)), images(2)
    goal = Goal.untargeted(torch.zeros(2, dtype=torch.int64))
    start, end = FGSM().walk(model, x, goal, ball, seeded(0))
    assert start.degenerate.tolist() == [True, False]
    direction = (model.weight[1] - model.weight[0]).float().view(1, *SHAPE)
    assert torch.allclose(end.x[1], (x[1] + ball.eps * ball.steepest(direction))[0], atol=1e-5)
    assert not torch.equal(end.x[0], x[0])


def test_a_gradient_that_is_not_a_number_does_not_freeze_or_poison(ball, linear):
    class Poisoned(linear):
        def embed(self, normalised):
            features = super().embed(normalised)
            return features + 0 * (0 * features).sqrt() if self.passes == 1 else features  # slope 0 * infinity

    model, x = Poisoned(weights(2)), images(3)
    goal = Goal.untargeted(torch.zeros(3, dtype=torch.int64))
    steps = list(PGD(random_start=False).walk(model, x, goal, ball, seeded(0)))
    assert steps[0].degenerate.all() and not steps[1].degenerate.any()
    assert all(torch.isfinite(s.x).all() for s in steps)
    moved = margin(model, steps[-1].x, goal) - margin(model, x, goal)
    assert torch.allclose(moved, dual(ball, model.weight[1] - model.weight[0]).expand(3), rtol=NEAR)


# Stochastic networks: the average over draws


def test_the_averaged_gradient_nears_its_mean_as_one_over_the_root_of_draws(masked):
    """Weights kept with probability p: the mean gradient is p*w, one draw's variance p*(1-p)*w^2."""
    model, x, p = masked(weights(2), p=0.6), images(20), 0.6
    goal = Goal.untargeted(torch.zeros(20, dtype=torch.int64))
    w = (model.weight[1] - model.weight[0]).float()
    errors = {}
    for draws in (16, 256):
        gradient = value_and_grad(model, x, goal, "margin", draws, seeded(0)).gradient.flatten(1) / draws
        errors[draws] = float(((gradient - p * w) / w).pow(2).mean().sqrt())
        assert errors[draws] == pytest.approx((p * (1 - p) / draws) ** 0.5, rel=0.15)
    assert errors[16] / errors[256] == pytest.approx(4, rel=0.2)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_averaged_gradient_is_that_of_the_mean_loss_over_the_draws(loss, masked):
    """Not of the loss of the mean logits, which is another objective."""
    model, x = masked(0.3 * weights(4), p=0.7), images(5)
    for goal in both_goals(torch.arange(5) % 4, 4):
        view = value_and_grad(model, x, goal, loss, 12, seeded(6))
        leaf = x.clone().requires_grad_(True)
        with use_generator(seeded(6)):
            logits = model(leaf.repeat_interleave(12, dim=0))
        losses = goal.repeated(12).loss(logits, loss).view(5, 12)
        (gradient,) = torch.autograd.grad(losses.mean(1).sum(), leaf)
        alike = F.cosine_similarity(view.gradient.flatten(1), gradient.flatten(1))
        assert torch.allclose(alike, torch.ones(5), atol=1e-5)
        assert torch.allclose(view.loss, losses.mean(1), atol=1e-5)
        assert torch.allclose(view.logits, logits.view(5, 12, 4).mean(1), atol=1e-5)


def test_confident_draws_are_weighted_without_underflow(masked):
    model, x = masked(weights(3), p=0.7, scale=1e4), images(3)
    view = value_and_grad(model, x, Goal.untargeted(model(x).argmax(1)), "ce", 8, seeded(0))
    assert torch.isfinite(view.gradient).all() and (view.gradient.flatten(1).abs().amax(1) > 0).all()


def test_more_draws_climb_higher_on_a_noisy_network(masked, linear):
    model, x = masked(weights(2), p=0.5), images(16)
    goal = Goal.untargeted(torch.zeros(16, dtype=torch.int64))
    calm = linear(weights(2))
    ball = Ball("linf", 0.03)
    moved = []
    for draws in (1, 64):
        *_, end = FGSM(draws=draws).walk(model, x, goal, ball, seeded(0))
        moved.append(float((margin(calm, end.x, goal) - margin(calm, x, goal)).mean()))
    best = float(dual(ball, calm.weight[1] - calm.weight[0]))
    assert moved[0] < 0.75 * best < 0.99 * best < moved[1]


@pytest.mark.parametrize("draws", [0, 513])
def test_draws_have_limits(draws):
    with pytest.raises(InvalidValue, match=r"draws must be a whole number in \[1, 512\]"):
        PGD(draws=draws)


def test_a_network_without_slope_anywhere_is_no_error():
    class Constant(nn.Module):
        stochastic = False

        def forward(self, pixels):
            return 0 * pixels.flatten(1)[:, :3] + torch.tensor([1.0, 0.0, 0.0])

    goal = Goal.untargeted(torch.zeros(2, dtype=torch.int64))
    outcome = run(PGD().walk(Constant(), images(2), goal, Ball("l2", 0.2), seeded(0)), goal)
    assert not outcome.success.any() and outcome.degenerate_share == 1
