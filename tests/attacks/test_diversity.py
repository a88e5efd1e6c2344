"""DI2-FGSM and M-DI2-FGSM: the copies, the coin of each image, and what is reported beside them."""

import pytest
import torch
import torch.nn.functional as F

from explorer.attacks import ATTACKS
from explorer.attacks.difgsm import shrunk
from explorer.core import Ball, Goal, run, seeded

DI, MDI, MI = ATTACKS["difgsm"], ATTACKS["mdifgsm"], ATTACKS["mifgsm"]
SHAPE = (3, 8, 8)


@pytest.fixture
def model(linear):
    return linear(torch.randn(2, 192, generator=seeded(11)), input_shape=SHAPE)


def images(n, shape=SHAPE):
    return torch.rand(n, *shape, generator=seeded(1))


def interior(n):
    return 0.5 + 0.2 * (images(n) - 0.5)


def zeros(n):
    return Goal.untargeted(torch.zeros(n, dtype=torch.int64))


# The copies


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 28, 28), (3, 6, 11)])
def test_a_copy_is_what_torch_makes_of_the_same_factor_and_place(shape):
    """Against grid_sample with the same random numbers; grey around the image is zero around the image minus grey."""
    x = images(6, shape)
    u = torch.rand(3, 6, generator=seeded(7))
    scale = 1 - 0.4 * u[0]
    theta = torch.zeros(6, 2, 3)
    for axis, place in ((0, u[2]), (1, u[1])):  # theta's first row speaks of columns
        theta[:, axis, axis] = 1 / scale
        centre = (2 * place - 1) * (1 - scale)  # of the copy, on a canvas from -1 to 1
        theta[:, axis, 2] = -centre / scale
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    expected = F.grid_sample(x - 0.5, grid, padding_mode="zeros", align_corners=False) + 0.5
    assert torch.allclose(shrunk(x, 0.6, seeded(7)), expected, atol=1e-5)


def test_a_copy_stays_in_the_pixel_range_and_shows_the_whole_image():
    x = images(50, (1, 28, 28))
    copy = shrunk(x, 0.5, seeded(0))
    assert copy.min() >= 0 and copy.max() <= 1
    u = torch.rand(3, 50, generator=seeded(0))
    white = shrunk(torch.ones(50, 1, 28, 28), 0.5, seeded(0))
    covered = 2 * (white[:, 0] - 0.5).mean((1, 2))  # the share of the canvas that the image takes
    assert torch.allclose(covered, (1 - 0.5 * u[0]) ** 2, atol=0.03)


def test_a_grey_image_and_a_full_sized_copy_stay_as_they_are():
    grey = torch.full((3, *SHAPE), 0.5)
    assert torch.equal(shrunk(grey, 0.6, seeded(0)), grey)
    assert torch.allclose(shrunk(images(3), 1.0, seeded(0)), images(3), atol=1e-6)


def test_every_image_is_shrunk_and_placed_on_its_own():
    same = images(1).expand(20, -1, -1, -1)
    copies = shrunk(same, 0.8, seeded(0))
    assert not any(torch.equal(copies[i], copies[j]) for i in range(20) for j in range(i))


def test_the_gradient_passes_through_the_copy():
    x = images(2, (1, 4, 4)).double().requires_grad_(True)
    assert torch.autograd.gradcheck(lambda pixels: shrunk(pixels, 0.7, seeded(3)), x)


# The walk


def test_the_step_follows_the_slope_through_the_copy(model, ball):
    """Of a linear network through T: the slope is T's transpose times the weights, computed here by autograd anew."""
    x = interior(5)
    first, second, *_ = DI(probability=1, smallest=0.6).walk(model, x, zeros(5), ball, seeded(4))
    rng = seeded(4)
    torch.rand(5, generator=rng)  # the coins
    leaf = x.clone().requires_grad_(True)
    logits = model(shrunk(leaf, 0.6, rng))
    (slope,) = torch.autograd.grad((logits[:, 1] - logits[:, 0]).sum(), leaf)
    step = (second.x - first.x).flatten(1)
    alike = F.cosine_similarity(step, ball.steepest(slope).flatten(1))
    assert torch.allclose(alike, torch.ones(5), atol=1e-3)
    plain = ball.steepest((model.weight[1] - model.weight[0]).float().view(1, *SHAPE)).flatten(1)
    assert float(F.cosine_similarity(step, plain).mean()) < 0.5, "another direction than without the copy"


@pytest.mark.parametrize("options", [{"probability": 0.0}, {"smallest": 1.0}])
def test_without_copies_it_is_the_plain_method(options, ball, trained):
    net, x, y = trained
    goal = Goal.untargeted(y[:8])
    for diverse, plain in ((DI(**options), MI(momentum=0)), (MDI(**options), MI())):
        pairs = zip(
            diverse.walk(net, x[:8], goal, ball, seeded(0)), plain.walk(net, x[:8], goal, ball, seeded(0)), strict=True
        )
        for a, b in pairs:
            assert torch.allclose(a.x, b.x, atol=1e-5) and torch.allclose(a.loss, b.loss, atol=1e-4)


@pytest.mark.parametrize("attack", [DI(), MDI()], ids=str)
def test_each_image_has_its_own_coin_at_every_step(attack, ball, model):
    """The extra passes tell: a batch with one coin for all would spend them on all or none."""
    n = 200
    steps = list(attack.walk(model, interior(n), zeros(n), ball, seeded(0)))
    before = torch.zeros(n, dtype=torch.int64)
    for step in steps[:-1]:
        extra = step.forwards - before - 1
        assert set(extra.tolist()) == {0, 1} and 0.35 < float(extra.double().mean()) < 0.65
        before = step.forwards
    assert (steps[-1].forwards - before).tolist() == [1] * n, "the last look needs no copy"
    assert steps[-1].backwards.tolist() == [10] * n
    assert len(set(steps[-1].forwards.tolist())) > 4


def test_with_certainty_and_draws_the_passes_are_as_stated(ball, masked):
    model = masked(torch.randn(3, 192, generator=seeded(11)), p=0.7, input_shape=SHAPE)
    attack = DI(steps=4, probability=1, draws=3, restarts=2)
    steps = list(attack.walk(model, interior(5), zeros(5), ball, seeded(0)))
    assert steps[-1].forwards.tolist() == [2 * (2 * 4 + 1) * 3] * 5 and steps[-1].backwards.tolist() == [2 * 4 * 3] * 5
    assert attack.expected_passes == 2 * (2 * 4 + 1) * 3 + 2 * 4 * 3


def test_the_average_over_copies_nears_the_plain_slope_of_a_smooth_network(linear):
    """Averaged over many copies the direction settles: two long averages agree far better than two single draws."""
    model = linear(torch.randn(2, 192, generator=seeded(11)), input_shape=SHAPE)
    ball, x, alike = Ball("l2", 0.2), interior(8), {}
    for draws in (1, 200):
        ends = []
        for seed in (1, 2):
            _, second, *_ = DI(probability=1, draws=draws).walk(model, x, zeros(8), ball, seeded(seed))
            ends.append((second.x - x).flatten(1))
        alike[draws] = float(F.cosine_similarity(*ends).mean())
    assert alike[1] < 0.95 < 0.99 < alike[200]


@pytest.mark.parametrize("attack", [DI(rel_step=0.2), MDI(rel_step=0.2)], ids=str)
def test_a_dead_gradient_at_the_first_step_does_not_freeze_the_image(attack, ball, model):
    model.blind, x, goal = 2, interior(4), zeros(4)  # two passes: the copies' and the true look
    steps = list(attack.walk(model, x, goal, ball, seeded(0)))
    assert steps[0].degenerate.all() and not any(s.degenerate.any() for s in steps[1:])
    outcome = run(iter(steps), goal)
    assert torch.isfinite(outcome.x).all()
    moved = goal.margin(model(outcome.x)) - goal.margin(model(x))
    w = (model.weight[1] - model.weight[0]).float()
    best = ball.eps * float(w.abs().sum() if ball.norm == "linf" else w.norm())
    assert (moved > 0.4 * best).all()
