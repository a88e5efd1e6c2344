"""The patch: its rectangle, the untouched rest, and the optimum of a linear network at a known place."""

import pytest
import torch

from explorer.attacks import ATTACKS
from explorer.attacks.patch import PatchRegion, sides
from explorer.core import Ball, Goal, run, seeded
from tests.attacks.optimum import images, weights

Patch = ATTACKS["patch"]


def test_on_a_linear_network_the_patch_is_black_or_white_as_the_slope_says(linear):
    x, model = images(4, 1), linear(weights(2, 3), bias=torch.tensor([30.0, 0.0]))  # never fooled
    goal, ball = Goal.untargeted(torch.zeros(4, dtype=torch.int64)), Ball("l0", 4)
    found = run(Patch(steps=12, place="centre", restarts=1).walk(model, x, goal, ball, seeded(0)), goal)
    best = ((model.weight[1] - model.weight[0]) > 0).float().view(3, 4, 4).expand_as(x)
    inside = torch.zeros(4, 4, dtype=torch.bool)
    inside[1:3, 1:3] = True
    assert torch.equal(found.x[:, :, inside], best[:, :, inside]) and torch.equal(
        found.x[:, :, ~inside], x[:, :, ~inside]
    )


@pytest.mark.parametrize(
    ("pixels", "expected"), [(1, (1, 1)), (3, (1, 3)), (6, (2, 3)), (10, (3, 3)), (25, (5, 5)), (100, (8, 8))]
)
def test_a_rectangle_of_at_most_so_many_pixels(pixels, expected):
    height, width = sides(torch.tensor([float(pixels)]), 8, 8)
    assert (int(height), int(width)) == expected


def test_places_are_drawn_for_each_image_and_reach_every_corner():
    x, rng = torch.zeros(300, 1, 5, 6), seeded(0)
    region = PatchRegion(Ball("l0", 4).around(x), "anywhere", rng)
    assert (region.mask.flatten(1).sum(1) == 4).all()
    assert all(region.mask[:, 0, row, column].any() for row in (0, -1) for column in (0, -1))
    first = region.mask
    region.lay("anywhere", rng)
    assert not torch.equal(first, region.mask)
    region.lay("corner", rng)
    assert region.mask[:, 0, -2:, -2:].all()
