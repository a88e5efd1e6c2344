"""Noise and random search: where their points lie, that the best is kept, and that finished images cost nothing."""

import math
from functools import partial

import pytest
import torch
from scipy.stats import chi2

from explorer.attacks import ATTACKS
from explorer.core import Ball, Classifier, Goal, run, seeded
from tests.attacks.optimum import images

UNIFORM, GAUSSIAN, SEARCH = ATTACKS["uniform-noise"], ATTACKS["gaussian-noise"], ATTACKS["random-search"]
BASELINES = [UNIFORM(tries=30), GAUSSIAN(tries=30), SEARCH(steps=29)]
SHAPE = (3, 4, 4)
SIZE = 48
interior = partial(images, seed=12)


@pytest.fixture
def model(linear):
    return linear(torch.randn(2, SIZE, generator=seeded(11)))


def safe(model, n):
    """n copies of an image that lies too deep in class 0 for any ball here, and the goal to leave that class."""
    w = (model.weight[1] - model.weight[0]).float()
    x = (0.5 - 0.3 * w.sign()).view(1, *SHAPE).expand(n, -1, -1, -1).clone()
    return x, Goal.untargeted(torch.zeros(n, dtype=torch.int64))


class Counting(Classifier):
    """Class 1 as soon as the first pixel exceeds a threshold; remembers how many images each pass held."""

    def __init__(self, threshold):
        super().__init__([0.5], [0.25], SHAPE, 2)
        self.threshold, self.batches = threshold, []
        self.head = torch.nn.Identity()

    def embed(self, normalised):
        pixel = normalised[:, 0, 0, 0] * 0.25 + 0.5
        self.batches.append(len(pixel))
        return torch.stack([torch.zeros_like(pixel), pixel - self.threshold], 1)


# Where the points lie


def first_points(attack, model, ball, n=4000):
    x, goal = safe(model, n)
    start, *_ = attack.walk(model, x, goal, ball, seeded(0))
    return (start.x - x).double().flatten(1)


def test_uniform_noise_fills_the_ball_evenly(ball, model):
    delta = first_points(UNIFORM(tries=1), model, ball)
    assert abs(float(delta.mean())) < 0.01 * ball.eps
    if ball.norm == "linf":
        share = (delta.abs() < 0.5 * ball.eps).double().mean()
        assert float(share) == pytest.approx(0.5, abs=0.01)
        assert float(delta.pow(2).mean().sqrt()) == pytest.approx(ball.eps / math.sqrt(3), rel=0.01)
    else:
        length = delta.norm(dim=1) / ball.eps
        for radius in (0.95, 0.98, 0.99):
            assert float((length < radius).double().mean()) == pytest.approx(radius**SIZE, abs=0.02)


def test_gaussian_noise_is_as_strong_before_the_projection(ball, model):
    """Linf: a Gaussian of deviation eps / sqrt(3), cut at sqrt(3) deviations. L2: the share inside is chi-squared's."""
    delta = first_points(GAUSSIAN(tries=1), model, ball)
    assert abs(float(delta.mean())) < 0.01 * ball.eps
    if ball.norm == "linf":
        cut = (delta.abs() > 0.9999 * ball.eps).double().mean()
        assert float(cut) == pytest.approx(math.erfc(math.sqrt(3 / 2)), abs=0.005)
        inner = (delta.abs() < ball.eps / math.sqrt(3)).double().mean()
        assert float(inner) == pytest.approx(math.erf(math.sqrt(1 / 2)), abs=0.005)
    else:
        inside = (delta.norm(dim=1) < 0.999 * ball.eps).double().mean()
        assert float(inside) == pytest.approx(chi2.cdf((SIZE + 2) * 0.999**2, SIZE), abs=0.025)


def test_random_search_starts_at_the_balls_edge(ball, model):
    delta = first_points(SEARCH(steps=1), model, ball, n=200)
    size = delta.abs() if ball.norm == "linf" else delta.norm(dim=1)
    assert torch.allclose(size, torch.full_like(size, ball.eps), rtol=1e-3)


# The best is kept


@pytest.mark.parametrize("attack", BASELINES, ids=str)
def test_each_step_is_the_best_so_far(attack, ball, model):
    x, goal = safe(model, 6)
    steps = list(attack.walk(model, x, goal, ball, seeded(0)))
    assert len(steps) == 30 and [s.index for s in steps] == list(range(30))
    for a, b in zip(steps, steps[1:], strict=False):
        assert (b.loss >= a.loss).all() and torch.equal(a.x != b.x, (a.x != b.x) & (b.loss > a.loss).view(-1, 1, 1, 1))
    assert int((steps[-1].loss > steps[0].loss).sum()) >= 4  # a first try may be the best of 30
    outcome = run(iter(steps), goal)
    assert torch.equal(outcome.x, steps[-1].x) and torch.equal(outcome.loss, steps[-1].loss)


@pytest.mark.parametrize("attack", [UNIFORM, GAUSSIAN])
def test_the_best_of_many_is_what_the_tries_one_by_one_give(attack, ball, model):
    """With one image the draws of a walk are those of the generator in a row."""
    x, goal = safe(model, 1)
    rng = seeded(3)
    singles = [next(iter(attack(tries=1).walk(model, x, goal, ball, rng))) for _ in range(12)]
    best = max(singles, key=lambda s: float(s.loss))
    *_, end = attack(tries=12).walk(model, x, goal, ball, seeded(3))
    assert torch.equal(end.x, best.x) and torch.equal(end.loss, best.loss)


def test_on_a_linear_network_search_nears_the_optimum_and_noise_does_not(ball, model):
    w = model.weight[1] - model.weight[0]
    best = ball.eps * float(w.abs().sum() if ball.norm == "linf" else w.norm())
    x, goal = safe(model, 4)
    gained = {}
    for attack in (UNIFORM(tries=400), SEARCH(steps=400)):
        outcome = run(attack.walk(model, x, goal, ball, seeded(0)), goal)
        gained[type(attack)] = (outcome.loss - goal.margin(model(x))).double() / best
    assert (gained[SEARCH] > 0.75).all() and (gained[SEARCH] <= 1 + 1e-4).all()
    assert (gained[UNIFORM] < 0.6).all()


def test_a_targeted_search_reaches_its_class(linear):
    model, x = linear(torch.randn(5, SIZE, generator=seeded(11))), interior(5)
    goal = Goal.targeted((model(x).argmax(1) + 2) % 5)
    assert run(SEARCH(steps=500).walk(model, x, goal, Ball("linf", 0.25), seeded(0)), goal).success.all()


# What it costs


@pytest.mark.parametrize("attack", [UNIFORM(tries=40), GAUSSIAN(tries=40), SEARCH(steps=39, share=0.5)], ids=str)
def test_an_image_that_has_reached_its_goal_costs_no_more_and_stays(attack):
    ball, net = Ball("linf", 0.1), Counting(0.5).freeze()
    x = torch.full((12, *SHAPE), 0.45)
    x[:3] = 0.2  # out of reach
    goal = Goal.untargeted(torch.zeros(12, dtype=torch.int64))
    steps = list(attack.walk(net, x, goal, ball, seeded(0)))
    assert steps[-1].reached.tolist() == [False] * 3 + [True] * 9
    assert int(steps[-1].forwards.sum()) == sum(net.batches) and steps[-1].forwards[:3].tolist() == [40] * 3
    assert (steps[-1].forwards[3:] < 40).all() and net.batches[-1] == 3
    for i in range(3, 12):
        found = next(s.index for s in steps if s.reached[i])
        assert int(steps[-1].forwards[i]) == found + 1
        assert all(torch.equal(s.x[i], steps[found].x[i]) for s in steps[found:])


def test_once_all_are_done_nothing_is_evaluated(ball):
    net = Counting(-1.0).freeze()
    x, goal = interior(4), Goal.untargeted(torch.zeros(4, dtype=torch.int64))
    for attack in BASELINES:
        net.batches.clear()
        steps = list(attack.walk(net, x, goal, ball, seeded(0)))
        assert net.batches == [4] and len(steps) == 1 and steps[-1].reached.all()


@pytest.mark.parametrize(
    "attack", [UNIFORM(tries=5, draws=4), GAUSSIAN(tries=5, draws=4), SEARCH(steps=4, draws=4)], ids=str
)
def test_draws_are_averaged_and_counted(attack, ball, masked):
    model = masked(torch.randn(2, SIZE, generator=seeded(11)), p=0.8)
    x, goal = safe(model, 3)
    *_, end = attack.walk(model, x, goal, ball, seeded(0))
    assert end.forwards.tolist() == [20] * 3 and end.backwards.tolist() == [0] * 3 and attack.expected_passes == 20


def test_hidden_gradients_do_not_stop_a_search(linear):
    """Rounding before the network: no slope anywhere, so PGD walks at random, yet the output still tells the way."""

    class Rounding(linear):
        def embed(self, normalised):
            return super().embed(((normalised * 16).round() / 16).detach() + 0 * normalised)

    model = Rounding(torch.randn(2, SIZE, generator=seeded(11)), torch.tensor([4.0, 0.0]))
    x = torch.full((16, *SHAPE), 0.5)
    goal = Goal.untargeted(model(x).argmax(1))
    ball = Ball("linf", 0.12)
    blind = run(ATTACKS["pgd"](steps=20).walk(model, x, goal, ball, seeded(0)), goal)
    seeing = run(SEARCH().walk(model, x, goal, ball, seeded(0)), goal)
    assert blind.degenerate_share == 1.0
    assert seeing.success.all() and int(blind.success.sum()) <= 2


@pytest.mark.parametrize("attack", BASELINES, ids=str)
def test_an_output_that_is_no_number_holds_no_place(attack, ball, linear):
    class Poisoned(linear):
        def embed(self, normalised):
            features = super().embed(normalised)
            return features * float("nan") if self.passes == 1 else features

    model = Poisoned(torch.randn(2, SIZE, generator=seeded(11)))
    x, goal = safe(model, 3)
    steps = list(attack.walk(model, x, goal, ball, seeded(0)))
    assert steps[0].loss.isnan().all() and not steps[0].reached.any()
    assert torch.isfinite(torch.stack([s.loss for s in steps[1:]])).all()
