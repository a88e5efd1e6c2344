"""One change for all images: it is one, it stays in its ball, and on linear networks it is the known optimum."""

import pytest
import torch

from explorer.attacks.universal import Universal, applied
from explorer.core import Ball, Goal, run, seeded
from tests.attacks.optimum import SHAPE, images, weights


def margin(model, x, goal):
    return goal.margin(x.double().flatten(1) @ model.weight.T + model.head.bias.double())


def dual(ball, direction):
    return ball.eps * (direction.abs().sum() if ball.norm == "linf" else direction.norm())


def length(ball, delta):
    return float(delta.double().abs().max() if ball.norm == "linf" else delta.double().norm())


@pytest.mark.parametrize("loss", ["ce", "margin"])
def test_with_two_classes_the_shared_change_is_the_optimum_of_every_image(ball, loss, linear):
    model, x = linear(weights(2)), images(6)
    for goal in (Goal.untargeted(torch.zeros(6, dtype=torch.int64)), Goal.targeted(torch.ones(6, dtype=torch.int64))):
        outcome = run(Universal(loss=loss, clamp=1000, steps=80).walk(model, x, goal, ball, seeded(1)), goal)
        moved = margin(model, outcome.x, goal) - margin(model, x, goal)
        best = dual(ball, model.weight[1] - model.weight[0])
        assert (moved <= best * (1 + 1e-6)).all() and torch.allclose(moved, best.expand(6), rtol=1e-3)


def test_every_image_carries_the_same_change_at_every_step_and_in_the_outcome(ball, trained):
    model, x, y = trained
    edges = torch.cat([x[:6], x[:2].round()])
    goal = Goal.untargeted(torch.cat([y[:6], y[:2]]))
    steps = list(Universal(steps=8, restarts=2).walk(model, edges, goal, ball, seeded(0)))
    for step in steps:
        assert step.shared.shape == (1, 1, 8, 8) and length(ball, step.shared) <= ball.eps
        assert torch.equal(step.x, applied(edges, step.shared, ball))
        assert torch.allclose(step.x, (edges + step.shared).clamp(0, 1), atol=1e-5)
    outcome = run(steps, goal)
    assert torch.equal(outcome.x, applied(edges, outcome.shared, ball))
    assert int(outcome.success.sum()) == max(int(step.reached.sum()) for step in steps)


def test_a_change_can_be_applied_to_images_it_was_not_made_from(ball, trained):
    model, x, y = trained
    goal = Goal.untargeted(y[:24])
    delta = run(Universal().walk(model, x[:24], goal, ball, seeded(0)), goal).shared
    others = torch.cat([x[24:], torch.zeros_like(x[:1]), torch.ones_like(x[:1])])
    attacked = applied(others, delta, ball)
    assert attacked.min() >= 0 and attacked.max() <= 1
    assert (ball.distance(attacked, others) <= ball.eps).all()


def test_an_image_far_beyond_the_clamp_leaves_the_change_to_the_others(ball, linear):
    """Two labels that want opposite changes: one image is fooled long since, and only the other counts."""
    weight = weights(2)
    model = linear(weight, bias=torch.tensor([0.0, 30.0]))
    x, y = images(2), torch.tensor([0, 1])
    goal = Goal.untargeted(y)
    assert margin(model, x, goal).tolist()[0] > 20 > 0 > -20 > margin(model, x, goal).tolist()[1]
    moved = {}
    for clamp in (9.0, 1000.0):
        *_, end = Universal(clamp=clamp, random_start=False).walk(model, x, goal, ball, seeded(0))
        moved[clamp] = margin(model, end.x, goal) - margin(model, x, goal)
    best = float(dual(ball, model.weight[1] - model.weight[0]))
    assert float(moved[9.0][1]) == pytest.approx(best, rel=1e-3)
    assert float(moved[1000.0][0]) == pytest.approx(best, rel=1e-3)  # unclamped, the fooled one outweighs


def test_the_images_gradients_are_added_at_their_true_sizes(linear):
    """Against autograd on the summed loss, with slopes of very different sizes and several draws of a calm network."""
    model, x, y = linear(weights(5)), images(6), torch.arange(6) % 5
    goal, ball = Goal.untargeted(y), Ball("l2", 0.2)
    delta = torch.zeros(1, *SHAPE, requires_grad=True)
    (gradient,) = torch.autograd.grad(goal.loss(model(x + delta)).sum(), delta)
    for draws in (1, 3):
        attack = Universal(steps=1, rel_step=1.0, random_start=False, clamp=1000, draws=draws)
        *_, end = attack.walk(model, x, goal, ball, seeded(0))
        assert torch.allclose(end.shared / 0.2, gradient / gradient.norm(), atol=1e-4)


def test_one_flat_or_poisoned_image_does_not_hold_the_others(linear):
    class HalfBlind(linear):
        def embed(self, normalised):
            features = super().embed(normalised)
            return torch.cat([features[:1].detach() + 0 * (0 * features[:1]).sqrt(), features[1:]])

    model, x = HalfBlind(weights(2)), images(3)
    goal = Goal.untargeted(torch.zeros(3, dtype=torch.int64))
    steps = list(Universal(random_start=False).walk(model, x, goal, Ball("linf", 0.03), seeded(0)))
    assert steps[0].degenerate.tolist() == [True, False, False] and torch.isfinite(steps[-1].x).all()
    moved = margin(model, steps[-1].x, goal) - margin(model, x, goal)
    assert torch.allclose(moved, dual(Ball("linf", 0.03), model.weight[1] - model.weight[0]).expand(3), rtol=1e-3)


def test_where_all_are_flat_the_change_is_random_and_that_is_reported(linear):
    model, x = linear(weights(2)), images(3)
    model.blind = 10**9
    goal = Goal.untargeted(torch.zeros(3, dtype=torch.int64))
    outcome = run(Universal(random_start=False).walk(model, x, goal, Ball("l2", 0.2), seeded(0)), goal)
    assert outcome.degenerate_share == 1.0 and outcome.distance.max() > 0


def test_the_number_of_steps_and_passes(linear):
    model, x, goal = linear(weights(3)), images(2), Goal.untargeted(torch.tensor([0, 1]))
    steps = list(Universal(steps=4, restarts=3, draws=2).walk(model, x, goal, Ball("linf", 0.03), seeded(0)))
    assert [s.index for s in steps] == list(range(15)) and steps[-1].total == 14
    assert steps[-1].forwards.tolist() == [30, 30] and steps[-1].backwards.tolist() == [24, 24]
