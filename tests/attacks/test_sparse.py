"""APGD-L1, sigma-zero and One pixel: where few pixels change, what a linear network needs is known by sorting."""

import torch

from explorer.attacks import ATTACKS
from explorer.attacks.apgd_l1 import sparse_sign
from explorer.attacks.one_pixel import painted
from explorer.attacks.sigma_zero import SIGMA, few
from explorer.core import Ball, Goal, run, seeded
from tests.attacks.optimum import images, optimum, smallest, weights


def test_apgd_l1_fools_what_can_be_fooled_and_nothing_else(linear):
    x, model = images(8, 1, width=2), linear(weights(2, 3))
    y = model(x).argmax(1)
    goal, least = Goal.untargeted(y), optimum(model, x, y, "l1")
    attack = ATTACKS["apgd-l1"](steps=40)
    for share, fooled in ((1.05, True), (0.98, False)):
        found = run(attack.walk(model, x, goal, Ball("l1", share * least), seeded(0)), goal)
        assert (found.success == fooled).all() and (found.distance <= share * least).all()


def test_a_sparse_sign_has_so_many_values_of_length_one_together():
    grad = torch.tensor([0.1, -3.0, 2.0, 2.0, 0.0, 1.0]).view(1, 1, 2, 3).expand(3, 1, 2, 3)
    found = sparse_sign(grad, torch.tensor([0.4, 1.0, 2.0]).view(3, 1, 1, 1)).flatten(1)
    assert torch.equal(found[0], torch.tensor([0.0, -1, 0, 0, 0, 0])) and torch.equal(found[1], found[0])
    assert torch.allclose(found[2], torch.tensor([0.0, -1, 1, 1, 0, 0]) / 3)  # both that are as steep as the last


def test_sigma_zero_changes_as_few_pixels_as_it_must(linear):
    x, model = images(8, 1), linear(weights(2, 3), bias=torch.tensor([6.0, 0.0]))
    y = model(x).argmax(1)
    found = smallest(ATTACKS["sigma-zero"](), model, x, Goal.untargeted(y), "l0")
    least = optimum(model, x, y, "l0")
    assert found.success.all() and (least > 1).all() and torch.equal(found.distance, least)


def test_the_smooth_norm_s_slope_is_its_derivative():
    delta = (0.1 * torch.randn(2, 3, 4, 4, generator=seeded(0))).double().requires_grad_(True)
    squared = delta.square().sum(1)
    (slope,) = torch.autograd.grad((squared / (squared + SIGMA)).mean((1, 2)).sum(), delta)
    assert torch.allclose(few(delta.detach()), slope)


def test_one_pixel_finds_the_best_pixel(linear):
    """The gain of one pixel, repainted as well as can be, is known: fooled is who can be, and nobody else."""
    x, y = images(3, 1), torch.zeros(3, dtype=torch.int64)
    slope = weights(2, 3)[1] - weights(2, 3)[0]
    gain = (slope.abs() * torch.where(slope > 0, 1 - x.flatten(1), x.flatten(1))).view(3, 3, 16).sum(1).amax(1)
    for share, fooled in ((0.95, True), (1.02, False)):
        lead = x.flatten(1) @ -slope
        for i in range(3):
            model = linear(weights(2, 3), bias=torch.tensor([float(share * gain[i] - lead[i]), 0.0]))
            attack, goal = ATTACKS["one-pixel"](population=60, generations=25), Goal.untargeted(y[:1])
            found = run(attack.walk(model, x[i : i + 1], goal, Ball("l0", 1), seeded(0)), goal)
            assert bool(found.success) == fooled and float(found.distance) <= 1


def test_sparse_rs_finds_the_best_pixels(linear):
    """As for One pixel, of two pixels: fooled is who can be by the two of the largest gains, and nobody else."""
    x, y = images(3, 1), torch.zeros(3, dtype=torch.int64)
    slope = weights(2, 3)[1] - weights(2, 3)[0]
    gain = (
        (slope.abs() * torch.where(slope > 0, 1 - x.flatten(1), x.flatten(1))).view(3, 3, 16).sum(1).topk(2)[0].sum(1)
    )
    for share, fooled in ((0.98, True), (1.02, False)):
        lead = x.flatten(1) @ -slope
        for i in range(3):
            model = linear(weights(2, 3), bias=torch.tensor([float(share * gain[i] - lead[i]), 0.0]))
            attack, goal = ATTACKS["sparse-rs"](queries=1500), Goal.untargeted(y[:1])
            found = run(attack.walk(model, x[i : i + 1], goal, Ball("l0", 2), seeded(0)), goal)
            assert bool(found.success) == fooled and float(found.distance) <= 2


def test_sparse_rs_moves_fewer_and_fewer_pixels_and_never_more_than_eps():
    x0 = images(2)
    region, attack, rng = (
        Ball("l0", torch.tensor([8.0, 4.0])).around(x0),
        ATTACKS["sparse-rs"](queries=100, alpha=1.0),
        seeded(0),
    )
    x = attack.start(region, rng)
    assert (x != x0).any(1).flatten(1).sum(1).tolist() == [8, 4] and set(x[x != x0].tolist()) == {0.0, 1.0}
    for tried, moved in ((0, [4, 2]), (3, [1, 1])):
        y = attack.propose(region, x, tried, rng)
        assert (y != x0).any(1).flatten(1).sum(1).tolist() == [8, 4]
        other = ((x != x0).any(1) & (x != y).any(1)).flatten(1).sum(1).tolist()
        assert other == moved


def test_candidates_paint_whole_pixels_and_no_more_than_an_image_s_eps():
    x, genes = torch.full((2, 3, 4, 4), 0.5), torch.tensor([[1.9, 2.1, 0.1, 0.2, 0.3], [0.0, 3.99, 1.0, 1.0, 1.0]])
    found = painted(genes.expand(2, 2, 5), Ball("l0", torch.tensor([1.0, 2.0])).around(x))
    assert torch.equal(found[0, :, 1, 2], torch.tensor([0.1, 0.2, 0.3])) and torch.equal(
        found[1, :, 0, 3], torch.ones(3)
    )
    assert (found != x).any(1).flatten(1).sum(1).tolist() == [1, 2]
