"""Brendel-Bethge: along the decision boundary to its nearest point (Brendel et al., arXiv:1907.01003), in L2, Linf and L1."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from explorer.attacks import ATTACKS
from explorer.attacks._decisions import Decisions
from explorer.attacks._fields import draws_per_step, tries_for_a_start
from explorer.attacks._region import RegionAttack
from explorer.attacks.boundary import rounding, shortest
from explorer.attacks.gradient import replace_degenerate, value_and_grad
from explorer.attacks.random_search import MARGIN
from explorer.core import Goal, Region, Step, param

BISECTION = 2.0**-10  # share of the way from the image to the start, at which the first bisection ends
OVERSHOOT, MOMENTUM, DECAYS = 0.1, 0.8, 20


@ATTACKS.register(
    "brendel-bethge",
    title="Brendel-Bethge",
    paper="arXiv:1907.01003",
    group="minimal",
    summary="Starts far away, in another class, and walks along the boundary toward the picture: gradients there never vanish.",
)
@dataclass(frozen=True)
class BrendelBethge(RegionAttack):
    """delta = argmin ||x + delta - x0|| with b . delta = c, 0 <= x + delta <= 1 and ||delta||_2 <= r, the paper's step.

    b is the slope of the margin at x, averaged over steps, and c what it lacks to 0, a tenth more or less so that points lie
    beyond the boundary. The start is a random image of another class, bisected to the boundary; of `restarts` the nearest
    success counts. r is halved 20 times. (Momentum, overshoot and decay are those of the authors' code in Foolbox.)
    differs: instead of the quadratic program over the trust region, its solution without one, the nearest point of a straight
    boundary within [0, 1], which is exact by sorting (`shortest`); x goes onto the boundary and toward it, by r at most.
    differs: r is a share of the start's distance. L0, whose nearest point a partial step does not approach, is left to
    sigma-zero and FMN. A success that could be rounding is aimed beyond.
    """

    budget = "minimal"
    threats: ClassVar[tuple[str, ...]] = ("l2", "linf", "l1")
    loss = MARGIN
    formula: ClassVar[str] = (
        r"\min_\delta \lVert x + \delta - x_0\rVert \ \text{ with } \ b^\top\delta = c,\ \lVert\delta\rVert_2 \le r,\ 0 \le x+\delta \le 1"
    )
    explanation: ClassVar[str] = (
        r"Other attacks start at the picture, where a trained or masked network may have no slope at all. This one starts at any "
        r"picture of another class and goes back to the boundary between them. On the boundary two classes are equally likely, "
        r"and there is always a slope $b$. So walk along the boundary, each step as near to the picture as a straight boundary "
        r"would allow, but no longer than $r$, where it can be trusted."
    )
    presets = {"weak": {"steps": 30, "restarts": 1}, "standard": {}, "strong": {"steps": 200, "restarts": 6}}

    steps: int = param(40, "steps", lo=1, hi=1000, help="Steps along the boundary, from each start.")
    restarts: int = param(3, "restarts", lo=1, hi=100, help="Starts; each may lead to another part of the boundary.")
    radius: float = param(
        0.5,
        "first trust region",
        lo=0.001,
        hi=1.0,
        step=0.1,
        unit="x distance",
        help="How long a step may be at first.",
    )
    starts: int = tries_for_a_start()
    draws: int = draws_per_step()

    @property
    def expected_passes(self) -> int:
        """At most."""
        return self.restarts * (2 * self.steps + 1 + self.starts + 10) * self.draws

    def ascend(self, model: nn.Module, goal: Goal, region: Region, rng: torch.Generator) -> Iterator[Step]:
        oracle = Decisions(self, model, goal, region, rng)
        for restart in range(self.restarts):
            yield (clean := oracle.show(region.x0, restart))
            x, rows = oracle.start(oracle.settled(clean), self.starts)
            x = oracle.bisect(x, rows, BISECTION)
            oracle.recorder.forwards = oracle.recorder.forwards + oracle.spent()
            yield from self._along(oracle, x, rows, restart)

    def _along(self, oracle: Decisions, x: Tensor, rows: Tensor, restart: int) -> Iterator[Step]:
        """Steps along the boundary from x (n,C,H,W), points of the images in `rows`."""
        goal, image = oracle.goal.rows(rows), oracle.region.x0[rows].flatten(1).double()
        first = (x.flatten(1).double() - image).norm(dim=1)
        slope = torch.zeros_like(image)
        for k in range(self.steps):
            seen = value_and_grad(oracle.model, x, goal, self.loss, self.draws, oracle.rng)
            yield oracle.recorder.step(x, seen, rows=rows, restart=restart)
            margin, now = goal.margin(seen.logits), replace_degenerate(seen.gradient, oracle.rng).flatten(1).double()
            slope = now if k == 0 else (1 - MOMENTUM) * now + MOMENTUM * slope
            over = 2 * rounding(goal, seen.logits) + OVERSHOOT * margin.abs()
            lacks = (over - margin).double()
            radius = self.radius * first * 0.5 ** (DECAYS * k // self.steps)
            flat = x.flatten(1).double()
            onto = flat + shortest(slope, lacks, flat, "l2")
            near = image + shortest(slope, lacks + (slope * (flat - image)).sum(1), image, oracle.region.norm)
            way = near - onto
            onto = onto + (radius / way.norm(dim=1).clamp(min=1e-12)).clamp(max=1)[:, None] * way
            x = onto.to(x).view_as(x).clamp(0, 1)
