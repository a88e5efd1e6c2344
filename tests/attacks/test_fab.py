"""FAB against linear networks, in the open and against the limits of the pixels, and against a sphere."""

import pytest
import torch

from explorer.attacks import ATTACKS
from explorer.attacks.boundary import length
from explorer.attacks.fab import FABInside
from explorer.core import Ball, Goal, run, seeded
from tests.attacks.optimum import BALLS, SHAPE, Sphere, images, optimum, smallest, weights

FAB = ATTACKS["fab"]
QUICK = {"steps": 15, "target_classes": 5}


@pytest.fixture(params=["linf", "l2"])
def norm(request):
    return request.param


# Closed forms


@pytest.mark.parametrize("one_by_one", [True, False])
@pytest.mark.parametrize("width", [0.2, 2.0])
def test_the_least_change_of_a_linear_model(linear, norm, width, one_by_one):
    """In the open min m_k / d_k in the dual norm; with black and white pixels the optimum inside the box."""
    model = linear(weights(6), bias=torch.linspace(-0.3, 0.3, 6))
    x = images(16, width=width)
    y = model(x).argmax(1)
    found = smallest(FAB(one_by_one=one_by_one, **QUICK), model, x, Goal.untargeted(y), norm)
    ratio = found.distance / optimum(model, x, y, norm)
    assert bool(found.success.all()) and torch.equal(found.success, Goal.untargeted(y).reached(model(found.x)))
    assert float(ratio.min()) >= 1 - 1e-4 and float(ratio.median()) <= 1.002
    assert float(ratio.max()) <= (1.01 if one_by_one else 1.15)  # a single walk may end at the second nearest boundary


def test_the_least_l1_change_of_a_linear_model(linear):
    """The steepest values first, each as far as it may: known by sorting."""
    for width in (0.2, 2.0):
        model, x = linear(weights(6), bias=torch.linspace(-0.3, 0.3, 6)), images(16, width=width)
        y = model(x).argmax(1)
        ratio = smallest(FAB(**QUICK), model, x, Goal.untargeted(y), "l1").distance / optimum(model, x, y, "l1")
        assert float(ratio.min()) >= 1 - 1e-4 and float(ratio.median()) <= 1.01 and float(ratio.max()) <= 1.05


def test_toward_a_class(linear, norm):
    """With two classes the same boundary; with six that class, no nearer than any wrong one."""
    two, x = linear(weights(2, seed=3)), images(8, seed=3)
    y = two(x).argmax(1)
    found = smallest(FAB(**QUICK), two, x, Goal.targeted(1 - y), norm)
    ratio = found.distance / optimum(two, x, y, norm)
    assert bool(found.success.all()) and float(ratio.max()) <= 1.01
    six = linear(weights(6, seed=4))
    target = (six(x).argmax(1) + 2) % 6
    found = smallest(FAB(steps=60), six, x, Goal.targeted(target), norm)
    assert bool(found.success.all()) and torch.equal(six(found.x).argmax(1), target)
    assert bool((found.distance >= (1 - 1e-4) * optimum(six, x, six(x).argmax(1), norm)).all())


def test_a_curved_boundary():
    """The least distance to a sphere is ||x - c| - r|, from outside and from inside."""
    model, way = Sphere(0.5).freeze(), torch.randn(8, 1, 4, 4, generator=seeded(0))
    way = way / way.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    for radius, label in ((0.9, 1), (0.3, 0)):
        goal = Goal.untargeted(torch.full((8,), label))
        found = smallest(FAB(steps=30), model, 0.5 + radius * way, goal, "l2")
        assert bool(found.success.all())
        assert torch.allclose(found.distance, torch.full((8,), abs(radius - 0.5)).double(), rtol=0.01)


# Its parts


def test_it_comes_nearer_than_deepfool(trained, norm):
    model, x, y = trained
    goal = Goal.untargeted(y)
    fab = smallest(FAB(steps=20, target_classes=3), model, x, goal, norm)
    fool = smallest(ATTACKS["deepfool"](), model, x, goal, norm)
    assert bool(fab.success.all()) and float(fab.distance.mean()) < 0.98 * float(fool.distance.mean())


def test_a_class_each_is_at_least_as_near_as_one_class(trained):
    """The first run is the same."""
    model, x, y = trained
    one, three = (
        smallest(FAB(steps=10, target_classes=k, search_steps=0), model, x[:16], Goal.untargeted(y[:16]), "l2")
        for k in (1, 3)
    )
    assert bool((three.distance <= one.distance * (1 + 1e-6)).all()) and bool(
        (three.distance < 0.9 * one.distance).any()
    )


def test_restarts_begin_at_random_points_half_as_far_as_the_result(trained, norm):
    """A first run, then one whose first look is somewhere else: at least as near."""
    model, x, y = trained
    x, goal = x[:12], Goal.untargeted(y[:12])
    once, again = ({"steps": 6, "target_classes": 1, "restarts": k} for k in (1, 2))
    looks = []
    handle = model.register_forward_pre_hook(lambda module, inputs: looks.append(inputs[0].detach().clone()))
    first = run(FAB(search_steps=0, **once).walk(model, x, goal, BALLS[norm], seeded(0)), goal, minimal=True)
    begun = len(looks)
    looks.clear()
    both = run(FAB(search_steps=0, **again).walk(model, x, goal, BALLS[norm], seeded(0)), goal, minimal=True)
    handle.remove()
    away = length((looks[begun] - x).flatten(1), norm)
    assert torch.allclose(away, first.distance.float() / 2, rtol=1e-4)  # nothing is clipped so near to the image
    assert bool((both.distance <= first.distance).all())


def test_the_final_search_ends_at_the_boundary(linear):
    model, x = linear(weights(4, seed=5)), images(8, seed=5)
    y = model(x).argmax(1)
    goal, few = Goal.untargeted(y), {"steps": 2, "target_classes": 3}
    rough, fine = (smallest(FAB(search_steps=k, **few), model, x, goal, "l2") for k in (0, 3))
    least = optimum(model, x, y, "l2")
    assert bool((rough.distance > 1.005 * least).all()) and float((fine.distance / least).max()) <= 1.005
    assert bool(fine.success.all())


def test_alone_or_among_others_is_the_same(trained, norm):
    model, x, y = trained
    attack = FAB(steps=10, target_classes=3)
    together = smallest(attack, model, x[:4], Goal.untargeted(y[:4]), norm)
    for i in range(4):
        alone = smallest(attack, model, x[i : i + 1], Goal.untargeted(y[i : i + 1]), norm)
        assert bool(alone.success) and torch.allclose(alone.distance, together.distance[i : i + 1], rtol=1e-2)


@pytest.mark.parametrize("hyper", [{}, {"one_by_one": False}, {"restarts": 2}, {"search_steps": 0}, {"steps": 50}])
def test_the_walk_is_as_long_and_costs_no_more_than_planned(trained, hyper):
    model, x, y = trained
    attack = FAB(**{"steps": 12, "target_classes": 3} | hyper)
    steps = list(attack.walk(model, x[:1], Goal.untargeted(y[:1]), BALLS["l2"], seeded(0)))
    assert len(steps) == attack.expected_frames <= 124 and {s.total for s in steps} == {len(steps) - 1}
    last = steps[-1]
    spent = int(last.forwards) + int(last.backwards)
    assert 0.6 * attack.expected_passes < spent <= attack.expected_passes


def test_where_there_are_fewer_classes_the_plan_shrinks(trained):
    model, x, y = trained
    attack = FAB(steps=4)  # nine classes are asked for, the network has three wrong ones
    steps = list(attack.walk(model, x[:4], Goal.untargeted(y[:4]), BALLS["l2"], seeded(0)))
    assert len(steps) < attack.expected_frames and {s.total for s in steps} == {len(steps) - 1}


def test_what_is_wrong_already_needs_no_change_and_no_backward_pass(linear):
    model, x = linear(weights(4)), images(5)
    y = (model(x).argmax(1) + 1) % 4
    (only,) = FAB().walk(model, x, Goal.untargeted(y), BALLS["l2"], seeded(0))
    assert only.total == 0 and bool(only.reached.all()) and not bool(only.distance.any())
    assert only.forwards.tolist() == [1] * 5 and only.backwards.tolist() == [0] * 5


def test_an_image_that_is_done_costs_no_more(trained):
    model, x, y = trained
    goal = Goal.untargeted(torch.cat([(y[:1] + 1) % 4, y[1:5]]))  # the first is wrong already
    *_, last = FAB(steps=5, target_classes=2).walk(model, x[:5], goal, BALLS["l2"], seeded(0))
    assert int(last.forwards[0]) == 1 and int(last.backwards[0]) == 2 and bool((last.forwards[1:] > 10).all())
    assert torch.equal(last.x[0], x[0])


# Slopes that say nothing; failure


def test_a_model_without_slope_is_reported_and_does_not_freeze_the_image(linear):
    model, x = linear(weights(3)), images(4)
    y = model(x).argmax(1)
    model.passes, model.blind = 0, 1  # the first pass has no slope
    steps = list(FAB(steps=10).walk(model, x, Goal.untargeted(y), BALLS["l2"], seeded(0)))
    assert bool(steps[0].degenerate.all()) and bool((steps[1].distance > 0).all()) and bool(steps[-1].reached.all())


def test_failure_is_said(linear, norm):
    """No slope anywhere, and logits that never change: no result, every gradient reported, and still it moved."""
    model, x = linear(torch.zeros(3, 48), bias=torch.tensor([1.0, 0.0, 0.0])), images(3)
    goal = Goal.untargeted(torch.zeros(3, dtype=torch.int64))
    steps = list(FAB(steps=3).walk(model, x, goal, BALLS[norm], seeded(0)))
    found = smallest(FAB(steps=3), model, x, goal, norm)
    assert not bool(found.success.any()) and found.degenerate_share == 1
    assert bool((steps[-2].distance > 0).all()) and not any(bool(s.reached.any()) for s in steps)


def test_a_tie_is_left(linear):
    model = linear(torch.cat([torch.ones(1, 48), -torch.ones(1, 48)]), bias=torch.tensor([-24.0, 24.0]))
    x = torch.full((1, *SHAPE), 0.5)
    assert float(model(x)[0, 0]) == float(model(x)[0, 1])
    for label in (0, 1):
        assert bool(smallest(FAB(steps=5), model, x, Goal.untargeted(torch.tensor([label])), "l2").success)


def test_gradients_are_averaged_over_draws(masked):
    """E[slope] = p w: with many draws the first step goes along the mean model's way."""
    weight = weights(2, seed=5)
    model, x = masked(weight, p=0.5), images(1, seed=5)
    mean = 0.5 * (x.flatten(1) @ weight.T)
    goal = Goal.untargeted(mean.argmax(1))
    steps = list(FAB(draws=512, steps=1, search_steps=0).walk(model, x, goal, BALLS["l2"], seeded(0)))
    assert steps[-1].forwards.tolist() == [1024] and steps[-1].backwards.tolist() == [512]
    moved, seen = (steps[1].x - x).flatten().double(), int(mean.argmax())
    way = (weight[1 - seen] - weight[seen]).double()
    assert float(moved @ way / moved.norm() / way.norm()) > 0.99


# Inside a ball, as AutoAttack asks for


def test_inside_a_ball_only_points_within_it_count_and_the_fooled_leave(trained, norm):
    model, x, y = trained
    goal = Goal.untargeted(y)
    free = smallest(FAB(steps=20, target_classes=3), model, x, goal, norm).distance
    ball = Ball(norm, float(free.median()))
    attack, sizes = FABInside(steps=20, target_classes=3, search_steps=0), []
    handle = model.register_forward_hook(lambda module, inputs, output: sizes.append(len(output)))
    steps = list(attack.walk(model, x, goal, ball, seeded(0)))
    handle.remove()
    assert all(bool((ball.distance(s.x, x) <= ball.eps).all()) for s in steps)
    for before, after in zip(steps, steps[1:], strict=False):
        done = before.reached
        assert torch.equal(after.x[done], before.x[done]) and torch.equal(after.forwards[done], before.forwards[done])
    fooled = steps[-1].reached
    assert torch.equal(fooled, goal.reached(model(steps[-1].x))) and bool(fooled[free < 0.9 * ball.eps].all())
    assert not bool(fooled[free > 1.1 * ball.eps].any()) and sizes[-1] <= 30 < sizes[0]
    everybody = list(attack.walk(model, x, goal, Ball(norm, float(free.max()) * 1.5), seeded(0)))
    assert bool(everybody[-1].reached.all()) and everybody[-1].total == everybody[-1].index
    assert len(everybody) < len(steps) and int(everybody[-1].forwards.sum()) < 0.3 * int(steps[-1].forwards.sum())
