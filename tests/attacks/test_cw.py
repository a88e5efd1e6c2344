"""C&W against linear networks, where the least change is known, in the open and against the limits of the pixels."""

import pytest
import torch

from explorer.attacks import ATTACKS
from explorer.core import Goal, seeded
from tests.attacks.optimum import BALLS, SHAPE, images, optimum, smallest, weights

CW = ATTACKS["cw"]
BALL = BALLS["l2"]


@pytest.mark.parametrize("scale", [1e-6, 20.0])
def test_the_infimum_of_a_linear_model_is_reached_to_one_percent(linear, scale):
    """On the mean; a single image may end at a boundary that only its first look took for the nearest."""
    ratios = []
    for seed in range(2):
        model, x = linear(weights(6, seed=seed), scale=scale), images(24, seed=50 + seed)
        y = model(x).argmax(1)
        found = smallest(CW(), model, x, Goal.untargeted(y))
        assert bool(found.success.all())
        ratios.append(found.distance / optimum(model, x, y))
    ratio = torch.cat(ratios)
    assert float(ratio.min()) >= 1 - 1e-6 and float(ratio.median()) <= 1.002
    assert float(ratio.mean()) <= 1.01, f"mean {float(ratio.mean()):.4f}, largest {float(ratio.max()):.4f}"


def test_the_same_in_many_dimensions(linear):
    model = linear(torch.randn(10, 3072, generator=seeded(1)), input_shape=(3, 32, 32), scale=0.1)
    x = 0.5 + 0.2 * (torch.rand(8, 3, 32, 32, generator=seeded(2)) - 0.5)
    y = model(x).argmax(1)
    ratio = smallest(CW(), model, x, Goal.untargeted(y)).distance / optimum(model, x, y)
    assert float(ratio.mean()) <= 1.01


@pytest.mark.parametrize(("classes", "lead"), [(6, None), (2, 0.01), (4, 0.3)])
def test_half_the_pixels_black_or_white(linear, classes, lead):
    """The optimum inside the box for each image, boundaries far and near: on a straight one slides end where they begin."""
    model, x = linear(weights(classes)), images(12, seed=3, width=2.0)
    assert float(((x == 0) | (x == 1)).double().mean()) > 0.4
    if lead is not None:  # from each image to just before its nearest boundary
        goal = Goal.untargeted(model(x).argmax(1))
        x = x + (1 - lead) * (smallest(ATTACKS["deepfool"](overshoot=0), model, x, goal).x - x)
    y = model(x).argmax(1)
    found = smallest(CW(), model, x, Goal.untargeted(y))
    ratio = found.distance / optimum(model, x, y)
    assert bool(found.success.all()) and float(ratio.min()) >= 1 - 1e-6 and float(ratio.max()) <= 1.005


def test_confidence_costs_its_slope(linear):
    """d distance / d kappa = 1 / d_k for the class that is nearest."""
    model = linear(weights(2, seed=4))
    x = images(6, seed=4)
    y = model(x).argmax(1)
    goal, (ways,) = Goal.untargeted(y), {float((model.weight[1] - model.weight[0]).norm())}
    plain, sure = (smallest(CW(kappa=kappa, steps=200), model, x, goal) for kappa in (0.0, 2.0))
    assert bool(sure.success.all()) and bool((goal.margin(model(sure.x)) > 2.0).all())
    assert torch.allclose((sure.distance - plain.distance) / 2.0, torch.full((6,), 1 / ways).double(), rtol=0.03)
    assert torch.allclose(sure.distance, optimum(model, x, y, kappa=2.0), rtol=0.01)


@pytest.mark.parametrize("targeted", [False, True])
def test_one_image_alone_or_among_many_is_the_same(trained, targeted):
    model, x, y = trained
    x, y = x[:4], y[:4]
    goal = Goal.targeted((y + 1) % 4) if targeted else Goal.untargeted(y)
    attack = CW(searches=5, steps=50)
    together = smallest(attack, model, x, goal)
    for i in range(len(x)):
        alone = smallest(attack, model, x[i : i + 1], goal.rows(slice(i, i + 1)))
        assert bool(alone.success) and torch.allclose(alone.distance, together.distance[i : i + 1], rtol=1e-2)
        assert int(alone.forwards) == pytest.approx(int(together.forwards[i]), rel=0.15)


def test_a_target_is_reached_at_its_own_boundary(linear):
    model, x = linear(weights(2, seed=6)), images(6, seed=6)
    y = model(x).argmax(1)
    found = smallest(CW(), model, x, Goal.targeted(1 - y))
    assert bool(found.success.all()) and torch.allclose(found.distance, optimum(model, x, y), rtol=0.01)


def test_nearer_than_deepfool_on_a_trained_network(trained):
    """Clearly on the mean; a single image may end at another boundary."""
    model, x, y = trained
    goal = Goal.untargeted(y)
    ours, other = smallest(CW(), model, x, goal), smallest(ATTACKS["deepfool"](), model, x, goal)
    assert float(ours.distance.mean()) < 0.97 * float(other.distance.mean())
    assert float((ours.distance <= 1.02 * other.distance).double().mean()) > 0.9


def test_the_bisection_ends_at_the_boundary(linear):
    """A coarse search far beyond it; ten halvings bring it back to a thousandth of its length, in ten looks more."""
    model, x = linear(weights(2, seed=7)), images(4, seed=7)
    y = model(x).argmax(1)
    goal = Goal.untargeted(y)
    coarse = {"searches": 1, "steps": 20, "first_c": 1e4, "lr": 0.1, "slides": 0}
    rough, fine = (smallest(CW(halvings=n, **coarse), model, x, goal) for n in (0, 10))
    assert bool((rough.distance > 1.02 * fine.distance).all())
    assert torch.equal(fine.forwards, rough.forwards + 10) and torch.equal(fine.backwards, rough.backwards)
    margin, whole = goal.margin(model(fine.x)), goal.margin(model(rough.x)) - goal.margin(model(x))
    assert bool((margin > 0).all()) and bool((margin < whole / 500).all())


def test_slides_end_at_the_nearest_point_of_a_straight_boundary(linear):
    """A search that stops far too early: the slides alone reach the least change, and each is a pass there and back."""
    model, x = linear(weights(2, seed=9)), images(4, seed=9)
    y = model(x).argmax(1)
    coarse = {"searches": 1, "steps": 10, "first_c": 1e4, "lr": 0.1, "halvings": 0}
    rough, fine = (smallest(CW(slides=n, **coarse), model, x, Goal.untargeted(y)) for n in (0, 5))
    least = optimum(model, x, y)
    assert bool(rough.success.all()) and bool((rough.distance > 1.05 * least).all())
    assert torch.allclose(fine.distance, 1.001 * least, rtol=2e-4)
    spent = fine.forwards - rough.forwards
    assert torch.equal(spent, fine.backwards - rough.backwards) and 3 <= int(spent.min()) and int(spent.max()) <= 5


def test_slides_shorten_the_change_on_a_trained_network(trained):
    model, x, y = trained
    goal = Goal.untargeted(y)
    without, with_slides = (smallest(CW(searches=3, steps=30, slides=n), model, x, goal) for n in (0, 15))
    assert bool((goal.margin(model(with_slides.x)) > 0).all())
    assert float(with_slides.distance.mean()) < float(without.distance.mean())


def test_each_search_begins_anew(linear):
    """After a search that failed with a tiny c, the next first look is at the untouched image again."""
    model, x = linear(weights(3)), images(2)
    goal = Goal.untargeted(model(x).argmax(1))
    steps = list(CW(searches=3, steps=10, first_c=1e-6).walk(model, x, goal, BALL, seeded(0)))
    starts = [s.index for s in steps if bool((s.distance == 0).all())]
    assert starts[0] == 0 and len(starts) >= 4  # the untouched image, then each search's first look


def test_few_frames_however_many_updates(trained):
    model, x, y = trained
    x, y = x[:1], y[:1]
    for settings in ({"searches": 2, "steps": 3}, {"searches": 9, "steps": 200}, {"searches": 20, "steps": 40}):
        attack = CW(**settings)
        steps = list(attack.walk(model, x, Goal.untargeted(y), BALL, seeded(0)))
        assert len(steps) <= attack.expected_frames <= 165
        assert int(steps[-1].forwards.max() + steps[-1].backwards.max()) <= attack.expected_passes


def test_images_leave_a_search_one_by_one(trained):
    """The batch shrinks within a search, and an image's passes are its own."""
    model, x, y = trained
    sizes = []
    handle = model.register_forward_hook(lambda module, inputs, output: sizes.append(len(output)))
    last = list(CW(searches=3, steps=200).walk(model, x[:16], Goal.untargeted(y[:16]), BALL, seeded(0)))[-1]
    handle.remove()
    assert len(set(sizes)) > 3 and len(last.forwards.unique()) > 3 and int(last.forwards.sum()) == sum(sizes)


def test_what_is_wrong_already_needs_one_look(linear):
    model, x = linear(weights(4)), images(3)
    y = (model(x).argmax(1) + 1) % 4
    (only,) = CW().walk(model, x, Goal.untargeted(y), BALL, seeded(0))
    assert bool(only.reached.all()) and not bool(only.distance.any()) and only.forwards.tolist() == [1, 1, 1]


def test_failure_is_said(linear):
    """One short search with a tiny c: the image comes back untouched, marked as not reached."""
    model, x = linear(weights(4)), images(3)
    found = smallest(CW(searches=1, steps=3, first_c=1e-6), model, x, Goal.untargeted(model(x).argmax(1)))
    assert not bool(found.success.any()) and torch.equal(found.x, x)


def test_a_model_without_slope_is_reported_and_does_not_freeze_the_image(linear):
    model, x = linear(weights(3)), images(4)
    y = model(x).argmax(1)
    model.passes, model.blind = 0, 2  # the first look, and the first update's
    steps = list(CW(searches=2, steps=60).walk(model, x, Goal.untargeted(y), BALL, seeded(0)))
    assert bool(steps[1].degenerate.all()) and bool((steps[2].distance > 0).all()) and bool(steps[-1].reached.all())


def test_gradients_are_averaged_over_draws(masked):
    """Every weight kept with p = 0.5: the change points along the mean slope, the better the more draws."""
    weight = weights(2, seed=8)
    model, x = masked(weight, p=0.5), images(1, seed=8)
    goal = Goal.untargeted((x.flatten(1) @ weight.T).argmax(1))
    label = int(goal.labels)
    way = (weight[1 - label] - weight[label]).double()
    cosine = {}
    for draws in (1, 64):
        found = smallest(CW(searches=3, steps=60, draws=draws), model, x, goal)
        moved = (found.x - x).flatten().double()
        cosine[draws] = float(moved @ way / (moved.norm() * way.norm()).clamp(min=1e-9))
        assert int(found.forwards) % draws == 0
    assert cosine[64] > max(cosine[1], 0.9)


def test_an_image_that_a_search_leaves_where_it_is_is_done(linear, monkeypatch):
    model, x = linear(weights(5)), images(6)
    attack, goal = CW(searches=9, steps=100), Goal.untargeted(model(x).argmax(1))
    found = smallest(attack, model, x, goal)
    monkeypatch.setattr("explorer.attacks.cw.SHORTER", 2.0)  # no search is idle
    patient = smallest(attack, model, x, goal)
    assert int(found.forwards.sum()) < 0.7 * int(patient.forwards.sum())
    assert bool(found.success.all()) and bool((found.distance < 1.01 * patient.distance).all())


def a_likely_class_far_away(linear):
    """Class 1 trails the label 0 by little and rises slowly; class 2 trails it by more and rises fast: half as far away."""
    way = weights(2, seed=3)
    way[1] -= way[0] * (way[0] @ way[1]) / way[0].square().sum()  # neither raises the other
    way = way / way.norm(dim=1, keepdim=True)
    w = torch.stack([torch.zeros(48), way[0], 4 * way[1]])
    x = torch.full((1, *SHAPE), 0.5)
    z = (x.flatten(1) @ w.T)[0]
    return linear(w, bias=torch.tensor([0.0, -0.4, -0.8]) - z), x, Goal.untargeted(torch.tensor([0]))


@pytest.mark.parametrize("kappa", [0.0, 0.2])
def test_a_search_that_brings_nothing_turns_to_the_class_that_is_nearest_by_its_slope(linear, kappa, monkeypatch):
    model, x, goal = a_likely_class_far_away(linear)
    near, far = (0.8 + kappa) / 4, 0.4 + kappa
    assert float(optimum(model, x, goal.labels, kappa=kappa)) == pytest.approx(near, rel=1e-4)
    attack = CW(searches=9, steps=100, kappa=kappa)
    found = smallest(attack, model, x, goal)
    assert float(found.distance) == pytest.approx(near, rel=0.01)
    monkeypatch.setattr("explorer.attacks.cw.RIVALS", 1)  # looks at the likeliest class alone
    assert float(smallest(attack, model, x, goal).distance) == pytest.approx(far, rel=0.01)


def test_passes_spent_on_other_classes_are_counted(linear):
    model, x, goal = a_likely_class_far_away(linear)
    before = model.passes
    found = smallest(CW(searches=9, steps=100), model, x, goal)
    assert model.passes - before == int(found.forwards)


def test_a_class_that_cannot_be_reached_does_not_spoil_the_next(linear):
    """Class 2 is the nearest by its slope, but only whiter than white; class 3 comes next, and class 1 is the likeliest."""
    w = torch.zeros(4, 48)
    w[1, :16], w[2, 16:32], w[3, 32:] = 0.25, 1.0, 1.0  # lengths 1, 4 and 4
    x = torch.full((1, 48), 0.5)
    x[0, 16:32] = 1.0
    model = linear(w, bias=torch.tensor([0.0, -0.4, -0.6, -0.8]) - (x @ w.T)[0])
    x, goal = x.view(1, *SHAPE), Goal.untargeted(torch.tensor([0]))
    walk = CW(searches=9, steps=100).walk(model, x, goal, BALL, seeded(0))
    steps = list(walk)
    assert all(bool(step.x.isfinite().all()) for step in steps)
    assert float(steps[-1].distance) == pytest.approx(0.8 / 4, rel=0.01)
