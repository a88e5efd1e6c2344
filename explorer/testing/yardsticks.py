"""How far an attack has to come: random directions, and PGD with the best eps, on the contract's network."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor, nn

from explorer.attacks.pgd import PGD
from explorer.core import Ball, Goal, ThreatModel, run, seeded
from explorer.core.ball import as_norm
from explorer.testing.networks import Case

TRIES = 20  # random points that an attack has to beat


@lru_cache(maxsize=4)
def yardsticks(case: Case, threat: ThreatModel) -> tuple[Tensor, Tensor]:
    """(N,) float64 how far random directions, and PGD, have to go; PGD infinitely far where it is not defined."""
    model, x, y = case
    goal = Goal.untargeted(y)
    far = torch.full((len(x),), torch.inf, dtype=torch.float64)
    return distance_of_noise(model, x, goal, threat), distance_of_pgd(
        model, x, goal, threat
    ) if threat.name in PGD.threats else far


def distance_of_noise(model: nn.Module, x: Tensor, goal: Goal, threat: ThreatModel) -> Tensor:
    """(N,) float64 where the first of 20 random directions crosses the boundary, on a grid; inf where none does.

    In L1 and L0, where the steepest direction is a single pixel, random points of balls of these sizes instead.
    """
    rng, nearest = seeded(1), torch.full((len(x),), torch.inf, dtype=torch.float64)
    region, farthest = threat.around(x), {"linf": 1, "l2": 8, "l1": 16, "l0": 40}[threat.name]
    for _ in range(TRIES):
        way = region.steepest(torch.randn(x.shape, generator=rng))
        for eps in torch.linspace(0, farthest, 41)[1:].tolist():
            sparse = threat.name in ("l1", "l0")
            there = Ball(as_norm(threat.name), eps).sample(x, rng) if sparse else (x + eps * way).clamp(0, 1)
            distance = distances(threat, there, x)
            nearest = torch.where(fools(model, there, goal) & (distance < nearest), distance, nearest)
    return nearest


def distance_of_pgd(model: nn.Module, x: Tensor, goal: Goal, threat: ThreatModel) -> Tensor:
    """(N,) float64 the nearest that PGD-20 comes with any eps of a fine grid; inf where it never succeeds."""
    nearest, norm = torch.full((len(x),), torch.inf, dtype=torch.float64), threat.name
    for k in range(30):
        ball = Ball(as_norm(norm), (0.01 if norm == "linf" else 0.08) * 1.15**k)
        found = run(PGD(steps=20).walk(model, x, goal, ball, seeded(0)), goal)
        nearest = torch.where(found.success & (found.distance < nearest), found.distance, nearest)
    return nearest


def distances(threat: ThreatModel, x: Tensor, x0: Tensor) -> Tensor:
    """(N,) float64, by other formulas than those under test."""
    delta = x.double() - x0.double()
    if threat.name == "l0":
        return (delta.abs().sum(1) > 0).flatten(1).sum(1).double()
    delta = delta.flatten(1)
    return {"linf": delta.abs().amax(1), "l2": delta.pow(2).sum(1).sqrt(), "l1": delta.abs().sum(1)}[threat.name]


def fools(model: nn.Module, x: Tensor, goal: Goal) -> Tensor:
    with torch.no_grad():
        return goal.reached(model(x))
