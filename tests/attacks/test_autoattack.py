"""The ensemble: its order, who is still attacked, what is counted, and that no member alone does better."""

import pytest
import torch

from explorer.attacks import ATTACKS
from explorer.core import Ball, Goal, InvalidValue, run, seeded
from explorer.core.ball import EPS_LIMIT

AUTO = ATTACKS["autoattack"]
SMALL = {"steps": 10, "queries": 45, "target_classes": 2}
BALLS = [Ball("linf", 0.03), Ball("l2", 0.25)]


@pytest.fixture(params=BALLS, ids=str)
def ball(request):
    return request.param


def interior(n):
    return 0.5 + 0.2 * (torch.rand(n, 3, 4, 4, generator=seeded(0)) - 0.5)


def zeros(n):
    return torch.zeros(n, dtype=torch.int64)


def test_every_attack_gets_what_the_ones_before_left(trained, ball):
    """Batch sizes seen by the network: they never grow, and each attack begins with the images not yet fooled."""
    model, x, y = trained
    goal, asked, returned = Goal.untargeted(y), [], []

    def forward(module, inputs, output):
        asked.append((len(output), output.requires_grad))
        if output.requires_grad:
            output.register_hook(lambda gradient: returned.append(len(gradient)))

    handle = model.register_forward_hook(forward)
    try:
        steps = list(AUTO(**SMALL).walk(model, x, goal, ball, seeded(0)))
    finally:
        handle.remove()
    sizes, gradients = [size for size, _ in asked], [asks for _, asks in asked]
    climbs, fab, square = slice(0, 34), slice(34, -45), slice(-45, None)
    assert gradients[climbs] == [True] * 10 + [False] * 2 + ([True] * 10 + [False]) * 2  # CE, T's look, T
    assert gradients[34] and not any(gradients[square])
    fell = [*sizes[climbs], sizes[34], *sizes[square]]  # FAB's second looks may be at fewer, then at more again
    assert fell == sorted(fell, reverse=True) and max(sizes[fab]) == sizes[34] and 0 < sizes[-1] < 40
    after = {s.restart: int((~s.reached).sum()) for s in steps}  # of the last step of each run
    assert sizes[0] == 48 and sizes[34] == after[2] and sizes[-45] == after[3] and sizes[-1] >= after[4]
    last = steps[-1]
    assert int(last.forwards.sum()) == sum(sizes)
    assert int(last.backwards.sum()) == sum(returned)
    for before, after in zip(steps, steps[1:], strict=False):
        done = before.reached
        assert torch.equal(after.x[done], before.x[done]) and torch.equal(after.forwards[done], before.forwards[done])
        assert (after.forwards >= before.forwards).all() and (after.backwards >= before.backwards).all()
        assert after.reached[done].all() and not after.degenerate[done].any()


def test_its_steps_are_planned_and_report_the_margin(trained, ball):
    model, x, y = trained
    goal, attack = Goal.untargeted(y), AUTO(**SMALL)
    steps = list(attack.walk(model, x, goal, ball, seeded(0)))
    assert attack.expected_frames == len(steps) == 11 + 2 * 11 + 23 + 6  # Square's queries 0, 10, 20, 30, 40 and 44
    assert [s.index for s in steps] == list(range(62)) and {s.total for s in steps} == {61}
    assert [s.restart for s in steps] == [0] * 11 + [1] * 11 + [2] * 11 + [3] * 23 + [4] * 6
    assert attack.expected_passes == 21 + 2 * 21 + (1 + 2 + 2 * 10 * 3) + 45
    for step in steps:
        logits = model(step.x)
        assert torch.allclose(step.loss, goal.margin(logits), atol=1e-4)
        assert torch.equal(step.reached, goal.reached(step.logits)) and torch.allclose(step.logits, logits, atol=1e-4)
        assert torch.allclose(step.distance, ball.distance(step.x, x))


def test_where_there_are_fewer_classes_the_plan_shrinks(trained):
    model, x, y = trained
    attack = AUTO(**SMALL | {"target_classes": 9})  # the network has four classes
    steps = list(attack.walk(model, x, Goal.untargeted(y), BALLS[0], seeded(0)))
    totals = [s.total for s in steps]
    assert totals[:11] == [11 + 9 * 11 + (1 + 9 * 11) + 6 - 1] * 11
    assert totals[11:44] == [11 + 3 * 11 + (1 + 9 * 11) + 6 - 1] * 33
    assert set(totals[44:]) == {11 + 3 * 11 + (1 + 3 * 11) + 6 - 1}
    assert len(steps) == totals[-1] + 1


def test_it_ends_when_all_are_fooled(trained):
    model, x, y = trained
    steps = list(AUTO().walk(model, x, Goal.untargeted(y), Ball("linf", 0.3), seeded(0)))
    assert steps[-1].reached.all() and len(steps) < 50 and steps[-1].total == steps[-1].index
    assert not any(s.reached.all() for s in steps[:-1])


def test_at_least_as_strong_as_each_of_its_attacks(trained, ball):
    model, x, y = trained
    goal = Goal.untargeted(y)
    whole = run(AUTO(steps=30, queries=100, target_classes=3).walk(model, x, goal, ball, seeded(0)), goal)
    assert torch.equal(whole.success, goal.reached(model(whole.x)))
    members = [
        ATTACKS["apgd-ce"](steps=30),
        ATTACKS["apgd-t"](steps=30, target_classes=3),
        ATTACKS["square"](queries=100, rescale=False),
    ]
    alone = [run(attack.walk(model, x, goal, ball, seeded(0)), goal).success for attack in members]
    free = Ball(ball.norm, EPS_LIMIT[ball.norm])
    fab = run(ATTACKS["fab"](steps=30, target_classes=3).walk(model, x, goal, free, seeded(0)), goal, minimal=True)
    alone.append(fab.success & (fab.distance <= ball.eps))
    assert int(whole.success.sum()) >= max(int(success.sum()) for success in alone)
    assert torch.equal(whole.success | alone[0], whole.success), "its first member has the same start"
    assert 3 < int(whole.success.sum()) < 48


def test_square_finds_what_gradients_do_not(trained):
    """A rounding layer: the APGD attacks and FAB see no slope anywhere."""

    class Rounded(torch.nn.Module):
        stochastic = False

        def forward(self, pixels):
            return trained[0]((pixels * 50).round() / 50)

    _, x, y = trained
    goal, attack = Goal.untargeted(y), AUTO(steps=10, queries=300, target_classes=1)
    steps = list(attack.walk(Rounded(), x, goal, Ball("linf", 0.08), seeded(0)))
    blind = [s for s in steps if s.restart < 3]
    assert int(steps[-1].reached.sum()) >= int(blind[-1].reached.sum()) + 10


def test_toward_a_class(trained):
    model, x, y = trained
    goal = Goal.targeted((y + 1) % 4)
    steps = list(AUTO(**SMALL).walk(model, x, goal, Ball("linf", 0.045), seeded(0)))
    assert [s.restart for s in steps].count(1) == 11  # one run of APGD-T, toward that class
    assert int(steps[-1].reached.sum()) > 5


# The variant for stochastic models


def test_with_draws_all_images_get_both_attacks_averaged(masked):
    model, x = masked(torch.randn(4, 48, generator=seeded(0)), p=0.6), interior(3)
    goal, attack = Goal.untargeted(zeros(3)), AUTO(steps=6, draws=5)
    steps = list(attack.walk(model, x, goal, Ball("linf", 0.1), seeded(0)))
    assert len(steps) == attack.expected_frames == 14 and {s.total for s in steps} == {13}
    assert [s.restart for s in steps] == [0] * 7 + [1] * 7
    assert steps[-1].forwards.tolist() == [70] * 3 and steps[-1].backwards.tolist() == [60] * 3
    assert attack.expected_passes == 5 * 2 * 13
    assert any(s.reached.any() for s in steps[:7]), "says nothing about images that were fooled once"
    for step in steps:
        assert torch.allclose(step.loss, goal.margin(step.logits))


# What is refused


@pytest.mark.parametrize(("classes", "draws", "least"), [(3, 1, 4), (2, 1, 4), (2, 5, 3)])
def test_too_few_classes_are_refused_at_the_first_look(classes, draws, least, linear, ball):
    model = linear(torch.randn(classes, 48, generator=seeded(0)))
    with pytest.raises(InvalidValue, match=rf"must have at least {least} classes to compare; got {classes}\."):
        next(AUTO(draws=draws).walk(model, interior(2), Goal.untargeted(zeros(2)), ball, seeded(0)))
    assert model.passes == 1


def test_the_chooser_names_its_members_in_their_order():
    entry, order = ATTACKS.entry("autoattack"), ["APGD-CE", "APGD-T", "FAB-T", "Square"]
    assert entry.title == "AutoAttack" and entry.group == "ensemble"
    for text in (entry.summary, AUTO.__doc__):
        places = [text.index(name) for name in order]
        assert places == sorted(places)


def test_its_settings_are_those_of_the_authors_standard_version():
    ce, targeted, fab, square = (attack for attack, _ in AUTO()._stages())
    assert (ce.steps, ce.restarts, targeted.steps, targeted.target_classes, targeted.restarts) == (100, 1, 100, 9, 1)
    assert (fab.steps, fab.target_classes, fab.restarts, fab.one_by_one) == (100, 9, 1, True)
    assert (fab.alpha_max, fab.eta, fab.beta) == (0.1, 1.05, 0.9) and (square.queries, square.p_init) == (5000, 0.8)


def test_what_fab_finds_beyond_the_ball_is_no_success(linear):
    """The boundary lies 1.2 eps away: each attack fails, and nothing outside is shown."""
    model, x = linear(torch.randn(4, 48, generator=seeded(1))), interior(6)
    goal = Goal.untargeted(model(x).argmax(1))
    free = run(ATTACKS["fab"](steps=10).walk(model, x, goal, Ball("l2", 100.0), seeded(0)), goal, minimal=True)
    ball = Ball("l2", float(free.distance.min()) / 1.2)
    steps = list(AUTO(**SMALL).walk(model, x, goal, ball, seeded(0)))
    assert bool(free.success.all()) and not any(bool(s.reached.any()) for s in steps)
    assert all(bool((ball.distance(s.x, x) <= ball.eps).all()) for s in steps) and steps[-1].index == 61
