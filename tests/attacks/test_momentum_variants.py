"""NI-FGSM and VMI-FGSM: on a linear network both are MI-FGSM, elsewhere each takes its paper's gradient."""

import pytest
import torch

from explorer.attacks import ATTACKS
from explorer.core import Ball, Goal, seeded
from tests.attacks.optimum import images, weights

BALLS = [Ball("linf", 0.03), Ball("l2", 0.5)]


@pytest.mark.parametrize("ball", BALLS, ids=lambda ball: ball.norm)
@pytest.mark.parametrize("key", ["ni-fgsm", "vmi-fgsm", "si-ni-fgsm"])
def test_where_the_slope_is_the_same_everywhere_it_is_mi_fgsm(linear, key, ball):
    model, x = linear(weights(2)), images(3)
    goal = Goal.untargeted(model(x).argmax(1))
    theirs = ATTACKS["mifgsm"](steps=4, loss="margin").walk(model, x, goal, ball, seeded(0))
    for ours, step in zip(
        ATTACKS[key](steps=4, loss="margin").walk(model, x, goal, ball, seeded(0)), theirs, strict=True
    ):
        assert torch.allclose(ours.x, step.x, atol=1e-6)


@pytest.mark.parametrize("ball", BALLS, ids=lambda ball: ball.norm)
def test_ti_dim_follows_the_blurred_slope_and_is_mi_fgsm_without_a_blur(linear, ball):
    slope, x = weights(2), images(3)
    model, goal = linear(slope), None
    goal = Goal.untargeted(model(x).argmax(1))

    def last(key, **more):
        return list(ATTACKS[key](steps=4, loss="margin", **more).walk(model, x, goal, ball, seeded(0)))[-1].x

    assert torch.equal(last("ti-dim", kernel=1, probability=0.0), last("mifgsm"))
    away = torch.where(goal.labels == 0, 1.0, -1.0).view(-1, 1, 1, 1) * (slope[1] - slope[0]).view(1, 3, 4, 4)
    gauss = (-torch.linspace(-3, 3, 3).square() / 2).exp()
    gauss = torch.outer(gauss, gauss) / gauss.sum() ** 2
    smooth = torch.nn.functional.conv2d(away.view(-1, 1, 4, 4), gauss.view(1, 1, 3, 3), padding=1).view(away.shape)
    region = ball.around(x)
    expected = region.project(x + region.size * region.steepest(smooth))
    assert torch.allclose(last("ti-dim", kernel=3, probability=0.0), expected, atol=1e-6)


def test_si_ni_fgsm_asks_darker_copies_and_weighs_their_slopes_as_they_are():
    """Of a slope 2 x, that of x / 2^i is 2 x / 4^i."""
    attack, ball = ATTACKS["si-ni-fgsm"](steps=1, scales=3, loss="margin"), Ball("linf", 0.04)
    x, model = torch.full((1, 1, 2, 2), 0.3), Bent()
    at = attack.gradient(model, x, Goal.untargeted(torch.tensor([0])), ball.around(x), seeded(0), {})
    assert [float(asked.max()) for asked in model.asked] == pytest.approx([0.3, 0.3, 0.15, 0.075])
    assert torch.allclose(at.gradient, 2 * x * (1 + 1 / 4 + 1 / 16)) and (at.forwards, at.backwards) == (4, 3)
    assert attack.expected_passes == 8


class Bent(torch.nn.Module):
    """Two logits, 0 and the sum of the squares of the pixels: the slope is 2 x. It remembers where it was asked."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def forward(self, x):
        self.asked.append(x.detach().clone())
        return torch.stack([torch.zeros(len(x)), x.square().flatten(1).sum(1)], 1)


def test_ni_fgsm_asks_ahead():
    x, model, ball = torch.full((1, 1, 2, 2), 0.3), Bent(), Ball("linf", 0.04)
    attack = ATTACKS["ni-fgsm"](steps=2, momentum=0.5, loss="margin")
    list(attack.walk(model, x, Goal.untargeted(torch.tensor([0])), ball, seeded(0)))
    here, first, then, ahead, _ = model.asked
    assert torch.equal(here, x) and torch.equal(first, x) and torch.allclose(then, x + 0.02)
    assert torch.allclose(ahead, then + 0.02 * 0.5 * 1.0)  # alpha * mu * g, and g is 1 everywhere


def test_vmi_fgsm_adds_what_the_slopes_around_differ_by():
    """Of a slope 2 x the variance is twice the mean of the random steps, which lie within beta * eps."""
    attack, ball = ATTACKS["vmi-fgsm"](steps=1, samples=5, beta=1.5, loss="margin"), Ball("linf", 0.04)
    x, model, state = torch.full((1, 1, 2, 2), 0.3), Bent(), {}
    goal, region = Goal.untargeted(torch.tensor([0])), ball.around(x)
    at = attack.gradient(model, x, goal, region, seeded(0), state)
    around = torch.cat(model.asked[1:])
    assert len(around) == 5 and ((around - x).abs() <= 0.06).all() and (around - x).abs().max() > 0.04
    assert torch.allclose(at.gradient, 2 * x) and torch.allclose(state["v"], 2 * (around.mean(0) - x), atol=1e-6)
    again = attack.gradient(model, x, goal, region, seeded(0), state)
    assert torch.allclose(again.gradient, 2 * x + 2 * (around.mean(0) - x), atol=1e-6)
    assert int(at.forwards) == int(at.backwards) == 6
