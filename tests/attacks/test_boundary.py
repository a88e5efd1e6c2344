"""What C&W, DeepFool and FAB share: rivals, rounding, the projection onto a linear boundary; and what all three must keep."""

import pytest
import torch
from scipy.optimize import linprog

from explorer.attacks import ATTACKS
from explorer.attacks.boundary import leads, nearest, refine, rounding, shortest
from explorer.core import Classifier, Goal, seeded
from tests.attacks.optimum import SHAPE, clipped, images, optimum, smallest, weights

QUICK = {"fab": {"steps": 15, "target_classes": 5}, "cw": {"searches": 5, "steps": 50}, "deepfool": {}}
KINDS = [("cw", "l2"), ("deepfool", "l2"), ("deepfool", "linf"), ("fab", "l2"), ("fab", "linf")]


@pytest.fixture(params=["linf", "l2"])
def norm(request):
    return request.param


@pytest.fixture(params=KINDS, ids="-".join)
def kind(request):
    key, norm = request.param
    return ATTACKS[key](**QUICK[key]), norm


class Changed(Classifier):
    """The network `inner` with other logits."""

    def __init__(self, inner, change):
        super().__init__(
            [0.5] * inner.input_shape[0], [0.25] * inner.input_shape[0], inner.input_shape, inner.num_classes
        )
        self.inner, self.change = inner, change
        self.freeze()

    def forward(self, pixels):
        return self.change(self.inner(pixels))


# The projection


def cases(n=40, size=7, seed=0):
    """way, need, x of small problems, some without a solution in the box, with zeros and pixels at the limits."""
    rng = seeded(seed)
    way = torch.randn(n, size, generator=rng, dtype=torch.float64)
    way[::3, 0] = 0
    x = (2 * torch.rand(n, size, generator=rng, dtype=torch.float64) - 0.5).clamp(0, 1)
    return way, 2 * torch.randn(n, generator=rng, dtype=torch.float64), x


def test_the_projection_is_the_shortest_way_in_linf():
    way, need, x = cases()
    found, solved = shortest(way, need, x, "linf"), 0
    for w, c, image, d in zip(way, need, x, found, strict=True):
        n = len(w)  # variables: d and the bound t on its entries, which is minimised
        signs = torch.cat([torch.eye(n), -torch.eye(n)]).double()
        least = linprog(
            [0.0] * n + [1.0],
            A_ub=torch.cat([signs, -torch.ones(2 * n, 1)], 1).numpy(),
            b_ub=[0.0] * (2 * n),
            A_eq=[[*w.tolist(), 0.0]],
            b_eq=[float(c)],
            bounds=[*zip((-image).tolist(), (1 - image).tolist(), strict=True), (0, None)],
        )
        if least.status == 0:
            solved += 1
            assert float(w @ d) == pytest.approx(float(c), abs=1e-9)
            assert float(d.abs().max()) == pytest.approx(least.fun, abs=1e-9)
    assert 10 < solved < 40


def test_the_projection_is_the_shortest_way_in_l2():
    way, need, x = cases(seed=1)
    found, solved = shortest(way, need, x, "l2"), 0
    for w, c, image, d in zip(way, need, x, found, strict=True):
        expected = clipped(w * c.sign(), float(c.abs()), image, "l2")
        if expected is not None:
            solved += 1
            assert torch.allclose(d, expected, atol=1e-9)
    assert 10 < solved < 40


def test_the_projection_stays_in_the_box_and_goes_as_far_as_it_can(norm):
    way, need, x = cases(seed=2)
    found = shortest(way, need, x, norm)
    assert bool(((x + found >= -1e-12) & (x + found <= 1 + 1e-12)).all()) and bool((found[way == 0] == 0).all())
    most = torch.where(way * need[:, None] > 0, 1 - x, -x) * (way != 0)
    short = (way * most).sum(1).abs() < need.abs()
    assert bool(short.any()) and torch.allclose(found[short], most[short])
    assert torch.allclose((way * found).sum(1)[~short], need[~short])
    assert not bool(shortest(way, torch.zeros_like(need), x, norm).any())


def test_the_projection_in_many_dimensions(norm):
    rng = seeded(0)
    way, x = torch.randn(6, 3072, generator=rng).double(), torch.rand(6, 3072, generator=rng).double()
    need = torch.tensor([1e-6, 0.1, -3.0, 30.0, 300.0, -600.0]).double()
    for w, c, image, d in zip(way, need, x, shortest(way, need, x, norm), strict=True):
        assert torch.allclose(d, clipped(w * c.sign(), float(c.abs()), image, norm), atol=1e-8)


def test_what_the_open_optimum_is(linear, norm):
    """m_k / ||w_k - w_y|| in L2, m_k / ||w_k - w_y||_1 in Linf: the tests' oracle, where nothing is clipped."""
    model, x = linear(weights(2)), images(4)
    way = model.weight[1] - model.weight[0]
    expected = (x.double().flatten(1) @ way).abs() / (way.norm() if norm == "l2" else way.abs().sum())
    assert torch.allclose(optimum(model, x, model(x).argmax(1), norm), expected, rtol=1e-9)


# Rivals and rounding


def test_the_label_is_no_rival_of_its_own_and_a_class_at_minus_infinity_is_infinitely_far():
    logits = torch.tensor([[3.0, -torch.inf, 1.0, 2.0], [5.0, 4.0, -torch.inf, -torch.inf]])
    goal = Goal.untargeted(torch.tensor([2, 0]))
    rivals = goal.rivals(logits, 9)
    assert rivals.tolist()[0] == [0, 3, 1] and rivals[1, 0] == 1 and sorted(rivals[1].tolist()) == [1, 2, 3]
    far = nearest(leads(logits, goal, rivals), torch.ones(2, 3, 1, 2, 2), "l2")
    assert far.lengths.tolist() == [[1.0, 0.5, torch.inf], [0.5, torch.inf, torch.inf]] and not bool(far.lost.any())


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
@pytest.mark.parametrize("targeted", [False, True])
def test_rounding_is_measured_by_the_spread_of_the_logits(scale, targeted):
    """Ten units in 1e-6; a constant in all logits costs its own last digit, a class that is switched off nothing, or little."""
    goal, logits = Goal(torch.tensor([0]), targeted), scale * torch.tensor([[5.0, 5.0, 1.0, -5.0]])
    off = logits.masked_fill(logits < 0, -torch.inf)
    lost = [float(rounding(goal, z)) / scale for z in (logits, off, logits + 1e4 * scale)]
    assert lost[0] == pytest.approx(2.06e-5, rel=0.01) and lost[1] == pytest.approx(8.6e-6, rel=0.01)
    assert lost[2] == pytest.approx(1.2e-3, rel=0.02)
    assert float(rounding(goal, logits.masked_fill(logits < 0, -1e9 * scale))) < 2e-3 * scale


def test_the_line_search_closes_in_from_both_sides():
    """On sin, whose slope changes: three secants end at the zero, on the side beyond it."""
    seen = []

    def look(x):
        seen.append(x.flatten())
        margin = (x.flatten() - 0.3).sin()
        return margin, margin > 0

    ends = torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1)
    refine(look, ends, (torch.tensor([-0.3]).sin(), torch.tensor([0.7]).sin()), 3)
    assert len(seen) == 3 and 0.3 < float(seen[-1]) < 0.301


# What all three keep


def test_logits_of_any_size_and_place_give_the_same_distances(trained, kind):
    attack, norm = kind
    model, x, y = trained
    x, goal = x[:6], Goal.untargeted(y[:6])
    plain = smallest(attack, model, x, goal, norm)
    for change in (lambda z: 1e-6 * z, lambda z: 1e4 * z, lambda z: z + 1e4):
        found = smallest(attack, Changed(model, change), x, goal, norm)
        ratio = found.distance / plain.distance
        assert bool(found.success.all()) and float(ratio.max()) < 1.02 and float(ratio.mean()) < 1.005


def test_a_class_at_minus_infinity_is_left_out(linear, kind):
    """As if there were no such class; with it as target there is no success, and no pixel is lost."""
    attack, norm = kind
    model, x = linear(weights(5)), images(8, width=1.0)

    def off(z, value=-torch.inf):
        return torch.cat([z[:, :4], torch.full_like(z[:, 4:], value)], 1)

    without = linear(weights(5)[:4])
    y = without(x).argmax(1)
    found = smallest(attack, Changed(model, off), x, Goal.untargeted(y), norm)
    assert bool(found.success.all()) and float((found.distance / optimum(without, x, y, norm)).max()) < 1.05
    never = smallest(attack, Changed(model, off), x[:2], Goal.targeted(torch.tensor([4, 4])), norm)
    assert not bool(never.success.any()) and bool(never.x.isfinite().all())


class Dazzled(Changed):
    """Logits and slopes (`change`: the logits alone) are lost where the image is bright."""

    def forward(self, pixels):
        bright = (pixels.flatten(1).mean(1) > 0.8)[:, None]
        return self.change(self.inner(pixels), bright)


@pytest.mark.parametrize(
    "change",
    [
        lambda z, bright: z * torch.where(bright, torch.nan, 1.0),
        lambda z, bright: z + torch.where(bright, torch.nan, 0.0),
    ],
    ids=["slopes, too", "logits alone"],
)
def test_an_image_whose_logits_are_not_finite_fails_and_the_others_do_not(linear, kind, change):
    attack, norm = kind
    inner, x = linear(weights(4)), images(6)
    y = inner(x).argmax(1)
    x[0] = 0.9  # so bright wherever a walk goes
    found = smallest(attack, Dazzled(inner, change), x, Goal.untargeted(y), norm)
    assert bool(found.x.isfinite().all()) and found.success.tolist() == [False] + [True] * 5


@pytest.mark.parametrize("key", ["cw", "fab"])
def test_a_success_is_one_when_the_image_is_looked_at_alone(trained, key, norm):
    """However near the boundary: a margin that is the last digit of a batch's arithmetic is none."""
    if norm not in ATTACKS[key].norms:
        return
    model, x, y = trained
    goal = Goal.untargeted(y)
    near = smallest(ATTACKS["deepfool"](), model, x, goal, norm).x
    x = x + 0.999 * (near - x)
    right = ~goal.reached(model(x))
    x, goal = x[right], goal.rows(right)
    more = {"search_steps": 20} if key == "fab" else {"halvings": 20}
    found = smallest(ATTACKS[key](**QUICK[key] | more), model, x, goal, norm)
    logits = torch.cat([model(image[None]) for image in found.x])
    assert len(x) > 10 and bool(found.success.all()) and bool(goal.reached(logits).all())


class Bent(Classifier):
    """Random weights around a steep tanh: boundaries curve away, and meet at ridges."""

    def __init__(self):
        super().__init__([0.5] * 3, [0.25] * 3, SHAPE, 10)
        rng = seeded(0)
        self.first = torch.randn(32, 48, generator=rng) / 48**0.5 * 9
        self.last = torch.randn(10, 32, generator=rng) / 32**0.5

    def forward(self, pixels):
        return torch.tanh((pixels.flatten(1) - 0.5) @ self.first.T) @ self.last.T


def test_whatever_class_deepfool_reaches_the_others_reach(norm):
    model, x = Bent(), torch.rand(32, *SHAPE, generator=seeded(1))
    goal = Goal.targeted((model(x).argmax(1) + 1 + torch.arange(32) % 9) % 10)
    reached = smallest(ATTACKS["deepfool"](), model, x, goal, norm).success
    assert int(reached.sum()) > 28
    for attack in (ATTACKS["fab"](), ATTACKS["cw"](searches=5, steps=50)):
        if norm in attack.norms:
            assert bool(smallest(attack, model, x, goal, norm).success[reached].all())
