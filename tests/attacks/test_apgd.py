"""Auto-PGD against closed forms on linear networks, a plain retelling of its algorithm, and scripted losses."""

from dataclasses import replace
from fractions import Fraction
from math import ceil

import pytest
import torch
from torch import nn

from explorer.attacks import ATTACKS
from explorer.attacks.apgd import APGDCE, Run, Toward, checkpoints, must_halve
from explorer.core import Ball, Goal, InvalidValue, run, seeded
from tests.attacks.optimum import SHAPE, images

CE, DLR, T, PGD = (ATTACKS[key] for key in ("apgd-ce", "apgd-dlr", "apgd-t", "pgd"))


def dual(ball, direction):
    return ball.eps * (direction.abs().sum() if ball.norm == "linf" else direction.norm())


def zeros(n):
    return torch.zeros(n, dtype=torch.int64)


# Closed forms


@pytest.fixture
def seesaw(linear):
    """Class 0 falls along the same direction along which class 1 rises; classes 2 and 3 stay far below.

    All losses have their maximum at the ball's point farthest along it.
    """
    a = torch.randn(48, generator=seeded(0))
    bias = torch.tensor([0.0, 0.0, -30.0, -31.0]) - torch.stack([a, -a, 0 * a, 0 * a]) @ torch.full((48,), 0.5)
    return linear(torch.stack([a, -a, 0 * a, 0 * a]), bias), -a.view(1, *SHAPE)


@pytest.mark.parametrize("attack", [CE(), DLR(), T(steps=50), T(steps=50, target_classes=2)], ids=str)
@pytest.mark.parametrize("random_start", [True, False])
def test_the_worst_point_of_the_ball_is_reached(attack, random_start, ball, seesaw):
    model, direction = seesaw
    attack = type(attack)(**attack.to_dict() | {"random_start": random_start})
    x = images(6)
    for goal in (Goal.untargeted(zeros(6)), Goal.targeted(zeros(6) + 1)):
        outcome = run(attack.walk(model, x, goal, ball, seeded(1)), goal)
        near = 1e-6 if ball.norm == "linf" else 1e-5 if not random_start else 2e-3
        assert torch.allclose(outcome.x, x + ball.eps * ball.steepest(direction), atol=near)


@pytest.mark.parametrize("bias", [0.0, -20.0])
@pytest.mark.parametrize("attack", [CE(), CE(random_start=False), CE(early_stop=True)], ids=str)
def test_the_verdict_is_exact(attack, bias, ball, linear):
    """Images whose distance to the boundary is 0.999 and 1.001 times what the ball reaches; all-negative logits too."""
    weight = torch.randn(2, 48, generator=seeded(0))
    direction = (weight[1] - weight[0]).double()
    factors, y = torch.tensor([0.5, 0.999, 1.001, 1.5] * 2).double(), torch.tensor([0] * 4 + [1] * 4)
    base = 0.5 - direction * ((0.5 * direction).sum() / direction.pow(2).sum())
    wanted = torch.where(y == 0, -1.0, 1.0).double() * factors * dual(ball, direction)
    x = (base + wanted[:, None] * direction / direction.pow(2).sum()).float().view(8, *SHAPE)
    model = linear(weight, torch.full((2,), bias))
    for goal in (Goal.untargeted(y), Goal.targeted(1 - y)):
        outcome = run(attack.walk(model, x, goal, ball, seeded(0)), goal)
        assert outcome.success.tolist() == [True, True, False, False] * 2


def test_a_very_confident_network_is_attacked_all_the_same(ball, linear):
    weight = torch.randn(2, 48, generator=seeded(0))
    model, x = linear(weight, scale=1e4), images(6)
    y = model(x).argmax(1)
    goal = Goal.untargeted(y)
    outcome = run(CE(random_start=False).walk(model, x, goal, ball, seeded(0)), goal)
    moved = ((outcome.x - x).double().flatten(1) @ (model.weight[1] - model.weight[0])) * torch.where(y == 0, 1, -1)
    assert torch.allclose(moved, dual(ball, model.weight[1] - model.weight[0]).expand(6), rtol=1e-3)
    assert outcome.degenerate_share == 0


def test_a_dead_gradient_does_not_freeze_an_image(ball, seesaw):
    model, direction = seesaw
    model.blind, goal, x = 1, Goal.untargeted(zeros(4)), images(4)
    steps = list(CE(random_start=False).walk(model, x, goal, ball, seeded(0)))
    assert steps[0].degenerate.all() and not any(s.degenerate.any() for s in steps[1:])
    assert (steps[1].distance > 0.3 * ball.eps).all()
    best = run(steps, goal).x
    assert torch.allclose(best, x + ball.eps * ball.steepest(direction), atol=2e-3)
    model.blind = 10**9
    assert run(CE(steps=30).walk(model, x, goal, ball, seeded(0)), goal).degenerate_share == 1


def test_a_batch_of_one_walks_as_in_a_batch_of_many(ball, linear):
    model, x, y = linear(torch.randn(5, 48, generator=seeded(0))), images(5), torch.arange(5)
    for attack in (CE(steps=30, random_start=False), T(steps=10, random_start=False)):
        together = run(attack.walk(model, x, Goal.untargeted(y), ball, seeded(0)), Goal.untargeted(y))
        for i in range(5):
            goal = Goal.untargeted(y[i : i + 1])
            alone = run(attack.walk(model, x[i : i + 1], goal, ball, seeded(0)), goal)
            assert torch.allclose(alone.x[0], together.x[i], atol=1e-4)


# Checkpoints and the step size


def test_the_checkpoints_of_the_paper():
    assert list(checkpoints(100)) == [22, 41, 57, 70, 80, 87, 93, 99]
    assert list(checkpoints(100).values()) == [22, 19, 16, 13, 10, 7, 6, 6]


@pytest.mark.parametrize("steps", [1, 2, 7, 20, 50, 75, 100, 333, 1000])
def test_checkpoints_follow_their_recursion(steps):
    p = [Fraction(0), Fraction(22, 100)]
    while p[-1] <= 1:
        p.append(p[-1] + max(p[-1] - p[-2] - Fraction(3, 100), Fraction(6, 100)))
    expected = sorted({ceil(q * steps) for q in p[1:] if q <= 1})
    assert list(checkpoints(steps)) == expected
    assert list(checkpoints(steps).values()) == [b - a for a, b in zip([0, *expected], expected, strict=False)]


@pytest.mark.parametrize(
    ("rises", "halved", "before", "now", "expected"),
    [
        (16, False, 1.0, 2.0, True),  # 16 of 22 is less than 75 %
        (17, False, 1.0, 2.0, False),
        (22, False, 1.0, 1.0, True),  # rose all the time, yet never above the best
        (22, True, 1.0, 1.0, False),  # as before, but just halved
        (22, False, 1.0, 1.0001, False),
        (0, True, 1.0, 1.0, True),
    ],
)
def test_the_two_conditions(rises, halved, before, now, expected):
    found = must_halve(
        *(torch.tensor([v]) for v in (rises,)), 22, torch.tensor([halved]), *map(torch.tensor, ([before], [now]))
    )
    assert found.tolist() == [expected]


def test_images_of_one_batch_have_their_own_step_sizes():
    """The first one's loss rises always, the second one's falls, the third one's goes up and down and ends higher."""
    ball, x = Ball("linf", 0.1), torch.full((3, 1, 2, 2), 0.5)
    climb, points = Run(APGDCE(), ball.around(x), x.clone()), []
    losses = torch.tensor([[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [0, 2, 1, 3, 1]]).float()
    for k in range(5):
        points.append(climb.x)
        climb.learn(losses[:, k], torch.randn(3, 1, 2, 2, generator=seeded(k)))
        if k == 4:
            climb.judge(4)
            break
        climb.move(seeded(0))
    assert climb.alpha.flatten().tolist() == pytest.approx([0.2, 0.1, 0.1])
    back = [points[4][0], points[0][1], points[3][2]]
    assert torch.equal(climb.x, torch.stack(back)) and climb.best_loss.tolist() == [4, 4, 3]
    for image, source in ((0, 4), (1, 0), (2, 3)):
        assert torch.equal(climb.gradient[image], torch.randn(3, 1, 2, 2, generator=seeded(source))[image])


class Script(nn.Module):
    """Two classes. Pass k answers, in its draws, with the logits (0, values[k][draw]), and with the slope slopes[k]."""

    stochastic = True

    def __init__(self, values, slopes):
        super().__init__()
        self.values, self.slopes, self.passes = values, slopes, 0

    def forward(self, pixels):
        k, self.passes = self.passes, self.passes + 1
        moved = ((pixels - pixels.detach()) * self.slopes[k]).flatten(1).sum(1)
        z = moved + torch.tensor(self.values[k], dtype=pixels.dtype)
        return torch.stack([torch.zeros_like(z), z], dim=1)


def retold(losses, slopes, ball, x0, steps):
    """Algorithm 1 for one image with given losses and slopes, told again step by step, in float64 NumPy-like code."""

    def into(x):
        delta = x - x0
        if ball.norm == "linf":
            delta = delta.clamp(-ball.eps, ball.eps)
        elif delta.norm() > ball.eps:
            delta = delta * (ball.eps / delta.norm())
        return (x0 + delta).clamp(0, 1)

    x0, slopes = x0.double(), [s.double() for s in slopes]
    unit = (lambda g: g.sign()) if ball.norm == "linf" else (lambda g: g / g.norm())
    w, p = [0], [0.0, 0.22]
    while p[-1] < 1.001:
        w.append(ceil(round(p[-1] * steps, 9)))
        p.append(p[-1] + max(p[-1] - p[-2] - 0.03, 0.06))
    eta, x, before, g = 2 * ball.eps, x0, x0, slopes[0]
    walked, best, top, top_then, was_halved = [x], 0, losses[0], losses[0], True
    for k in range(1, steps + 1):
        z = into(x + eta * unit(g))
        x, before = z if k == 1 else into(x + 0.75 * (z - x) + 0.25 * (x - before)), x
        walked.append(x)
        g = slopes[k]
        if losses[k] > top:
            best, top = k, losses[k]
        if k in w:
            start = w[w.index(k) - 1]
            rises = sum(losses[i + 1] > losses[i] for i in range(start, k))
            was_halved = rises <= 0.75 * (k - start) or (not was_halved and top == top_then)
            top_then = top
            if was_halved:
                eta, x, g = eta / 2, walked[best], slopes[best]
    return walked


@pytest.mark.parametrize("drift", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("seed", range(3))
def test_a_walk_along_scripted_losses_is_that_of_the_algorithm(drift, seed, ball):
    steps, rng = 50, seeded(seed)
    values = (torch.randn(steps + 1, generator=rng) + drift * torch.arange(steps + 1)).tolist()
    slopes = [torch.randn(SHAPE, generator=rng) for _ in range(steps + 1)]
    x0, goal = images(1), Goal.untargeted(zeros(1))
    expected = retold(values, slopes, ball, x0[0], steps)  # cross-entropy rises with the value
    model = Script([[v] for v in values], slopes)
    found = list(CE(steps=steps, random_start=False).walk(model, x0, goal, ball, seeded(0)))
    for step, point in zip(found, expected, strict=True):
        assert torch.allclose(step.x[0].double(), point, atol=1e-6)


def test_averaging_goes_back_to_the_point_of_highest_mean_loss_not_of_a_lucky_draw(ball):
    """Point 1 has the highest mean; point 2 has the highest last draw, point 3 the highest first one."""
    values = [[0, 0], [4, 3.5], [-9, 6], [6, -9], [-1, -1], [-1, -2], *[[-3, -3]] * 15]
    slopes = [torch.randn(SHAPE, generator=seeded(k)) for k in range(21)]
    x0, goal = images(1), Goal.untargeted(zeros(1))
    steps = list(CE(steps=20, draws=2, random_start=False).walk(Script(values, slopes), x0, goal, ball, seeded(0)))
    region, (one, four, six) = ball.around(x0), (steps[k].x for k in (1, 4, 6))
    ahead = region.project(one + ball.eps * ball.steepest(slopes[1][None]))  # half of the first step size
    assert torch.allclose(six, region.project(one + 0.75 * (ahead - one) + 0.25 * (one - four)), atol=1e-6)
    loss = torch.tensor(values).float().exp().log1p().mean(1)
    assert [float(s.loss) for s in steps] == pytest.approx(loss.tolist(), rel=1e-4)
    unjudged = [replace(s, reached=torch.zeros_like(s.reached)) for s in steps]  # as a stochastic model is evaluated
    assert torch.equal(run(unjudged, goal).x, one)


# Strength


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_at_least_as_strong_as_pgd_with_the_same_passes(norm, trained):
    model, x, y = trained
    goal = Goal.untargeted(y)
    for eps in (0.02, 0.045) if norm == "linf" else (0.15, 0.4):
        ball = Ball(norm, eps)
        usual = run(PGD(steps=100).walk(model, x, goal, ball, seeded(0)), goal)
        assert 3 < int(usual.success.sum()) < 48, "says nothing"
        for attack, slack in ((CE(), 0), (DLR(), 1), (T(), 0)):
            own = run(attack.walk(model, x, goal, ball, seeded(0)), goal)
            assert int(own.success.sum()) >= int(usual.success.sum()) - slack
            if attack == CE():
                assert torch.equal(own.forwards, usual.forwards) and torch.equal(own.backwards, usual.backwards)
                both = own.success == usual.success
                assert float(own.loss[both].mean()) >= float(usual.loss[both].mean()) * (1 - 1e-3)


# Stopping early


@pytest.mark.parametrize("attack", [CE, DLR, T])
def test_stopping_early_gives_the_same_verdicts_for_less(attack, trained, ball):
    model, x, y = trained
    goal, ball = Goal.untargeted(y), Ball(ball.norm, ball.eps * 1.5)
    done = {"forwards": 0, "backwards": 0}

    def forward(module, inputs, output):
        done["forwards"] += len(output)
        if output.requires_grad:
            output.register_hook(lambda gradient: done.__setitem__("backwards", done["backwards"] + len(gradient)))

    whole = run(attack(steps=30).walk(model, x, goal, ball, seeded(0)), goal)
    handle, last = model.register_forward_hook(forward), None
    try:
        for step in attack(steps=30, early_stop=True).walk(model, x, goal, ball, seeded(0)):
            assert int(step.forwards.sum()) == done["forwards"] and int(step.backwards.sum()) == done["backwards"]
            assert torch.equal(step.reached, goal.reached(step.logits)) and step.x.shape == x.shape
            if last is not None:
                gone = last.reached
                assert torch.equal(step.x[gone], last.x[gone]) and torch.equal(step.loss[gone], last.loss[gone])
                assert torch.equal(step.forwards[gone], last.forwards[gone]) and not step.degenerate[gone].any()
            last = step
    finally:
        handle.remove()
    assert last.index == last.total
    assert int((last.reached == whole.success).sum()) >= 47  # later random starts differ
    assert 0 < int(last.reached.sum()) < 48 and int(last.forwards.sum()) < 0.9 * int(whole.forwards.sum())
    assert torch.allclose(model(last.x), last.logits, atol=1e-4)


def test_the_walk_ends_when_all_are_fooled_and_says_so(trained):
    model, x, y = trained
    steps = list(CE(early_stop=True, restarts=2).walk(model, x, Goal.untargeted(y), Ball("linf", 0.3), seeded(0)))
    assert steps[-1].reached.all() and len(steps) < 50
    assert [s.total for s in steps[:-1]] == [201] * (len(steps) - 1) and steps[-1].total == steps[-1].index


# The runs of APGD-T


def test_number_of_steps_runs_and_passes(ball, linear):
    model, x, goal = linear(torch.randn(6, 48, generator=seeded(0))), images(2), Goal.untargeted(zeros(2))
    attack = T(steps=4, restarts=2, draws=3, target_classes=2)
    steps = list(attack.walk(model, x, goal, ball, seeded(0)))
    assert [s.index for s in steps] == list(range(20)) and steps[0].total == 19
    assert [s.restart for s in steps] == [0] * 5 + [1] * 5 + [2] * 5 + [3] * 5
    assert steps[-1].forwards.tolist() == [3 * (1 + 20)] * 2 and steps[-1].backwards.tolist() == [3 * 16] * 2
    assert (attack.expected_frames, attack.expected_passes) == (20, 3 * 2 * 2 * 9)
    assert len(list(T(steps=4).walk(model, x, goal, ball, seeded(0)))) == 5 * 5  # there are but five wrong classes
    assert len(list(T(steps=4).walk(model, x, Goal.targeted(zeros(2)), ball, seeded(0)))) == 5


def test_the_likeliest_wrong_classes_come_first_and_the_true_one_never(linear):
    """Also for an image that is wrong from the start."""
    model = linear(torch.zeros(5, 48), torch.tensor([3.0, 1.0, 5.0, 4.0, 2.0]))
    region, goal = Ball("linf", 0.1).around(images(3)), Goal.untargeted(torch.tensor([2, 0, 4]))
    aims, forwards, backwards = T(target_classes=3)._aims(model, region, goal, seeded(0))
    assert (forwards, backwards) == (1, 0)
    assert torch.stack([aim.rival for aim in aims]).T.tolist() == [[3, 0, 4], [2, 3, 4], [2, 3, 0]]


@pytest.mark.parametrize("seed", range(3))
def test_the_pull_toward_a_rival_is_the_derivative_of_its_loss(seed):
    logits = torch.randn(60, 6, generator=seeded(seed), dtype=torch.float64).requires_grad_(True)
    goal = Toward(torch.arange(60) % 6, rival=(torch.arange(60) % 6 + 1 + torch.arange(60) // 12) % 6)
    ordered = logits.detach().sort(1, descending=True).values
    by_hand = [
        float((z[t] - z[y]) / (s[0] - (s[2] + s[3]) / 2))
        for z, s, y, t in zip(logits.detach(), ordered, goal.labels, goal.rival, strict=True)
    ]
    assert goal.loss(logits).tolist() == pytest.approx(by_hand)
    (gradient,) = torch.autograd.grad(goal.loss(logits).sum(), logits)
    whole = goal.logit_grad(logits.detach()) * goal.log_grad_norm(logits.detach()).exp()[:, None]
    assert torch.allclose(whole, gradient, rtol=1e-9, atol=1e-12)
    assert goal.rows(torch.tensor([3])).rival.tolist() == [4] and goal.repeated(2).rival.tolist()[:4] == [1, 1, 2, 2]


def test_the_reported_loss_is_the_untargeted_one_averaged_over_the_draws(linear):
    class Wavering(linear):
        """Every second draw of an image sees other weights."""

        def forward(self, pixels):
            odd = (torch.arange(len(pixels)) % 2 == 1)[:, None]
            return torch.where(odd, super().forward(pixels) * 3 - 1, super().forward(pixels.flip(1)))

    model, x = Wavering(torch.randn(5, 48, generator=seeded(0))), images(3)
    goal = Goal.untargeted(torch.arange(3))
    for step in T(steps=3, draws=4, target_classes=2).walk(model, x, goal, Ball("linf", 0.03), seeded(0)):
        each = goal.repeated(4).loss(model(step.x.repeat_interleave(4, 0)), "dlr").view(3, 4)
        assert torch.allclose(step.loss, each.mean(1), atol=1e-5)


# What is refused


@pytest.mark.parametrize(
    ("attack", "classes", "least"), [(DLR(), 2, 3), (T(), 3, 4), (T(), 2, 4)], ids=["dlr-2", "t-3", "t-2"]
)
def test_too_few_classes_for_the_loss(attack, classes, least, linear, ball):
    model = linear(torch.randn(classes, 48, generator=seeded(0)))
    with pytest.raises(InvalidValue, match=rf"DLR loss must have at least {least} classes to compare; got {classes}\."):
        list(attack.walk(model, images(2), Goal.untargeted(zeros(2)), ball, seeded(0)))


def test_a_flat_dlr_loss_of_a_fooled_image_is_no_dead_gradient(linear, masked):
    """The true class comes third: DLR is 1 all around, and no random step is taken for it."""
    weight = torch.randn(4, 48, generator=seeded(0)) / 100
    for model, draws in ((linear(weight), 1), (masked(weight, p=0.9), 6)):
        with torch.no_grad():
            model.head.bias.copy_(torch.tensor([1.0, 3.0, 5.0, 0.0]))
        steps = list(
            DLR(steps=5, draws=draws).walk(model, images(2), Goal.untargeted(zeros(2)), Ball("linf", 0.03), seeded(0))
        )
        assert all(s.reached.all() and not s.degenerate.any() for s in steps)
        assert all(s.loss.tolist() == [1, 1] for s in steps)
