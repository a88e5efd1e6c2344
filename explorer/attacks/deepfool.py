"""DeepFool (Moosavi-Dezfooli et al., arXiv:1511.04599), in L2 and Linf."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from explorer.attacks import ATTACKS
from explorer.attacks._fields import draws_per_step
from explorer.attacks.boundary import BEYOND, BoundaryWalk, Linearization, crossing, leads, nearest, refine
from explorer.core import Attack, Goal, Step, ThreatModel, param
from explorer.core.waits import counts, surely_none, where_true

STEEPER = 4.0  # a boundary that would be farther off even if its slope were so many times the steepest is not looked at
CHANGED = 2.0  # nor is one that would be if its own slope, seen before, had become so many times as steep
AS_PAPER = 5  # updates that step as if pixels could leave [0, 1]: those that are cut short look at the slopes once more
WORTH = 0.001  # an image is drawn back if that shortens its distance by more, and its slopes misled it by more (shares)


@ATTACKS.register(
    "deepfool",
    title="DeepFool",
    paper="arXiv:1511.04599",
    group="minimal",
    summary="Walks straight to the nearest class boundary, as if the boundaries were flat: how far is the edge?",
)
@dataclass(frozen=True)
class DeepFool(Attack):
    """r <- r + m_k / ||w_k||^2 * w_k for the boundary k that is nearest if the logits were linear; x = x0 + 1.02 r.

    m_k is the logit of the present class minus that of class k, w_k the gradient of the reverse difference, nearest by
    m_k / ||w_k|| in the dual norm (L2: itself; Linf: the 1-norm, and the step is m_k / ||w_k||_1 * sign(w_k)). The
    overshoot is part of the point that is looked at; an image that has crossed a boundary leaves the batch.
    Cost of one update: one forward pass and one backward pass for each boundary that is looked at: one to `classes` - 1
    of them; with a target, one. As soon as half of the images in a backward pass would be there for nothing, the others
    are looked at once more by themselves: a forward pass. The last look is one, too, and so is drawing an image back.
    differs: boundaries are looked at one by one, beginning with the one that seems nearest; one that would be farther
    off than the nearest so far even if its slope were twice as steep as last seen (four times as steep as the steepest
    seen, if it was not) is left out.
    differs: an image that has arrived, and not just as straight slopes would have it, is drawn back along the last update,
    to where the secant of its lead crosses zero and a tenth of the rest beyond it, if it is fooled there.
    differs: the present class is the label, since an image that is not taken for its label has reached the goal at once.
    differs: with a target, each update goes to the boundary between the target and the best other class only.
    differs: pixels stay in [0, 1]; an update that would lead beyond is cut there. From the sixth update on, pixels at the
    limit that would go beyond it are left out of w_k, so that no image stops short of its boundary.
    differs: where every gradient is exactly zero or not finite, the image takes a random step (Step.degenerate).
    """

    budget = "minimal"
    threats: ClassVar[tuple[str, ...]] = ("linf", "l2")
    formula: ClassVar[str] = r"r \leftarrow r + \frac{m_k}{\lVert w_k\rVert_2^2}\,w_k"
    explanation: ClassVar[str] = (
        r"Near the picture, treat the model as if its logits were straight slopes: then the lead $m_j$ of the present "
        r"class over each other class $j$ falls along a known direction $w_j$, and the distance to that class is the "
        r"lead divided by the steepness. Walk to the nearest such boundary $k$, a little beyond it ($x + (1+\eta)\,r$ "
        r"with the overshoot $\eta$), look again, and repeat until the model has changed its mind. (In L∞ every pixel "
        r"moves by the same amount, in the direction of the sign of $w_k$.) It needs no eps: the result is a distance."
    )
    presets = {"weak": {"steps": 5, "classes": 3}, "standard": {}, "strong": {"steps": 200, "classes": 20}}

    steps: int = param(50, "steps", lo=1, hi=1000, help="How many updates at most; most images need two to five.")
    overshoot: float = param(
        0.02, "overshoot", lo=0.0, hi=1.0, step=0.01, help="How far beyond the boundary to go, relative to the distance.",
    )  # fmt: skip
    classes: int = param(
        10, "classes", lo=2, hi=1000, help="Only the boundaries between this many most likely classes are looked at."
    )
    draws: int = draws_per_step()

    @property
    def expected_frames(self) -> int:
        """Steps that the walk yields at most."""
        return self.steps + 1

    @property
    def expected_passes(self) -> int:
        """Forward and backward passes of one image at most; fewer where the model has fewer classes."""
        return (self.steps * (2 * self.classes - 1) + 2) * self.draws

    def walk(
        self, model: nn.Module, x0: Tensor, goal: Goal, threat: ThreatModel, rng: torch.Generator
    ) -> Iterator[Step]:
        self.check_threat(threat)
        at = BoundaryWalk(model, x0.detach(), goal, threat, rng, self.draws)
        rows, x, moved = at.everybody, at.x0, torch.zeros_like(at.x0)
        rivals = sizes = at.everybody[:, None]
        for index in range(self.steps + 1):
            before, seen = (at.x, at.logits), at.linearize(x, rows, sloped=index < self.steps)
            at.show(x, seen.logits, rows)
            going = ~goal.rows(rows).reached(seen.logits)
            (left,) = counts(going)
            over = index == self.steps or left == 0
            if not over:
                if index == 0 or goal.is_targeted:
                    rivals = goal.rivals(at.logits, 1 if goal.is_targeted else self.classes - 1)
                    sizes = torch.zeros_like(rivals, dtype=x0.dtype)
                step, lost = self._to_nearest(at, seen, rows, rivals, sizes, left)
                at.degenerate[rows] = lost & going
            if index > 0 and left < len(rows):
                self._draw_back(at, before, rows[where_true(~going, len(rows) - left)])
            yield at.step(0 if over else self.steps - index)
            if over:
                return
            kept = where_true(going, left)
            rows, step, lost = rows[kept], step[kept], lost[kept]
            if not surely_none(lost):
                step = torch.where(lost.view(-1, 1, 1, 1), at.nudge(step), step)
            start = at.x0[rows]
            moved[rows] = torch.minimum(torch.maximum(moved[rows] + step, -start), 1 - start)
            x = (start + (1 + self.overshoot) * moved[rows]).clamp(0, 1)

    def _to_nearest(
        self, at: BoundaryWalk, seen: Linearization, rows: Tensor, rivals: Tensor, sizes: Tensor, going: int
    ) -> tuple[Tensor, Tensor]:
        """(n,C,H,W) the step to the nearest boundary of each image in `rows` (`going` of them still go on), (n,) if none is of use.

        `sizes` (N,R) tells how steep each rival's slope was when it was last seen, 0: not yet; it is brought up to date. As
        soon as half of the images would be in a backward pass for nothing, the others are looked at again by themselves.
        """
        x, goal, norm = at.x[rows], at.goal.rows(rows), at.ball.norm
        lead = leads(seen.logits, goal, rivals[rows])  # (n,R)
        eligible = ~goal.reached(seen.logits)[:, None].repeat(1, lead.shape[1])  # not seen, and perhaps the nearest
        far, step, some = x.new_full((len(x),), math.inf), torch.zeros_like(x), torch.arange(len(x), device=x.device)
        for number in range(lead.shape[1] + 1):
            size, steepest = sizes[rows], sizes[rows].amax(1, keepdim=True)
            expected = lead / torch.where(size > 0, size, torch.where(steepest > 0, steepest, 1.0))
            least = expected / torch.where(size > 0, CHANGED, STEEPER)
            eligible &= far.isinf()[:, None] | (least < far[:, None])
            asking = eligible.any(1)
            count = going if number == 0 else counts(asking)[0] if number < lead.shape[1] else 0
            if count == 0:
                break
            if 2 * count <= len(some):
                some = where_true(asking, count)
                seen = at.linearize(x[some], rows[some])
            which = expected.nan_to_num().masked_fill(~eligible, math.inf).argmin(1)
            slope = at.slopes(seen, rows[some], rivals[rows[some], which[some]][:, None], more=True)
            asked = where_true(asking[some], count)
            slope, now = slope[asked], some[asked]
            k, limit = which[now], x[now][:, None]
            outward = ((limit <= 0) & (slope < 0)) | ((limit >= 1) & (slope > 0))
            slope = slope if at.index < AS_PAPER else slope.masked_fill(outward, 0)
            plane = nearest(lead[now, k][:, None], slope, norm)
            sizes[rows[now], k] = plane.size.masked_fill(plane.lost, 0).to(sizes)
            eligible[now, k] = False
            length = plane.lengths[:, 0].to(far)
            way, nearer = plane.step(norm).to(x).view_as(x[now]), length < far[now]
            far[now] = torch.where(nearer, length, far[now])
            step[now] = torch.where(nearer.view(-1, 1, 1, 1), way, step[now])
        return step, far.isinf()

    def _draw_back(self, at: BoundaryWalk, before: tuple[Tensor, Tensor], rows: Tensor) -> None:
        """Images in `rows`, which have just arrived, go back along their last update to the secant's crossing (`refine`).

        Whoever is not fooled there stays, and so do those that straight slopes did not mislead: theirs is the paper's
        result, overshoot and all. `before`: images and logits of the look before.
        """
        goal, (x, logits) = at.goal.rows(rows), before
        leader = goal.rivals(at.logits[rows], 1)
        below, above = (-leads(every[rows], goal, leader)[:, 0] for every in (logits, at.logits))
        share, straight = crossing(below, above).flatten(), (1 + BEYOND * self.overshoot) / (1 + self.overshoot)
        shorter = (1 - share) * at.ball.distance(at.x[rows], x[rows]).to(share)
        worth = shorter > WORTH * at.ball.distance(at.x[rows], at.x0[rows]).to(share)
        worth &= (share - straight).abs() > WORTH
        some = where_true(worth, *counts(worth))
        rows, goal = rows[some], goal.rows(some)

        def look(tried: Tensor) -> tuple[Tensor, Tensor]:
            seen = at.linearize(tried, rows, sloped=False).logits
            held = goal.reached(seen)
            at.show(tried, seen, rows, only=held)
            return goal.margin(seen), held

        refine(look, (x[rows], at.x[rows]), (below[some], above[some]), steps=1)
