"""The ball: exactly inside, rounding included; uniform starts; unit steps."""

import math

import pytest
import torch

from explorer.core import Ball, InvalidValue, seeded

EPS = {"linf": (1e-5, 1 / 255, 8 / 255, 0.1, 1.0), "l2": (1e-5, 1e-3, 0.1, 0.5, 3.0, 10.0, 100.0)}
BALLS = [Ball(norm, eps) for norm, choices in EPS.items() for eps in choices]
SHAPES = [(1, 1, 1), (1, 2, 2), (1, 28, 28), (3, 32, 32)]
LARGE = [Ball("linf", 8 / 255), Ball("l2", 1e-3), Ball("l2", 3.0)]


def originals(shape, rng):
    """Random, black, white, mid-grey and 8-bit images."""
    mixed = torch.rand(2, *shape, generator=rng)
    eight_bit = (torch.rand(2, *shape, generator=rng) * 255).round() / 255
    flat = [torch.full((1, *shape), value) for value in (0.0, 0.5, 1.0)]
    return torch.cat([mixed, eight_bit, *flat])


def candidates(x0, rng):
    """Near, far, constant and absurd points."""
    noise = torch.randn(x0.shape, generator=rng)
    return [x0, x0 + 1e-3 * noise, x0 + noise, torch.rand(x0.shape, generator=rng), 1 - x0.round(), 100 * noise]


def assert_inside(ball, x, x0):
    delta = (x.double() - x0.double()).flatten(1)
    length = delta.abs().amax(1) if ball.norm == "linf" else delta.pow(2).sum(1).sqrt()
    assert bool((length <= ball.eps).all()), f"outside by {float((length - ball.eps).max()):.3g}"
    assert float(x.min()) >= 0 and float(x.max()) <= 1


@pytest.mark.parametrize(
    ("ball", "shape"), [(b, s) for s in SHAPES for b in BALLS] + [(b, (3, 96, 96)) for b in LARGE], ids=str
)
def test_projections_and_samples_are_inside_without_tolerance(ball, shape):
    rng = seeded(0)
    x0 = originals(shape, rng)
    for x in candidates(x0, rng):
        assert_inside(ball, ball.project(x, x0), x0)
    assert_inside(ball, ball.sample(x0, rng), x0)


@pytest.mark.parametrize("ball", BALLS, ids=str)
def test_a_point_inside_stays_where_it_is(ball):
    x0 = torch.rand(4, 3, 8, 8, generator=seeded(1))
    inside = ball.project(x0 + 0.3 * ball.eps * ball.steepest(torch.randn(x0.shape, generator=seeded(2))), x0)
    assert torch.allclose(ball.project(inside, x0), inside, rtol=0, atol=1e-7)
    assert torch.equal(ball.project(x0, x0), x0)


@pytest.mark.parametrize("ball", [Ball("linf", 8 / 255), Ball("l2", 0.5)], ids=str)
def test_the_budget_is_used_up(ball):
    """A projection that stays far inside would be safe and useless."""
    x0 = torch.full((3, 3, 32, 32), 0.5)
    x = ball.project(x0 + 10 * torch.randn(x0.shape, generator=seeded(3)), x0)
    assert ball.distance(x, x0).tolist() == pytest.approx([ball.eps] * 3, rel=1e-5)


def test_linf_projection_is_the_nearest_point():
    x0, ball = torch.tensor([0.5, 0.5, 0.02]).view(1, 1, 1, 3), Ball("linf", 0.1)
    nearest = ball.project(torch.tensor([0.9, 0.45, -1.0]).view(1, 1, 1, 3), x0).flatten().tolist()
    assert nearest == pytest.approx([0.6, 0.45, 0.0])


def test_l2_projection_scales_the_change():
    x0 = torch.full((1, 1, 1, 2), 0.5)
    x = Ball("l2", 0.1).project(x0 + torch.tensor([3.0, 4.0]), x0)
    assert (x - x0).flatten().tolist() == pytest.approx([0.06, 0.08], rel=1e-5)


def test_linf_samples_are_uniform_before_clipping():
    x0 = torch.full((20000, 1, 1, 1), 0.5)
    delta = (Ball("linf", 0.1).sample(x0, seeded(4)) - x0).flatten() / 0.1
    assert float(delta.mean()) == pytest.approx(0, abs=0.02) and float(delta.var()) == pytest.approx(1 / 3, abs=0.01)


def test_l2_samples_fill_the_ball_evenly():
    """P(radius <= r) = (r/eps)^d: in 2-D half of the samples lie within 0.707 eps, and no side is favoured."""
    x0 = torch.full((20000, 1, 1, 2), 0.5)
    delta = (Ball("l2", 0.1).sample(x0, seeded(5)) - x0).flatten(1) / 0.1
    assert float((delta.norm(dim=1) <= math.sqrt(0.5)).float().mean()) == pytest.approx(0.5, abs=0.015)
    assert delta.mean(0).tolist() == pytest.approx([0, 0], abs=0.02)


def test_l2_samples_of_an_image_lie_near_the_surface():
    x0 = torch.full((4, 3, 32, 32), 0.5)
    assert (Ball("l2", 0.5).distance(Ball("l2", 0.5).sample(x0, seeded(6)), x0) > 0.49).all()


@pytest.mark.parametrize("scale", [1e-42, 1e-30, 1.0, 1e30, 1e38])
def test_steps_have_length_one_whatever_the_gradient_s_scale(scale):
    grad = torch.full((2, 3, 8, 8), scale)
    grad[0, 0] *= -1
    assert Ball("linf", 0.1).steepest(grad).abs().unique().tolist() == [1.0]
    step = Ball("l2", 0.1).steepest(grad)
    assert step.flatten(1).norm(dim=1).tolist() == pytest.approx([1, 1], rel=1e-5)
    assert (step.sign() == grad.sign()).all()


@pytest.mark.parametrize("norm", EPS)
def test_a_zero_gradient_gives_no_step(norm):
    assert not Ball(norm, 0.1).steepest(torch.zeros(2, 1, 2, 2)).any()


@pytest.mark.parametrize("ball", [Ball("linf", 0.1), Ball("l2", 0.5)], ids=str)
def test_a_region_s_rows_are_the_region_of_the_rows(ball):
    x0, x = torch.rand(4, 1, 4, 4, generator=seeded(7)), torch.rand(4, 1, 4, 4, generator=seeded(8))
    keep = torch.tensor([True, False, True, False])
    assert torch.equal(ball.around(x0).rows(keep).project(x[keep]), ball.project(x, x0)[keep])


@pytest.mark.parametrize("ball", [Ball("linf", 0.1), Ball("l2", 0.5)], ids=str)
def test_no_images_are_fine(ball):
    none = torch.zeros(0, 3, 8, 8)
    assert ball.project(none, none).shape == ball.sample(none, seeded(0)).shape == none.shape


def test_distance_is_float64():
    x0 = torch.zeros(1, 1, 1, 2)
    x = torch.tensor([3e-5, 4e-5]).view(1, 1, 1, 2)
    for norm, expected in (("linf", 4e-5), ("l2", 5e-5)):
        distance = Ball(norm, 0.1).distance(x, x0)
        assert distance.dtype == torch.float64 and distance.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("norm", "eps"), [
    ("linf", 8), ("linf", 0), ("linf", -0.1), ("linf", float("nan")), ("linf", 1e-6), ("l2", 101), ("l2", float("inf")),
    ("linf", "0.1"), ("linf", True), ("linf", None),
])  # fmt: skip
def test_refuses_a_bad_eps(norm, eps):
    with pytest.raises(InvalidValue, match=r"eps must lie in \[1e-05, .*\] in pixel units; got"):
        Ball(norm, eps)


def test_guesses_that_eight_means_eight_levels():
    with pytest.raises(InvalidValue, match=r"Did you mean 8/255\?"):
        Ball("linf", 8)


def test_refuses_an_unknown_norm():
    with pytest.raises(InvalidValue, match="norm must be one of linf, l2, l1, l0; got 'l3'"):
        Ball("l3", 0.1)
