"""The ensemble: its order, who is still attacked, what is counted, and that no member alone does better."""

import pytest
import torch

from explorer.attacks import ATTACKS
from explorer.core import Ball, Goal, InvalidValue, run, seeded

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
    goal, asked = Goal.untargeted(y), []

    def forward(module, inputs, output):
        asked.append((len(output), output.requires_grad))

    handle = model.register_forward_hook(forward)
    try:
        steps = list(AUTO(**SMALL).walk(model, x, goal, ball, seeded(0)))
    finally:
        handle.remove()
    sizes = [size for size, _ in asked]
    assert sizes == sorted(sizes, reverse=True) and sizes[0] == 48 and sizes[-1] == int((~steps[-1].reached).sum())
    assert 0 < sizes[-1] < 40
    gradients = [asks for _, asks in asked]
    assert gradients == [True] * 10 + [False] * 2 + ([True] * 10 + [False]) * 2 + [False] * 45  # CE, T's look, T, Square
    last = steps[-1]
    assert int(last.forwards.sum()) == sum(sizes)
    assert int(last.backwards.sum()) == sum(size for size, asks in asked if asks)
    for before, after in zip(steps, steps[1:], strict=False):
        done = before.reached
        assert torch.equal(after.x[done], before.x[done]) and torch.equal(after.forwards[done], before.forwards[done])
        assert (after.forwards >= before.forwards).all() and (after.backwards >= before.backwards).all()
        assert after.reached[done].all() and not after.stalled[done].any()


def test_its_steps_are_planned_and_report_the_margin(trained, ball):
    model, x, y = trained
    goal, attack = Goal.untargeted(y), AUTO(**SMALL)
    steps = list(attack.walk(model, x, goal, ball, seeded(0)))
    assert attack.expected_frames == len(steps) == 11 + 2 * 11 + 6  # Square's queries 0, 10, 20, 30, 40 and 44
    assert [s.index for s in steps] == list(range(39)) and {s.total for s in steps} == {38}
    assert [s.restart for s in steps] == [0] * 11 + [1] * 11 + [2] * 11 + [3] * 6
    assert attack.expected_passes == 21 + 2 * 21 + 45
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
    assert totals[:11] == [11 + 9 * 11 + 6 - 1] * 11 and set(totals[11:]) == {11 + 3 * 11 + 6 - 1}
    assert len(steps) == totals[-1] + 1


def test_it_ends_when_all_are_fooled(trained):
    model, x, y = trained
    steps = list(AUTO().walk(model, x, Goal.untargeted(y), Ball("linf", 0.3), seeded(0)))
    assert steps[-1].reached.all() and len(steps) < 50 and steps[-1].total == steps[-1].index
    assert not any(s.reached.all() for s in steps[:-1])


def test_at_least_as_strong_as_each_of_its_attacks(trained, ball):
    model, x, y = trained
    goal = Goal.untargeted(y)
    whole = run(AUTO(steps=50, queries=200, target_classes=3).walk(model, x, goal, ball, seeded(0)), goal)
    assert torch.equal(whole.success, goal.reached(model(whole.x)))
    members = [
        ATTACKS["apgd-ce"](steps=50),
        ATTACKS["apgd-t"](steps=50, target_classes=3),
        ATTACKS["square"](queries=200, rescale=False),
    ]
    alone = [run(attack.walk(model, x, goal, ball, seeded(0)), goal).success for attack in members]
    assert int(whole.success.sum()) >= max(int(success.sum()) for success in alone)
    assert torch.equal(whole.success | alone[0], whole.success), "its first member has the same start"
    assert 3 < int(whole.success.sum()) < 48


def test_square_finds_what_gradients_do_not(trained):
    """A rounding layer: the APGD attacks see no slope anywhere."""

    class Rounded(torch.nn.Module):
        stochastic = False

        def forward(self, pixels):
            return trained[0]((pixels * 50).round() / 50)

    _, x, y = trained
    goal, attack = Goal.untargeted(y), AUTO(steps=10, queries=300, target_classes=1)
    steps = list(attack.walk(Rounded(), x, goal, Ball("linf", 0.08), seeded(0)))
    blind = [s for s in steps if s.restart < 2]
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


def test_the_chooser_says_that_fab_is_missing():
    entry = ATTACKS.entry("autoattack")
    assert "without FAB" in entry.title and "without its third attack, FAB" in entry.summary
    assert "without FAB" in AUTO.__doc__ and entry.group == "ensemble"
