"""DeepFool against linear networks and a sphere, where the distance to the boundary is known."""

import pytest
import torch

from explorer.attacks import ATTACKS
from explorer.core import Ball, Goal, run, seeded
from tests.attacks.optimum import Sphere, weights

DeepFool = ATTACKS["deepfool"]
BALLS = {"l2": Ball("l2", 100.0), "linf": Ball("linf", 1.0)}
SHAPE = (3, 4, 4)


def images(n, seed=0):
    """So far from 0 and 1 that nothing is clipped."""
    return 0.5 + 0.2 * (torch.rand(n, *SHAPE, generator=seeded(seed)) - 0.5)


def logits_of(model, x):
    return x.double().flatten(1) @ model.weight.T + model.head.bias.double()


def nearest(model, x, y, norm):
    """(N,) float64 min over k of m_k / d_k, d_k in the dual norm."""
    z, w = logits_of(model, x), model.weight
    every = []
    for i, label in enumerate(y.tolist()):
        others = [k for k in range(len(w)) if k != label]
        gaps = torch.stack([z[i, label] - z[i, k] for k in others])
        rows = torch.stack([w[k] - w[label] for k in others])
        every.append((gaps / (rows.norm(dim=1) if norm == "l2" else rows.abs().sum(1))).min())
    return torch.stack(every)


def walk(attack, model, x, goal, norm="l2", seed=0):
    return list(attack.walk(model, x, goal, BALLS[norm], seeded(seed)))


def smallest(attack, model, x, goal, norm="l2", seed=0):
    return run(attack.walk(model, x, goal, BALLS[norm], seeded(seed)), goal, minimal=True)


@pytest.mark.parametrize("norm", BALLS)
def test_a_linear_model_takes_one_step_to_the_nearest_boundary(linear, norm):
    model = linear(weights(6), bias=torch.linspace(-0.3, 0.3, 6))
    x = images(20)
    y = model(x).argmax(1)
    steps = walk(DeepFool(), model, x, Goal.untargeted(y), norm)
    assert len(steps) == 2 and bool(steps[1].reached.all())
    optimum = nearest(model, x, y, norm)
    assert torch.allclose(steps[1].distance / optimum, torch.full_like(optimum, 1.02), atol=2e-4)


@pytest.mark.parametrize("norm", BALLS)
def test_the_overshoot_is_what_was_asked(linear, norm):
    model, x = linear(weights(4, seed=1)), images(8, seed=1)
    y = model(x).argmax(1)
    found = smallest(DeepFool(overshoot=0.2), model, x, Goal.untargeted(y), norm)
    optimum = nearest(model, x, y, norm)
    assert torch.allclose(found.distance / optimum, torch.full_like(optimum, 1.2), atol=2e-4)


@pytest.mark.parametrize("shift", [-20.0, 20.0])
def test_only_differences_of_logits_count(linear, shift):
    x = images(8, seed=2)
    plain, moved = linear(weights(5)), linear(weights(5), bias=torch.full((5,), shift))
    goal = Goal.untargeted(plain(x).argmax(1))
    a, b = smallest(DeepFool(), plain, x, goal), smallest(DeepFool(), moved, x, goal)
    assert bool(b.success.all()) and torch.allclose(a.x, b.x, atol=1e-4)


@pytest.mark.parametrize("norm", BALLS)
def test_a_target_is_reached_at_its_own_boundary(linear, norm):
    """With two classes the target's boundary is the only one: the same closed form."""
    model, x = linear(weights(2, seed=3)), images(8, seed=3)
    y = model(x).argmax(1)
    steps = walk(DeepFool(), model, x, Goal.targeted(1 - y), norm)
    assert len(steps) == 2 and bool(steps[1].reached.all())
    optimum = nearest(model, x, y, norm)
    assert torch.allclose(steps[1].distance / optimum, torch.full_like(optimum, 1.02), atol=2e-4)
    many = linear(weights(6, seed=4))
    target = (many(x).argmax(1) + 2) % 6
    found = smallest(DeepFool(), many, x, Goal.targeted(target), norm)
    assert bool(found.success.all()) and torch.equal(many(found.x).argmax(1), target)
    untargeted = smallest(DeepFool(), many, x, Goal.untargeted(many(x).argmax(1)), norm)
    assert bool((found.distance >= 0.999 * untargeted.distance).all())


def test_what_is_wrong_already_needs_no_change_and_no_backward_pass(linear):
    model, x = linear(weights(4)), images(5)
    y = (model(x).argmax(1) + 1) % 4
    (only,) = walk(DeepFool(), model, x, Goal.untargeted(y))
    assert only.total == 0 and bool(only.reached.all()) and not bool(only.distance.any())
    assert only.forwards.tolist() == [1] * 5 and only.backwards.tolist() == [0] * 5


def test_finished_images_leave_and_each_costs_what_it_needs(trained):
    """Whatever its neighbours need; every pass is told."""
    model, x, y = trained
    sizes = []
    handle = model.register_forward_hook(lambda module, inputs, output: sizes.append(len(output)))
    steps = walk(DeepFool(), model, x, Goal.untargeted(y))
    handle.remove()
    last = steps[-1]
    updates = torch.stack([~s.reached for s in steps]).sum(0)  # of each image
    assert sizes[0] == len(x) and sizes[-1] < len(x) / 2 and sum(sizes) == int(last.forwards.sum())
    assert bool((last.forwards >= updates + 1).all()) and bool((last.backwards >= updates).all())
    assert bool((last.backwards <= 3 * (updates + 1)).all())
    assert int((last.forwards + last.backwards).max()) <= DeepFool(steps=int(updates.max()), classes=4).expected_passes
    assert 1 < int(updates.max()) < 20 and bool(last.reached.all())


def test_an_image_far_beyond_the_boundary_is_drawn_back_to_it(trained, monkeypatch):
    model, x, y = trained
    goal = Goal.untargeted(y)
    drawn = smallest(DeepFool(), model, x, goal)
    monkeypatch.setattr("explorer.attacks.deepfool.WORTH", 1.0)  # stay where the update ends
    left = smallest(DeepFool(), model, x, goal)
    moved = (drawn.x != left.x).flatten(1).any(1)
    assert bool(moved.any()) and bool(drawn.success.all()) and bool((goal.margin(model(drawn.x)) > 0).all())
    assert bool((drawn.distance[moved] < 0.9995 * left.distance[moved]).all())
    assert bool((drawn.forwards >= left.forwards).all()) and torch.equal(drawn.backwards, left.backwards)


def test_a_boundary_that_cannot_be_the_nearest_is_not_looked_at(linear):
    """Class 1 is the first. Eight times its lead is too far off for any slope up to four times as steep; 1.3 times is not."""
    weight = torch.zeros(4, 48)
    weight[1, 0], weight[2, 1], weight[3, 2] = 1.0, 1.4, 1.4
    model = linear(weight, bias=torch.tensor([0.1, -0.5, -0.73, -1.4]))
    x = torch.full((2, *SHAPE), 0.5)  # leads of 0.1, 0.13 and 0.8
    steps = walk(DeepFool(), model, x, Goal.untargeted(torch.tensor([0, 0])))
    assert steps[0].backwards.tolist() == [2, 2] and bool(steps[1].reached.all())
    assert steps[1].distance.tolist() == pytest.approx([1.02 * 0.13 / 1.4] * 2, rel=1e-4)


def test_a_look_without_the_others_is_a_forward_pass(linear):
    """Three of four images need no second boundary: the fourth is looked at by itself."""
    weight = torch.zeros(3, 48)
    weight[1, 0], weight[2, 1] = 1.0, 1.4
    model = linear(weight, bias=torch.tensor([0.1, -0.5, -1.2]))
    x = torch.full((4, *SHAPE), 0.5)  # leads of 0.1 and 0.6
    x[3, 0, 0, 1] = 0.5 + 0.47 / 1.4  # the second becomes 0.13
    first, second = walk(DeepFool(), model, x, Goal.untargeted(torch.zeros(4, dtype=torch.int64)))
    assert first.backwards.tolist() == [1, 1, 1, 2] and first.forwards.tolist() == [1, 1, 1, 2]
    assert bool(second.reached.all()) and second.forwards.tolist() == [2, 2, 2, 3]


def test_only_the_most_likely_classes_are_looked_at(linear, monkeypatch):
    model, x = linear(weights(8)), images(6)
    y = model(x).argmax(1)
    monkeypatch.setattr("explorer.attacks.deepfool.STEEPER", 1e6)  # nothing is left out
    steps = walk(DeepFool(classes=3), model, x, Goal.untargeted(y))
    assert steps[0].backwards.tolist() == [2] * 6 and bool(steps[-1].reached.all())


@pytest.mark.parametrize("norm", BALLS)
def test_alone_or_among_others_is_the_same(trained, norm):
    model, x, y = trained
    together = smallest(DeepFool(), model, x[:8], Goal.untargeted(y[:8]), norm)
    alone = torch.cat(
        [smallest(DeepFool(), model, x[i : i + 1], Goal.untargeted(y[i : i + 1]), norm).x for i in range(8)]
    )
    assert torch.allclose(together.x, alone, atol=1e-4)


def test_a_curved_boundary_is_reached_step_by_step():
    """From outside, the least distance ||x - c| - r| to one percent; from inside, where the tangent point lies beyond."""
    model, way = Sphere(0.5).freeze(), torch.randn(8, 1, 4, 4, generator=seeded(0))
    way = way / way.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    for radius, label, expected in ((0.9, 1, 0.4), (0.3, 0, (0.5**2 - 0.3**2) / (2 * 0.3))):
        goal = Goal.untargeted(torch.full((8,), label))
        found = smallest(DeepFool(overshoot=0.001), model, 0.5 + radius * way, goal)
        assert bool(found.success.all())
        assert torch.allclose(found.distance, torch.full((8,), expected).double(), rtol=0.01)


def test_pixels_at_the_limit_are_left_out_at_last(linear):
    """The whole way must come from the pixels that are free; clipping alone would stop short of the boundary for long."""
    weight = torch.zeros(2, 48)
    weight[0, 0], weight[0, 1] = 3.0, 1.0  # class 0 falls when pixels 0 and 1 get darker, but pixel 0 is black already
    model = linear(weight, bias=torch.tensor([-0.3, 0.0]))
    x = torch.full((1, *SHAPE), 0.5)
    x[0, 0, 0, 0] = 0.0
    goal = Goal.untargeted(torch.tensor([0]))
    steps = walk(DeepFool(), model, x, goal)
    gone, expected = 0.0, []
    for share in (0.1,) * 5 + (
        1.0,
    ):  # pixel 1 has a tenth of the squared slope: so much of the rest at first, then all
        gone += share * (1 - 1.02 * gone)
        expected.append(0.2 * 1.02 * gone)
    assert [float(s.distance) for s in steps[1:]] == pytest.approx(expected, rel=1e-4)
    assert [bool(s.reached) for s in steps] == [False] * 6 + [True]


def test_a_model_without_slope_is_reported_and_does_not_freeze_the_image(linear):
    model, x = linear(weights(3)), images(4)
    model.blind = 1  # the first pass has no slope
    y = model(x).argmax(1)
    model.passes = 0
    steps = walk(DeepFool(), model, x, Goal.untargeted(y))
    assert bool(steps[0].degenerate.all()) and bool((steps[1].distance > 0).all()) and bool(steps[-1].reached.all())
    assert torch.equal(steps[1].x, walk_again(model, x, y)[1].x)


def walk_again(model, x, y):
    model.passes = 0
    return walk(DeepFool(), model, x, Goal.untargeted(y))


def test_a_tie_is_left(linear):
    model = linear(torch.cat([torch.ones(1, 48), -torch.ones(1, 48)]), bias=torch.tensor([-24.0, 24.0]))
    x = torch.full((1, *SHAPE), 0.5)
    assert float(model(x)[0, 0]) == float(model(x)[0, 1])
    for label in (0, 1):
        assert bool(smallest(DeepFool(), model, x, Goal.untargeted(torch.tensor([label]))).success)


def test_failure_is_said(trained):
    """Too few updates for most: those come back as they went in, marked as not reached."""
    model, x, y = trained
    found = smallest(DeepFool(steps=1, overshoot=0.0), model, x, Goal.untargeted(y))
    missed = ~found.success
    assert bool(missed.any()) and torch.equal(found.x[missed], x[missed]) and not bool(found.distance[missed].any())


def test_gradients_are_averaged_over_draws(masked):
    """E[slope] = p w: with many draws the closed form of the mean model holds, within 1/sqrt(draws)."""
    weight = weights(2, seed=5)
    model, x = masked(weight, p=0.5), images(1, seed=5)
    mean = 0.5 * (x.flatten(1) @ weight.T)
    goal = Goal.untargeted(mean.argmax(1))
    steps = walk(DeepFool(draws=512, steps=1), model, x, goal)
    assert steps[-1].forwards.tolist() == [1024] and steps[0].backwards.tolist() == [512]
    moved = (steps[1].x - x).flatten().double()
    seen = int(mean.argmax())
    way = (weight[1 - seen] - weight[seen]).double()
    assert float(moved @ way / moved.norm() / way.norm()) > 0.99
