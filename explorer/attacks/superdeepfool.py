"""SuperDeepFool (Abdollahpoorrostam et al., arXiv:2303.12481): DeepFool, then the shortest way to the boundary found, again and again."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from explorer.attacks import ATTACKS
from explorer.attacks._fields import draws_per_step
from explorer.attacks.boundary import BEYOND, BoundarySearch, leads, nearest, shortest
from explorer.core import Attack, Goal, Step, ThreatModel, param
from explorer.core.waits import where_true

INNER = 10  # steps of DeepFool before the point is projected at the latest


@ATTACKS.register(
    "superdeepfool",
    title="SuperDeepFool",
    paper="arXiv:2303.12481",
    group="minimal",
    summary="DeepFool that turns toward the boundary's normal at the place where it arrived: nearer, for a few more passes.",
)
@dataclass(frozen=True)
class SuperDeepFool(Attack):
    """SDF(inf, 1): DeepFool from x to the boundary, x~; then x <- x0 + ((x~ - x0) . w) / ||w||^2 * w, w the boundary's normal
    at x~; until x is a success (algorithm 2). Overshoot and bisection toward the image follow (section 3).

    DeepFool's steps go to the nearest of the boundaries to the likeliest `classes` - 1 wrong classes (with a target, to it).
    Cost: a forward pass for each point, `classes` - 1 backward passes for each step of DeepFool, one for each projection.
    differs: the projection is looked at a tenth of the overshoot beyond the straight boundary at x~, so that it can be a
    success; `rounds` projections at most, and the nearest success counts, whichever it is.
    differs: steps and projections are the shortest that stay in [0, 1] (`boundary.shortest`); a dead slope (Step.degenerate)
    ends the image's walk.
    """

    budget = "minimal"
    threats: ClassVar[tuple[str, ...]] = ("l2",)
    formula: ClassVar[str] = (
        r"x \leftarrow x_0 + \frac{(\tilde x - x_0)^{\!\top} w}{\lVert w\rVert_2^2}\, w,\quad "
        r"\tilde x = \mathrm{DeepFool}(x),\ w = \nabla (z_k - z_y)(\tilde x)"
    )
    explanation: ClassVar[str] = (
        r"DeepFool stops where it first crosses a boundary, which is rarely the nearest place of it: there the way back to the "
        r"picture should be at right angles to the boundary, along its normal $w$. So look at the slope where DeepFool arrived, "
        r"keep only the part of the change along it, and walk on from there. After a few rounds the two agree."
    )
    presets = {"weak": {"rounds": 2, "classes": 3}, "standard": {}, "strong": {"rounds": 50, "halvings": 15}}

    rounds: int = param(12, "rounds", lo=1, hi=200, help="How often DeepFool's end is projected, at most.")
    classes: int = param(
        10, "classes", lo=2, hi=1000, help="Only the boundaries between this many most likely classes are looked at."
    )
    overshoot: float = param(
        0.02,
        "overshoot",
        lo=0.0,
        hi=1.0,
        step=0.01,
        help="How far beyond the boundary to go, relative to the distance.",
    )
    halvings: int = param(8, "last search", lo=0, hi=30, help="Points between the image and the result at the end.")
    draws: int = draws_per_step()

    @property
    def expected_frames(self) -> int:
        return self.rounds + 2

    @property
    def expected_passes(self) -> int:
        """Forward and backward passes of one image at most."""
        return (1 + self.rounds * (INNER * self.classes + 2) + self.halvings) * self.draws

    def walk(
        self, model: nn.Module, x0: Tensor, goal: Goal, threat: ThreatModel, rng: torch.Generator
    ) -> Iterator[Step]:
        self.check_threat(threat)
        best = BoundarySearch(model, x0.detach(), goal, threat, rng, self.draws)
        yield best.step(self.expected_frames - 1)
        if best.left == 0:
            return
        rows = where_true(~best.done(), best.left)
        x = best.x0[rows]
        for left in reversed(range(self.rounds)):
            x, rows = self._deepfool(best, x, rows)
            if len(rows):
                x, rows = self._project(best, x, rows)
            best.show_best()
            yield best.step(left + 1 if len(rows) else 1)
            if len(rows) == 0:
                break
        best.refine(self.halvings)
        yield best.step(0)

    def _deepfool(self, best: BoundarySearch, x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Each image's point beyond the boundary, from x (n,C,H,W); without images whose slopes are dead."""
        x, going = x.clone(), torch.arange(len(rows), device=rows.device)
        lost = torch.zeros_like(rows, dtype=torch.bool)
        for _ in range(INNER):
            seen = best.look(x[going], rows[going])
            ahead = ~best.clear(seen.logits, rows[going])
            if not bool(ahead.any()):
                break
            goal = best.goal.rows(rows[going])
            rivals = goal.rivals(seen.logits, 1 if goal.is_targeted else self.classes - 1)
            slopes = best.slopes(seen, rows[going], rivals)
            plane = nearest(leads(seen.logits, goal, rivals), slopes, "l2")
            lost[going] |= plane.lost & ahead
            best.degenerate[rows[going]] |= plane.lost
            need = (1 + self.overshoot) * (plane.lead + 2 * best.rounding(seen.logits, rows[going]))
            step = shortest(plane.way, need, x[going].flatten(1).to(plane.way), "l2").to(x).view_as(x[going])
            some = ahead & ~plane.lost
            going, step = going[some], step[some]
            x[going] = (x[going] + step).clamp(0, 1)
            if len(going) == 0:
                break
        return x[~lost], rows[~lost]

    def _project(self, best: BoundarySearch, x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """x0 + the part of x - x0 along the boundary's normal at x (n,C,H,W); without images for which that is a success."""
        goal, x0 = best.goal.rows(rows), best.x0[rows]
        seen = best.look(x, rows)
        rival = goal.rivals(seen.logits, 1)
        plane = nearest(leads(seen.logits, goal, rival), best.slopes(seen, rows, rival), "l2")
        base = x0.flatten(1).to(plane.way)
        need = plane.lead + (plane.way * (x.flatten(1).to(base) - base)).sum(1)  # to the straight boundary at x
        way = shortest(plane.way, (1 + BEYOND * self.overshoot) * need, base, "l2")
        ahead = (x0 + way.to(x).view_as(x)).clamp(0, 1)
        best.degenerate[rows] |= plane.lost
        found = best.clear(best.look(ahead, rows, sloped=False).logits, rows)
        going = ~found & ~plane.lost
        return ahead[going], rows[going]
