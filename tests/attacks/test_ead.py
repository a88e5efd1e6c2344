"""EAD: its shrinking step, a price of zero, and the L1 distances of linear networks."""

import torch

from explorer.attacks import ATTACKS
from explorer.attacks.ead import shrunk
from explorer.core import Goal
from tests.attacks.optimum import images, optimum, smallest, weights

EAD = ATTACKS["ead"]


def case(linear, width=0.2):
    x, model = images(6, 1, width), linear(weights(2, 3))
    y = model(x).argmax(1)
    return model, x, Goal.untargeted(y), optimum(model, x, y, "l1")


def test_what_is_less_than_beta_away_returns():
    x0 = torch.tensor([0.5, 0.5, 0.5, 0.05, 0.95])
    z = torch.tensor([0.52, 0.45, 0.58, -0.2, 1.4])
    assert torch.allclose(shrunk(z, x0, 0.03), torch.tensor([0.5, 0.48, 0.55, 0.0, 1.0]))


def test_a_higher_price_leaves_fewer_values_changed_and_a_smaller_sum(linear):
    model, x, goal, least = case(linear)
    found = [smallest(EAD(searches=3, steps=50, beta=beta), model, x, goal, "l1") for beta in (0.0, 1.0)]
    changed = [(one.x != x).flatten(1).sum(1).float().mean() for one in found]
    assert changed[1] < 0.7 * changed[0] and found[1].distance.mean() < 0.85 * found[0].distance.mean()
    assert all(one.success.all() and (one.distance >= least * (1 - 1e-5)).all() for one in found)


def test_a_confidence_is_kept(linear):
    model, x, goal, _ = case(linear)
    found = smallest(EAD(searches=3, steps=30, kappa=0.5), model, x, goal, "l1")
    assert (goal.margin(model(found.x)) > 0.5).all()
