"""Threat models: exact projections against a solver, one eps for each image, and parameters in the place of pixels."""

from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.optimize import lsq_linear, minimize

from explorer.core import L0, L1, L2, Ball, Goal, InvalidValue, Linf, RotationShift, Step, run, seeded

CASES, SHAPE = 200, (2, 1, 4)  # two channels, four pixels
SPREAD = {"linf": 0.3, "l2": 0.8, "l1": 1.5}  # eps is drawn up to here


def cases(norm):
    """(x0, v, eps): images with black and white values, points in and far out of the box, an eps for each."""
    rng = seeded(0)
    x0 = (torch.rand(CASES, *SHAPE, generator=rng) * 1.6 - 0.3).clamp(0, 1)
    v = x0 + torch.randn(x0.shape, generator=rng) * torch.tensor([0.1, 0.5, 2.0, 0.5]).repeat(CASES // 4).view(
        -1, 1, 1, 1
    )
    if norm == "l0":
        return x0, v, torch.randint(1, 4, (CASES,), generator=rng)
    return x0, v, 0.05 + SPREAD[norm] * torch.rand(CASES, generator=rng, dtype=torch.float64)


def solved(norm, x0, v, eps):
    """The nearest point to v (D,) of ball and box, by a general solver."""
    if norm == "linf":
        low, high = np.maximum(x0 - eps, 0), np.minimum(x0 + eps, 1)
        return lsq_linear(np.eye(len(v)), v, (low, high)).x
    if norm == "l2":
        return minimize(
            lambda z: 0.5 * np.sum((z - v) ** 2), x0, jac=lambda z: z - v, bounds=[(0, 1)] * len(v), method="SLSQP",
            constraints={"type": "ineq", "fun": lambda z: eps**2 - np.sum((z - x0) ** 2), "jac": lambda z: -2 * (z - x0)},
            options={"ftol": 1e-14, "maxiter": 500},
        ).x  # fmt: skip
    both = np.concatenate([np.eye(len(v)), -np.eye(len(v))], 1)  # z = x0 + up - down
    found = minimize(
        lambda u: 0.5 * np.sum((x0 + both @ u - v) ** 2), np.zeros(2 * len(v)), jac=lambda u: both.T @ (x0 + both @ u - v),
        bounds=[(0, room) for room in (*(1 - x0), *x0)], method="SLSQP", options={"ftol": 1e-14, "maxiter": 500},
        constraints={"type": "ineq", "fun": lambda u: eps - u.sum(), "jac": lambda u: -np.ones(len(u))},
    )  # fmt: skip
    return x0 + both @ found.x


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_the_nearest_point_is_a_solvers(norm):
    x0, v, eps = cases(norm)
    region = Ball(norm, eps).around(x0)
    found = region.nearest(v)
    assert region.contains(found).all() and (region.contains(region.project(v))).all()
    for mine, image, point, size in zip(
        *(t.double().flatten(1).numpy() for t in (found, x0, v)), eps.tolist(), strict=True
    ):
        theirs = solved(norm, image, point, size)
        assert np.linalg.norm(mine - point) <= np.linalg.norm(theirs - point) + 1e-5
        assert np.abs(mine - theirs).max() < 1e-4  # float32, and the solver's own tolerance
    if norm != "l2":
        assert torch.equal(region.project(v), found)


def test_in_l0_the_nearest_point_is_the_best_of_all_choices_of_pixels():
    x0, v, eps = cases("l0")
    found = L0(eps).project(v, x0)
    assert L0(eps).around(x0).contains(found).all()
    for mine, image, point, count in zip(found, x0, v, eps.tolist(), strict=True):
        best = float("inf")
        for chosen in combinations(range(SHAPE[2]), count):
            there = image.clone()
            there[..., list(chosen)] = point[..., list(chosen)].clamp(0, 1)
            best = min(best, float((there - point).double().norm()))
        assert float((mine - point).double().norm()) <= best + 1e-9


def test_in_l1_the_budget_goes_where_there_is_room():
    """To project first and to clip then would give (0, 0.5): most of eps spent on a value that cannot move."""
    x0, change = torch.tensor([0.0, 0.5]).view(1, 1, 1, 2), torch.tensor([-1.0, 0.3]).view(1, 1, 1, 2)
    assert L1(0.5).project(x0 + change, x0).flatten().tolist() == pytest.approx([0, 0.8])


@pytest.mark.parametrize("ball", [L1(1e-3), L1(0.5), L1(12.0), L1(500.0), L0(1), L0(10), L0(9999)], ids=str)
def test_sparse_points_are_inside_without_tolerance(ball):
    rng = seeded(0)
    x0 = torch.cat([torch.rand(3, 3, 32, 32, generator=rng), *(torch.full((1, 3, 32, 32), v) for v in (0.0, 0.5, 1.0))])
    noise, region = torch.randn(x0.shape, generator=rng), ball.around(x0)
    for x in (x0, x0 + 1e-3 * noise, x0 + noise, 1 - x0.round(), x0 + 1e6 * noise, torch.zeros_like(x0)):
        assert region.contains(region.project(x)).all()
    assert region.contains(region.sample(rng)).all()
    assert torch.equal(region.project(x0), x0) and not region.contains(x0 + 2).any()
    if ball.norm == "l1" and ball.eps < 100:
        assert region.distance(region.project(x0 + noise)).tolist() == pytest.approx([ball.eps] * 6, rel=1e-4)


def test_sparse_samples_fill_their_ball():
    """L1 in 2-D: P(|change| <= r eps) = r^2. L0: eps pixels of a random colour each."""
    x0 = torch.full((20000, 1, 1, 2), 0.5)
    far = L1(0.1).distance(L1(0.1).sample(x0, seeded(0)), x0) / 0.1
    assert float((far <= 0.5**0.5).double().mean()) == pytest.approx(0.5, abs=0.015)
    changed = (L0(3).sample(torch.zeros(2000, 3, 4, 4), seeded(0)) > 0).any(1).double()
    assert changed.flatten(1).sum(1).unique().tolist() == [3] and changed.mean(0).flatten().tolist() == pytest.approx(
        [3 / 16] * 16, abs=0.05
    )


@pytest.mark.parametrize(("ball", "expected"), [(L1(1), [0, 0, -1, 0]), (L0(1), [1, 0, -1, 0])], ids=["l1", "l0"])
def test_the_steepest_sparse_step(ball, expected):
    """Two channels of two pixels: the largest slope, or the pixel with most of it."""
    grad = torch.tensor([2.0, 1.0, -3.0, 0.5]).view(1, 2, 1, 2)
    assert ball.steepest(grad).flatten().tolist() == expected
    assert not ball.steepest(torch.zeros_like(grad)).any()


# One eps for each image


@pytest.mark.parametrize("make", [Linf, L2, L1, L0])
def test_each_image_has_its_own_eps(make):
    sizes, rng = [1, 2, 3] if make is L0 else [0.01, 0.1, 0.5], seeded(0)
    x0, far = torch.rand(3, 3, 6, 6, generator=rng), torch.rand(3, 3, 6, 6, generator=rng) * 4 - 2
    together = make(torch.tensor(sizes, dtype=torch.float64)).around(x0)
    for i, eps in enumerate(sizes):
        alone = make(eps).around(x0[i : i + 1])
        assert torch.allclose(together.project(far)[i], alone.project(far[i : i + 1])[0], atol=1e-6)
        assert torch.equal(together.rows(torch.tensor([i])).project(far[i : i + 1]), together.project(far)[i : i + 1])
    inside = together.sample(rng)
    assert together.contains(inside).all() and together.contains(together.project(far)).all()
    assert together.contains(together.rows(torch.tensor([2])).sample(rng).expand(3, -1, -1, -1)).tolist()[:2] == [
        False,
        False,
    ]


def test_a_tensor_of_eps_is_checked():
    with pytest.raises(InvalidValue, match=r"eps must lie in \[1e-05, 1\] in pixel units; got 2\.0"):
        Linf(torch.tensor([0.1, 2.0]))
    with pytest.raises(InvalidValue, match="eps must be a number or hold one for each of 3 images; got 2"):
        L2(torch.tensor([0.1, 0.2])).around(torch.rand(3, 1, 2, 2))
    assert Linf(0.1).rows(torch.tensor([0])) == Linf(0.1) == Ball("linf", 0.1)
    assert L2(torch.tensor([0.1, 0.2])).rows(torch.tensor([False, True])).eps.tolist() == pytest.approx([0.2])


@pytest.mark.parametrize("eps", [0, 0.5, 2.5, -1, 10_001, float("nan"), True, "1"])
def test_in_l0_eps_is_a_whole_number_of_pixels(eps):
    with pytest.raises(InvalidValue, match=r"eps must be a whole number of pixels in \[1, 10000\]; got"):
        L0(eps)


# Transformations


def picture(n=4, shape=(3, 9, 12)):
    return torch.rand(n, *shape, generator=seeded(0))


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (2, 7, 10)], ids=str)
def test_no_rotation_and_no_shift_give_the_picture_bit_for_bit(shape):
    region = RotationShift().around(picture(5, shape))
    assert torch.equal(region.apply(region.origin), region.x0) and region.origin.shape == (5, 3)
    assert region.distance(region.origin).tolist() == [0] * 5


def test_whole_pixels_are_moved_exactly_and_black_comes_in():
    region = RotationShift(0, 3).around(picture())
    moved = region.apply(torch.tensor([0.0, 2.0, -1.0]).expand(4, 3))  # two to the right, one up
    assert torch.equal(moved[:, :, :-1, 2:], region.x0[:, :, 1:, :-2])
    assert moved[:, :, -1].max() < 1e-12 and moved[:, :, :, :2].max() < 1e-12


def test_a_quarter_turn_is_counterclockwise():
    region = RotationShift(90, 0).around(picture(2, (3, 8, 8)))
    turned = region.apply(torch.tensor([90.0, 0.0, 0.0]).expand(2, 3))
    assert torch.allclose(turned, torch.rot90(region.x0, 1, (2, 3)), atol=1e-6)


def test_the_picture_is_differentiable_in_the_parameters():
    region = RotationShift().around(picture(2, (1, 5, 6)).double())
    theta = torch.tensor([[7.0, 0.3, -0.6], [-11.0, 1.2, 0.4]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(region.apply, theta)


@pytest.mark.parametrize("eps", [1.0, torch.tensor([0.0, 0.1, 0.5, 1.0])], ids=["one", "each"])
def test_parameters_are_allowed_up_to_eps(eps):
    threat, far = RotationShift(30, 3, eps), torch.tensor([1.0, -1.0, 1.0]).expand(4, 3) * 100
    region, whole = threat.around(picture()), torch.tensor([30.0, 3.0, 3.0])
    most = whole * (eps.view(-1, 1) if isinstance(eps, torch.Tensor) else eps)
    edge = region.project(far)
    assert torch.allclose(edge, most * torch.tensor([1.0, -1.0, 1.0]), rtol=1e-6) and region.contains(edge).all()
    assert region.contains(region.sample(seeded(0))).all() and not region.contains(far).any()
    assert torch.allclose(region.distance(edge), (edge / whole).abs().amax(1).double())
    assert torch.equal(region.rows(torch.tensor([2])).project(far[2:3]), edge[2:3])
    turned = RotationShift(30, 0).around(picture()).distance(torch.tensor([[0.0, 0.1, 0.0]]).expand(4, 3))
    assert turned.isinf().all(), "no shift is allowed at all"


def test_a_walk_over_parameters_is_run_as_any_other():
    """The model sees one pixel, which is bright three places further left: the shift by three is found, and kept."""
    x0 = torch.zeros(2, 1, 5, 9)
    x0[:, :, 2, 1] = 1.0
    region, goal = RotationShift(0, 4).around(x0), Goal.untargeted(torch.zeros(2, dtype=torch.int64))

    def walk():
        none = torch.zeros(2, dtype=torch.int64)
        for index in range(5):
            theta = torch.tensor([0.0, float(index), 0.0]).expand(2, 3).clone()
            x = region.apply(theta)
            logits = torch.stack([torch.full((2,), 0.5), x[:, 0, 2, 4]], 1)
            values = goal.loss(logits), region.distance(theta), goal.reached(logits), none > 0, none + index + 1, none
            yield Step(index, 4, x, logits, *values, theta=theta)

    outcome = run(walk(), goal)
    assert outcome.success.all() and outcome.theta.tolist() == [[0, 3, 0]] * 2
    assert outcome.distance.tolist() == [0.75] * 2 and torch.equal(outcome.x, region.apply(outcome.theta))


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"angle": 200}, r"angle must lie in \[0, 180\]; got 200"),
        ({"shift": float("nan")}, r"shift must lie in \[0, 100\]; got nan"),
        ({"angle": 0, "shift": 0}, "angle or shift must be above 0"),
        ({"eps": 2}, r"eps must lie in \[0, 1\]; got 2"),
    ],
)
def test_transformations_that_are_refused(values, sentence):
    with pytest.raises(InvalidValue, match=sentence):
        RotationShift(**values)
