"""EAD, elastic-net attacks (Chen et al., arXiv:1709.04114): C&W's penalty with an L1 term, by shrinking and thresholding."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from explorer.attacks import ATTACKS
from explorer.attacks._fields import draws_per_step
from explorer.attacks.boundary import BoundarySearch, halfway, leads
from explorer.attacks.gradient import degenerate, replace_degenerate
from explorer.attacks.rivals import RivalsBySlope
from explorer.core import Attack, Goal, Step, ThreatModel, param
from explorer.core.waits import where_true

FRAMES = 60  # of all updates about this many are yielded


@ATTACKS.register(
    "ead",
    title="EAD",
    paper="arXiv:1709.04114",
    group="minimal",
    summary="C&W with a price on every changed value: sparse changes of a small sum (L1).",
)
@dataclass(frozen=True)
class EAD(Attack):
    """min over x in [0, 1] of c * max(0, kappa - margin(x)) + ||x - x0||_2^2 + beta * ||x - x0||_1.

    FISTA (algorithm 1): x <- S(y - alpha * gradient at y of all but the L1 term), S moves every value alpha * beta nearer to the
    image, and onto it if it was less than that away (eq. 5); y <- x + k / (k + 3) * (x - x before). alpha falls with the square
    root of what is left. c is searched for each image by itself: times 10 until it succeeds, then halved between. The success
    nearest in L1 counts; a bisection between the image and it ends the walk.
    An update takes two forward passes (at x, which may count, and at y) and a backward pass.
    differs: S moves by alpha * beta, as the objective's proximal step does; the paper's moves by beta at every step, so that its
    0.1 at an alpha of 0.05 is 2 here.
    differs: c begins at `first_c` times what a straight boundary needs in L2, whatever the scale of the logits.
    differs: a success that could be rounding is none; a zero or not finite gradient is replaced by a random direction.
    """

    budget = "minimal"
    threats: ClassVar[tuple[str, ...]] = ("l1",)
    formula: ClassVar[str] = r"\min_x\ c\,f(x) + \lVert x - x_0\rVert_2^2 + \beta \lVert x - x_0\rVert_1"
    explanation: ClassVar[str] = (
        r"C&W's two wishes, fooled ($f$) and short, and a third: few values should change at all. Its price $\beta$ for every "
        r"change, however small, has no slope at zero. So after each step along the slope of the rest every value is moved "
        r"$\beta$ back toward the picture, and one that was nearer than that returns to it. The weight $c$ is searched for."
    )
    presets = {"weak": {"searches": 4, "steps": 30}, "standard": {}, "strong": {"searches": 9, "steps": 300}}

    searches: int = param(6, "searches", lo=1, hi=20, help="How many values of c are tried.")
    steps: int = param(100, "steps per search", lo=1, hi=1000, help="Updates of one search.")
    beta: float = param(2.0, "price of a change", lo=0.0, hi=100.0, step=0.1, help="beta: 0 is C&W's objective.")
    kappa: float = param(
        0.0, "confidence", lo=0.0, hi=100.0, step=1.0, help="By how much the wrong class must lead (kappa), in logits."
    )
    lr: float = param(0.05, "learning rate", lo=0.0001, hi=1.0, step=0.01, help="alpha of the first update.")
    first_c: float = param(
        3.0, "first c", lo=1e-6, hi=1e6, step=1.0, help="In units of what a straight boundary needs."
    )
    halvings: int = param(8, "halvings", lo=0, hi=30, help="Bisection steps to the boundary at the end.")
    draws: int = draws_per_step()

    @property
    def expected_frames(self) -> int:
        return 2 + self.searches * len(range(0, self.steps, self._every))

    @property
    def expected_passes(self) -> int:
        """Forward and backward passes of one image at most."""
        return (2 + 3 * self.searches * self.steps + self.halvings) * self.draws

    @property
    def _every(self) -> int:
        return math.ceil(self.searches * self.steps / FRAMES)

    def walk(
        self, model: nn.Module, x0: Tensor, goal: Goal, threat: ThreatModel, rng: torch.Generator
    ) -> Iterator[Step]:
        self.check_threat(threat)
        best = BoundarySearch(model, x0.detach(), goal, threat, rng, self.draws, kappa=self.kappa)
        yield best.step(self.expected_frames - 1)
        if best.left == 0:
            return
        slopes = RivalsBySlope(best, 1)
        need = 2 * slopes.nearest / slopes.slope
        c = self.first_c * torch.where(need > 0, need, 1.0)
        low, high = torch.zeros_like(c), torch.full_like(c, math.inf)
        rows = where_true(~best.done(), best.left)
        left = self.expected_frames - 2
        for _ in range(self.searches):
            worked = torch.zeros_like(best.found)
            x, y = best.x0[rows], best.x0[rows]
            for k in range(self.steps):
                alpha = self.lr * math.sqrt(1 - k / self.steps)
                before, x = x, shrunk(y - alpha * self._slope(best, y, rows, c), best.x0[rows], self.beta * alpha)
                y = (x + k / (k + 3) * (x - before)).clamp(0, 1)
                worked[rows] |= best.clear(best.look(x, rows, sloped=False).logits, rows)
                if k % self._every == 0:
                    best.show_best()
                    yield best.step(left)
                    left -= 1
            high, low = (
                torch.where(worked, torch.minimum(high, c), high),
                torch.where(worked, low, torch.maximum(low, c)),
            )
            c = torch.where(high.isfinite(), (low + high) / 2, c * 10)
        best.refine(self.halvings, halfway)
        best.show_best()
        yield best.step(0)

    def _slope(self, best: BoundarySearch, y: Tensor, rows: Tensor, c: Tensor) -> Tensor:
        """(n,C,H,W) the gradient of c f(y) + ||y - x0||^2 at y, points of the images in `rows`."""
        goal, seen = best.goal.rows(rows), best.look(y, rows)
        rival = goal.rivals(seen.logits, 1)
        needed = leads(seen.logits, goal, rival)[:, 0] + self.kappa >= 0  # a tie is not yet a success
        rise = best.slopes(seen, rows, rival)[:, 0]
        best.degenerate[rows] |= degenerate(rise) & needed
        rise = replace_degenerate(rise, best.rng) * (c[rows] * needed).view(-1, 1, 1, 1)
        return 2 * (y - best.x0[rows]) - rise


def shrunk(z: Tensor, x0: Tensor, beta: float) -> Tensor:
    """S of eq. 5: each value of z beta nearer to x0, onto it if it was less far away, and in [0, 1] (eq. 5)."""
    change = z - x0
    return (x0 + change.sign() * (change.abs() - beta).clamp(min=0)).clamp(0, 1)
