"""The quick ensemble: targets by slope, AutoAttack's verdict on a network whose boundaries are known, and fewer passes."""

import torch

from explorer.attacks import ATTACKS
from explorer.attacks.ensemble import APGDTNearest
from explorer.core import Ball, Goal, run, seeded
from explorer.testing import small_case
from tests.attacks.optimum import images


def test_targets_are_the_classes_whose_boundaries_are_nearest_not_the_likeliest(linear):
    """The second likeliest class has a slope so flat that its boundary is far."""
    weight = torch.zeros(4, 48)
    weight[1, 0], weight[2, 1], weight[3, 2] = 0.01, 1.0, 0.1
    model, x = linear(weight, torch.tensor([3.0, 2.9, 2.0, 2.5])), images(3)
    goal = Goal.untargeted(torch.zeros(3, dtype=torch.int64))
    margins = (model(x)[:, :1] - model(x)[:, 1:]) / torch.tensor([0.01, 1.0, 0.1])
    rivals, backwards = APGDTNearest(target_classes=2)._rivals(model, Ball("linf", 0.1).around(x), goal, seeded(0))
    assert torch.equal(rivals, margins.argsort(dim=1)[:, :2] + 1) and backwards == 3 and (rivals != 1).all()


def test_its_verdict_is_autoattacks_for_fewer_passes():
    model, x, y = small_case()
    goal, ball = Goal.untargeted(y), Ball("linf", 0.04)
    small = {"steps": 20, "queries": 100}
    quick = run(ATTACKS["ensemble"](**small | {"target_classes": 2}).walk(model, x, goal, ball, seeded(0)), goal)
    whole = run(ATTACKS["autoattack"](**small).walk(model, x, goal, ball, seeded(0)), goal)
    assert int(quick.success.sum()) >= int(whole.success.sum()) > 10 and not quick.success.all()
    left = ~quick.success
    assert (quick.forwards + quick.backwards)[left].float().mean() < 0.6 * (whole.forwards + whole.backwards)[
        left
    ].float().mean()


def test_for_a_stochastic_model_it_is_autoattacks_variant():
    assert [type(a) for a, _ in ATTACKS["ensemble"](draws=4)._stages()] == [
        type(a) for a, _ in ATTACKS["autoattack"](draws=4)._stages()
    ]
