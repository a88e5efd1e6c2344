"""IBP: the loss by hand on a linear network, its schedule, and a score that proves what it says."""

import math

import pytest
import torch

from explorer.core import Ball, InvalidValue, seeded
from explorer.defenses import RECIPES
from explorer.defenses.inner_attacks import quick_pgd, robust_mask
from explorer.models.mlp import MLP
from explorer.models.plain_conv import PlainConv


def linear(slope, lift):
    """Two classes, two pixels; class 1 leads class 0 by slope.x, through hidden units that are always on."""
    model = MLP((0.0,), (1.0,), (1, 1, 2), 2, hidden=(2,))
    with torch.no_grad():
        model.layers[0][0].weight.copy_(torch.eye(2))
        model.layers[0][0].bias.fill_(lift)
        model.head.weight.copy_(torch.tensor([[0.0, 0.0], slope]))
        model.head.bias.copy_(torch.tensor([sum(slope) * lift, 0.0]))
    return model


@pytest.mark.parametrize(("epoch", "share"), [(0, 0.0), (5, 0.45), (10, 0.95), (19, 1.0)])
def test_the_loss_by_hand(epoch, share):
    recipe = RECIPES["ibp"](epochs=20, clean=0.05, ramp=0.5, eps=0.1, kappa=0.5)
    x, y = torch.tensor([0.3, 0.6]).view(1, 1, 1, 2), torch.tensor([1])
    lead = 2 * 0.3 - 3 * 0.6  # of class 1; at worst 0.1 * (2 + 3) less at the full eps
    plain, worst = (math.log(1 + math.exp(-(lead - less))) for less in (0.0, share * 0.1 * 5))
    weight = 1 - share / 2
    found = float(recipe.loss(linear([2.0, -3.0], 5.0), x, y, seeded(0), epoch=epoch).detach())
    assert found == pytest.approx(weight * plain + (1 - weight) * worst, rel=1e-5)


def test_the_schedule_begins_with_the_plain_loss_and_ends_before_the_run_does():
    recipe = RECIPES["ibp"](epochs=40, clean=0.1, ramp=0.5)
    course = [recipe.moved(epoch) for epoch in range(40)]
    assert course[:4] == [0.0] * 4 and course[4] > 0 and course == sorted(course)
    assert course[23] < 1 and course[24:] == [1.0] * 16
    assert [recipe.passes(epoch) for epoch in (0, 3, 4, 39)] == [1, 1, 3, 3]


def test_the_score_proves_what_no_attack_breaks_exactly_where_the_network_is_linear():
    recipe, model = RECIPES["ibp"](eps=0.05), linear([2.0, -3.0], 5.0).freeze()
    x = 0.1 + 0.8 * torch.rand(300, 1, 1, 2, generator=seeded(0))
    lead = 2 * x[..., 0] - 3 * x[..., 1]
    y = (lead > 0).long().flatten()
    y[:30] = 1 - y[:30]  # wrong ones are never proven
    proven = float((lead.abs().flatten()[30:] > 0.05 * 5).sum()) / 300
    found = recipe.score(model, x, y, seeded(0))
    assert (
        found == {"clean": 0.9, "certified": pytest.approx(proven), "score": pytest.approx(proven)}
        and 0.2 < proven < 0.8
    )
    robust = robust_mask(quick_pgd(20), model, x, y, Ball("linf", 0.05), seeded(0))
    assert proven == pytest.approx(float(robust.float().mean()), abs=0.004)


def test_channels_as_text_make_the_network():
    name, arguments = RECIPES["ibp"](channels="8-16-16", hidden=50).architecture()
    model = PlainConv((0.5,), (0.25,), (1, 28, 28), 10, **arguments)
    assert name == "plain-conv" and [m.out_channels for m in model.layers if isinstance(m, torch.nn.Conv2d)] == [
        8,
        16,
        16,
    ]
    for wrong in ("", "16-", "-4", "ten", "0"):
        with pytest.raises(InvalidValue, match="channels"):
            RECIPES["ibp"](channels=wrong).architecture()
    assert RECIPES["ibp-cifar10"]().dataset == "cifar10" and RECIPES["ibp-cifar10"]().eps == pytest.approx(2 / 255)
