"""NES, SimBA, HopSkipJump, RayS and Boundary ask for scores or labels only: hidden gradients stop none of them."""

import pytest
import torch

from explorer.attacks import ATTACKS
from explorer.attacks.boundary_attack import sideways
from explorer.core import Ball, Classifier, Goal, run, seeded
from tests.attacks.optimum import images, optimum, smallest, weights


class LabelsOnly(Classifier):
    """Another network's label, one-hot: nothing else can be learned from it."""

    def __init__(self, inner):
        super().__init__([0.5] * 3, [0.25] * 3, inner.input_shape, inner.num_classes)
        self.inner = inner

    def forward(self, x):
        logits = self.inner(x)
        return torch.nn.functional.one_hot(logits.argmax(1), logits.shape[1]).to(logits)

    def embed(self, normalised):
        raise AssertionError("nobody asks for features")


class Hidden(LabelsOnly):
    """The same scores, without any slope."""

    def forward(self, x):
        return self.inner(x).detach() + 0 * x.flatten(1).sum(1, keepdim=True)


SEEING_LABELS = [("hopskipjump", "l2"), ("hopskipjump", "linf"), ("boundary", "l2"), ("rays", "linf")]


@pytest.mark.parametrize(("key", "norm"), SEEING_LABELS)
def test_the_label_alone_is_seen(linear, key, norm):
    model, x = linear(weights(3), bias=torch.tensor([0.0, 0.1, 0.2])), images(4)
    small = {"steps": 3, "samples": 10} if key == "hopskipjump" else {"steps": 30}
    goal, attack = Goal.untargeted(model(x).argmax(1)), ATTACKS[key](**small)
    ball = Ball(norm, 1.0 if norm == "linf" else 100.0)
    for ours, theirs in zip(
        attack.walk(model, x, goal, ball, seeded(0)),
        attack.walk(LabelsOnly(model), x, goal, ball, seeded(0)),
        strict=True,
    ):
        assert torch.equal(ours.x, theirs.x) and torch.equal(ours.forwards, theirs.forwards)
        assert not ours.backwards.any()


@pytest.mark.parametrize(("norm", "most"), [("l2", 1.1), ("linf", 1.5)])
def test_hopskipjump_comes_near_the_boundary(linear, norm, most):
    model, x = linear(weights(2, 3)), images(6, 1)
    y = model(x).argmax(1)
    found = smallest(ATTACKS["hopskipjump"](starts=500), model, x, Goal.untargeted(y), norm)
    assert found.success.all() and float((found.distance / optimum(model, x, y, norm)).mean()) < most


def test_rays_finds_the_signs_of_a_linear_model(linear):
    """Once every single value has been turned, no sign is wrong: the distance is the least there is, to the bisection's end."""
    model, x = linear(weights(2, 3)), images(4, 1)
    y = model(x).argmax(1)
    found = smallest(ATTACKS["rays"](steps=400), model, x, Goal.untargeted(y), "linf")
    ratio = found.distance / optimum(model, x, y, "linf")
    assert found.success.all() and float(ratio.max()) < 1.02 and not found.backwards.any()
    assert (found.forwards < 2000).all()


def test_the_boundary_attack_comes_near_the_boundary(linear):
    model, x = linear(weights(2, 3)), images(4, 1)
    y = model(x).argmax(1)
    found = smallest(ATTACKS["boundary"](steps=800, starts=500), model, x, Goal.untargeted(y))
    assert found.success.all() and float((found.distance / optimum(model, x, y)).mean()) < 1.3


def test_a_step_sideways_keeps_the_distance():
    x0, x, delta = torch.full((3, 3, 4, 4), 0.5), images(3, 1), torch.tensor([0.01, 0.1, 0.5]).view(3, 1, 1, 1)
    there = sideways(x, x0, delta, seeded(0))
    far, moved = (x - x0).flatten(1).norm(dim=1), (there - x).flatten(1).norm(dim=1)
    assert torch.allclose((there - x0).flatten(1).norm(dim=1), far, rtol=1e-4)
    assert torch.allclose(moved[:2], (delta.flatten() * far)[:2], rtol=0.02)


@pytest.mark.parametrize("key", ["hopskipjump", "boundary"])
def test_every_point_shown_is_a_success_and_none_moves_away(linear, key):
    model, x = linear(weights(3)), images(5)
    goal = Goal.untargeted(model(x).argmax(1))
    first, *steps = ATTACKS[key](steps=5).walk(model, x, goal, Ball("l2", 100.0), seeded(0))
    assert torch.equal(first.x, x) and all(step.reached.all() for step in steps)
    assert (steps[-1].distance <= steps[0].distance).all()
    assert steps[-1].index == steps[-1].total == len(steps)


def test_hopskipjump_leaves_alone_what_is_wrong_already(linear):
    model, x = linear(weights(3)), images(3)
    goal = Goal.untargeted((model(x).argmax(1) + 1) % 3)
    *_, last = ATTACKS["hopskipjump"](steps=3).walk(model, x, goal, Ball("l2", 100.0), seeded(0))
    assert torch.equal(last.x, x) and last.total == last.index and (last.forwards <= 2).all()


@pytest.mark.parametrize("key", ["nes", "simba"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_scores_suffice(linear, key, norm):
    """With twice the change that is needed, on a network whose gradients are zero."""
    model, x = linear(weights(2, 3)), images(6, 1)
    y = model(x).argmax(1)
    ball, goal = Ball(norm, 2 * optimum(model, x, y, norm)), Goal.untargeted(y)
    found = run(ATTACKS[key]().walk(Hidden(model), x, goal, ball, seeded(0)), goal)
    assert found.success.all() and not found.backwards.any() and (found.distance <= ball.eps).all()


def test_nes_estimates_the_slope(linear):
    model, x, ball = linear(weights(2, 3)), images(2, 1), Ball("l2", 0.5)
    goal = Goal.untargeted(model(x).argmax(1))
    attack = ATTACKS["nes"](samples=1000, sigma=0.01, loss="margin")
    at = attack.gradient(model, x, goal, ball.around(x), seeded(0), {})
    slope = (model.weight[1] - model.weight[0]).float() * (1 - 2 * goal.labels)[:, None]
    assert (torch.cosine_similarity(at.gradient.flatten(1), slope) > 0.9).all() and int(at.forwards) == 1001


def test_simba_takes_one_value_at_a_time_and_keeps_what_helps(linear):
    """On a linear network one of the two signs always helps."""
    model, x = linear(weights(2, 3)), images(2, 1)
    goal, attack = Goal.untargeted(model(x).argmax(1)), ATTACKS["simba"](steps=20, size=0.01, early_stop=False)
    steps = list(attack.walk(model, x, goal, Ball("l2", 100.0), seeded(0)))
    losses, changed = torch.stack([step.loss for step in steps]), [(step.x != x).flatten(1).sum(1) for step in steps]
    assert (losses.diff(dim=0) > 0).all() and all((count == k).all() for k, count in enumerate(changed))
    assert (steps[-1].forwards >= 21).all() and (steps[-1].forwards <= 41).all()
