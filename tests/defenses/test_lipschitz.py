"""The Lipschitz recipe: its loss by hand, radii by hand, and a score that no attack contradicts."""

import math

import pytest
import torch

from explorer.certify.lipschitz import radii
from explorer.core import Ball, InvalidValue, seeded
from explorer.defenses import RECIPES
from explorer.defenses.inner_attacks import quick_pgd, robust_mask
from explorer.training.state import build

CPU = torch.device("cpu")
RECIPE = RECIPES["lipschitz"](width=16, depths="1-1")


def test_the_loss_sets_the_true_class_back_by_the_lead_that_the_radius_is_worth():
    recipe = RECIPES["lipschitz"](radius=0.2, temperature=0.5)
    logits = torch.tensor([[0.3, 1.0]])
    lead = 1.0 - 0.3 - 2**0.5 * 0.2
    found = float(recipe.loss(lambda x: logits, torch.zeros(1, 3, 2, 2), torch.tensor([1]), seeded(0)))
    assert found == pytest.approx(0.5 * math.log(1 + math.exp(-lead / 0.5)), rel=1e-5)


def test_the_radius_is_the_smallest_lead_over_its_slope_not_that_of_the_runner_up():
    slopes = torch.tensor([[0.0, 2.0, 0.5], [2.0, 0.0, 1.0], [0.5, 1.0, 0.0]])
    logits = torch.tensor([[1.0, 0.4, 0.8], [1.0, 0.6, 0.5], [0.2, 0.2, 0.0], [0.0, 3.0, 1.0]])
    assert radii(logits, slopes).tolist() == pytest.approx([0.3, 0.2, 0.0, 1.5])


def test_a_rival_with_the_same_row_takes_no_lead_away_but_a_tie_with_it_is_none():
    slopes = torch.tensor([[0.0, 0.0], [0.0, 0.0]])
    assert radii(torch.tensor([[1.0, 0.0], [1.0, 1.0]]), slopes).tolist() == [math.inf, 0.0]


def test_no_attack_turns_what_the_score_counts():
    model = build(RECIPE, CPU).freeze()
    x = torch.rand(60, 3, 32, 32, generator=seeded(0))
    with torch.no_grad():
        model.head.bias.sub_(model(x).mean(0))  # or all would be of one class
        z = model(x)
        y = z.argmax(1)
        sure = radii(z, model.slopes())
    y[:6] = (y[:6] + 1) % 10
    eps = float(sure.median())
    held = robust_mask(quick_pgd(20), model, x, y, Ball("l2", eps), seeded(0))
    assert bool(held[6:][sure[6:] > eps + 1e-6].all()) and not bool(held.all())
    found = RECIPE.score(model, x, y, seeded(0))
    assert found["clean"] == pytest.approx(0.9)
    assert found["certified"] == found["score"] == pytest.approx(float((sure[6:] >= 36 / 255).sum()) / 60)


def test_depths_as_text():
    assert RECIPES["lipschitz"](depths="2-0-1").architecture() == (
        "lipschitz-net",
        {"width": 32, "depths": [2, 0, 1], "kernels": [3, 3, 1]},
    )
    for wrong in ("", "5-", "-1", "five"):
        with pytest.raises(InvalidValue, match="depths"):
            RECIPES["lipschitz"](depths=wrong).architecture()
