"""Brendel-Bethge: the nearest point of a straight boundary in each of its norms, and nothing claimed that is not so."""

import pytest
import torch

from explorer.attacks import ATTACKS
from explorer.attacks.boundary import shortest
from explorer.core import Ball, Goal, run, seeded
from explorer.core.ball import EPS_LIMIT
from tests.attacks.optimum import images, weights


@pytest.mark.parametrize("norm", ATTACKS["brendel-bethge"].norms)
def test_it_ends_at_the_nearest_point_of_a_straight_boundary(linear, norm):
    model, x = linear(weights(2)), images(6)
    goal = Goal.untargeted(model(x).argmax(1))
    sign = torch.where(goal.labels == 0, 1.0, -1.0).double()
    slope = (model.weight[1] - model.weight[0]) * sign[:, None]
    need = -goal.margin(model(x)).double()
    best = shortest(slope, need, x.flatten(1).double(), norm)
    assert torch.allclose((slope * best).sum(1), need)
    threat = Ball(norm, EPS_LIMIT[norm])
    found = run(ATTACKS["brendel-bethge"](steps=30, restarts=1).walk(model, x, goal, threat, seeded(0)), goal)
    ratio = found.distance / threat.distance((x.flatten(1) + best).view_as(x).double(), x)
    assert found.success.all() and ratio.max() < 1.01 and ratio.min() > 0.9999


def test_in_l1_the_steepest_values_go_first():
    slope, x0 = torch.tensor([[3.0, -2.0, 1.0]]).double(), torch.tensor([[0.5, 0.4, 0.0]]).double()
    assert shortest(slope, torch.tensor([1.5]).double(), x0, "l1").tolist() == [[0.5, 0, 0]]
    assert shortest(slope, torch.tensor([1.9]).double(), x0, "l1")[0].tolist() == pytest.approx([0.5, -0.2, 0])
    assert shortest(slope, torch.tensor([-1.5]).double(), x0, "l1")[0].tolist() == pytest.approx([-0.5, 0, 0])


def test_an_image_without_a_start_is_left_as_it_is(linear):
    model, x = linear(torch.zeros(2, 48), torch.tensor([1.0, 0.0])), images(2)
    steps = list(
        ATTACKS["brendel-bethge"](starts=3, steps=2, restarts=1).walk(
            model, x, Goal.untargeted(torch.zeros(2, dtype=torch.int64)), Ball("l2", 100.0), seeded(0)
        )
    )
    assert len(steps) == 3 and torch.equal(steps[-1].x, x) and steps[-1].forwards.tolist() == [4, 4]
