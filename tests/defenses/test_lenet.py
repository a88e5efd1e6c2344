"""The family of the course's small network: one network, the published radii and steps, six ways to train it."""

import pytest
import torch

from explorer.core import seeded
from explorer.defenses import RECIPES
from explorer.defenses.lenet import length
from explorer.training.state import build

FAMILY = ["lenet", "lenet-at", "lenet-rat", "lenet-mat-rand", "lenet-mat-max", "lenet-cw"]
CPU = torch.device("cpu")


@pytest.mark.parametrize("key", FAMILY)
def test_all_train_the_template_s_network_from_scratch(key):
    recipe = RECIPES[key]()
    model = build(recipe, CPU)
    assert sum(p.numel() for p in model.parameters()) == 62_006 and recipe.start == ""
    assert model.mean.flatten().tolist() == [0.5] * 3 == model.std.flatten().tolist()
    assert model.stochastic == (key == "lenet-rat")


@pytest.mark.parametrize("key", FAMILY[1:])
def test_the_radii_are_the_published_ones(key):
    recipe = RECIPES[key]()
    assert recipe.eps == 0.03 and getattr(recipe, "eps_l2", 0.5) == 0.5


def test_steps_are_the_published_ones_at_forty_and_long_enough_to_cross_the_ball_with_fewer():
    assert length(0.03, 0.01, 40) == 0.01 and length(0.5, 0.1, 40) == 0.1
    assert length(0.03, 0.01, 5) == pytest.approx(0.012) and length(0.5, 0.1, 5) == pytest.approx(0.2)
    assert RECIPES["lenet-mat-max"](inner_steps=40).lengths() == (0.01, 0.1)


def test_the_attack_of_training_takes_steps_of_that_length():
    recipe = RECIPES["lenet-at"](eps=0.2, alpha=0.15, inner_steps=1)
    x, y = torch.full((2, 1, 2, 2), 0.5), torch.tensor([0, 0])

    class Rising(torch.nn.Module):
        def forward(self, pixels):
            return torch.stack((-pixels.flatten(1).sum(1), pixels.flatten(1).sum(1)), 1)

    start = recipe.ball.around(x).sample(seeded(1))
    found = recipe.attacked(Rising(), x, y, seeded(1), steps=4)  # 4 steps of 0.15, and the ball ends at 0.7
    torch.testing.assert_close(found, torch.full_like(x, 0.7))
    found = recipe.attacked(Rising(), x, y, seeded(1), steps=1)  # one step of 0.4 crosses it
    torch.testing.assert_close(found, (start + 0.4).clamp(max=0.7))
    short = RECIPES["lenet-at"](eps=0.2, alpha=0.001, inner_steps=40).attacked(Rising(), x, y, seeded(1), steps=40)
    torch.testing.assert_close(short, torch.full_like(x, 0.7))  # 40 of 0.01: twice the radius
