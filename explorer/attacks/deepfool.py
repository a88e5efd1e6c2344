"""DeepFool (Moosavi-Dezfooli et al., arXiv:1511.04599), in L2 and Linf."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from explorer.attacks import ATTACKS
from explorer.attacks._ascent import check_norm, look
from explorer.attacks._linear import LEAST, Sight, crossing, leads, likeliest, nearest, nudge, usable
from explorer.core import Ball, Goal, Hyper, Step, param

NEAREST = 3  # boundaries are looked at again after the first update


@ATTACKS.register(
    "deepfool",
    title="DeepFool",
    paper="arXiv:1511.04599",
    group="minimal",
    summary="Walks straight to the nearest class boundary, as if the boundaries were flat: how far is the edge?",
)
@dataclass(frozen=True)
class DeepFool(Hyper):
    """r <- r + m_k / ||w_k||^2 * w_k for the boundary k that is nearest if the logits were linear; x = x0 + 1.02 r.

    m_k is the logit of the present class minus that of class k, w_k the gradient of the reverse difference, nearest by
    m_k / ||w_k|| in the dual norm (L2: itself; Linf: the 1-norm, and the step is m_k / ||w_k||_1 * sign(w_k)). The
    overshoot is part of the point that is looked at; an image that has crossed a boundary leaves the batch.
    Cost of one update: one forward pass and one backward pass for each boundary that is looked at: the first time those
    of the other `classes` - 1 classes, later of the nearest 3 of them; with a target, of one. The last look is a
    forward pass; so is a second look without the images that are done, where their backward passes would cost more,
    and the one that draws an image back (below).
    differs: from the second update on only the 3 boundaries that were nearest at the look before are looked at.
    differs: an image that took several updates is drawn back along the last one, to where the margin's secant crosses
    zero and a tenth of the rest beyond it, if it is fooled there.
    differs: the present class is the label, since an image that is not taken for its label has reached the goal at once.
    differs: with a target, each update goes to the boundary between the target and the best other class only.
    differs: pixels stay in [0, 1]; those that stand at the limit and would go beyond it are left out of w_k.
    differs: where every gradient is exactly zero or not finite, the image takes a random step (Step.stalled).
    """

    budget: ClassVar[str] = "minimal"
    norms: ClassVar[tuple[str, ...]] = ("linf", "l2")
    formula: ClassVar[str] = r"r \leftarrow r + \frac{m_k}{\lVert w_k\rVert_2^2}\,w_k"
    explanation: ClassVar[str] = (
        r"Near the picture, treat the model as if its logits were straight slopes: then the lead $m_j$ of the present "
        r"class over each other class $j$ falls along a known direction $w_j$, and the distance to that class is the "
        r"lead divided by the steepness. Walk to the nearest such boundary $k$, a little beyond it ($x + (1+\eta)\,r$ "
        r"with the overshoot $\eta$), look again, and repeat until the model has changed its mind. (In L∞ every pixel "
        r"moves by the same amount, in the direction of the sign of $w_k$.) It needs no eps: the result is a "
        r"distance."
    )
    presets = {
        "weak": {"steps": 5, "classes": 3},
        "standard": {},
        "strong": {"steps": 200, "classes": 20},
    }

    steps: int = param(50, "steps", lo=1, hi=1000, help="How many updates at most; most images need two to five.")
    overshoot: float = param(
        0.02,
        "overshoot",
        lo=0.0,
        hi=1.0,
        step=0.01,
        help="How far beyond the boundary to go, relative to the distance.",
    )
    classes: int = param(
        10, "classes", lo=2, hi=1000, help="Only the boundaries between this many most likely classes are looked at."
    )
    draws: int = param(
        1, "draws per step", lo=1, hi=512, help="Gradients averaged over this many passes of a stochastic model (EOT)."
    )

    @property
    def expected_frames(self) -> int:
        """Steps that the walk yields at most."""
        return self.steps + 1

    @property
    def expected_passes(self) -> int:
        """Forward and backward passes of one image at most; fewer where the model has fewer classes."""
        later = (self.steps - 1) * min(NEAREST, self.classes - 1)
        return (2 * (self.steps + 1) + self.classes - 1 + later) * self.draws

    def walk(self, model: nn.Module, x0: Tensor, goal: Goal, ball: Ball, rng: torch.Generator) -> Iterator[Step]:
        check_norm(self, ball)
        x0 = x0.detach()
        n, none = len(x0), torch.zeros(len(x0), dtype=torch.int64, device=x0.device)
        x, moved, forwards, backwards = x0.clone(), torch.zeros_like(x0), none, none
        logits = rivals = before = None
        active = torch.arange(n, device=x0.device)
        for index in range(self.steps + 1):
            aim = goal.rows(active)
            seen, flat = self._linearised(model, x[active], aim, rivals, index == self.steps, rng)
            going = ~aim.reached(seen)
            forwards = forwards.index_add(0, active, torch.full_like(active, self.draws))
            logits, margin = (seen, None) if index == 0 else (logits.index_copy(0, active, seen), goal.margin(logits))
            stalled = torch.zeros(n, dtype=torch.bool, device=x0.device)
            if flat is not None:
                spent = active[going] if flat.anew else active
                forwards = forwards.index_add(0, spent, torch.full_like(spent, self.draws * flat.anew))
                backwards = backwards.index_add(0, spent, torch.full_like(spent, self.draws * flat.slopes.shape[1]))
                slopes = _free(flat.slopes, x[active[going]])
                stalled[active[going]] = ~usable(slopes).any(1)
            done = active[~going]
            if index > 1 and len(done):
                x, logits = self._nearer(model, before[done], x, logits, margin[done], done, goal, rng)
                forwards = forwards.index_add(0, done, torch.full_like(done, self.draws))
            over = flat is None
            yield Step(
                index=index,
                total=index if over else self.steps,
                x=x,
                logits=logits,
                loss=goal.margin(logits),
                distance=ball.distance(x, x0),
                reached=goal.reached(logits),
                stalled=stalled,
                forwards=forwards,
                backwards=backwards,
            )
            if over:
                return
            step, lengths = _step(flat.leads, slopes, ball.norm, rng)
            closest = lengths.topk(min(NEAREST, lengths.shape[1]), dim=1, largest=False).indices
            active, rivals = active[going], flat.rivals.gather(1, closest)
            start = x0[active]
            far = torch.minimum(torch.maximum(moved[active] + step, -start), 1 - start)
            before, moved, x = x, moved.clone(), x.clone()  # those handed out stay as they are
            moved[active] = far
            x[active] = (start + (1 + self.overshoot) * far).clamp(0, 1)

    def _linearised(
        self, model: nn.Module, x: Tensor, goal: Goal, rivals: Tensor | None, last: bool, rng: torch.Generator
    ) -> tuple[Tensor, _Flat | None]:
        """Logits (n,K), means over the draws, and what the model looks like where the goal is not yet reached; None if
        nobody needs to know. With a target, the best other class is chosen anew.
        """
        seen = Sight(model, x, self.draws, rng, sloped=not last)
        logits, going = seen.logits, ~goal.reached(seen.logits)
        left = int(going.sum())
        if last or left == 0:
            return logits, None
        width = 1 if goal.is_targeted else min(self.classes, logits.shape[1]) - 1 if rivals is None else rivals.shape[1]
        anew = (len(x) - left) * width > left  # backward passes of finished images cost more than looking again without
        if anew:
            seen = Sight(model, x[going], self.draws, rng)
            goal, rivals = goal.rows(going), None if rivals is None else rivals[going]
        if goal.is_targeted or rivals is None:
            rivals = likeliest(seen.logits, goal, width)
        flat = _Flat(leads(seen.logits, goal, rivals), rivals, seen.slopes(goal, rivals), anew)
        return logits, flat if anew else flat.rows(going)

    def _nearer(
        self,
        model: nn.Module,
        before: Tensor,
        x: Tensor,
        logits: Tensor,
        margin: Tensor,
        rows: Tensor,
        goal: Goal,
        rng: torch.Generator,
    ) -> tuple[Tensor, Tensor]:
        """x and logits of all images, those in `rows` (which have just arrived) drawn back along their last update.

        `before` and `margin` are of these rows at the look before. They go to where the margin's secant crosses zero, and a
        little beyond (`crossing`); whoever is not fooled there stays.
        """
        now, aim = x[rows], goal.rows(rows)
        tried = before + crossing(margin, aim.margin(logits[rows])) * (now - before)
        seen = look(model, tried, aim, "margin", self.draws, rng).logits
        held = aim.reached(seen)
        x = x.index_copy(0, rows, torch.where(held.view(-1, 1, 1, 1), tried, now))
        return x, logits.index_copy(0, rows, torch.where(held[:, None], seen, logits[rows]))


@dataclass(frozen=True, eq=False)
class _Flat:
    """A model as if it were linear: leads (n,R) over the classes `rivals` (n,R), and their slopes (n,R,C,H,W)."""

    leads: Tensor
    rivals: Tensor
    slopes: Tensor
    anew: bool  # seen in a pass of its own

    def rows(self, keep: Tensor) -> _Flat:
        return _Flat(self.leads[keep], self.rivals[keep], self.slopes[keep], self.anew)


def _free(slopes: Tensor, x: Tensor) -> Tensor:
    """(n,R,C,H,W) slopes without the pixels that stand at 0 or 1 and would have to leave [0, 1]."""
    x = x[:, None]
    return slopes.masked_fill(((x <= 0) & (slopes < 0)) | ((x >= 1) & (slopes > 0)), 0)


def _step(leads: Tensor, slopes: Tensor, norm: str, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """(n,C,H,W) the shortest way to a boundary by these leads (n,R) and slopes (n,R,C,H,W), random if all are dead; and
    (n,R) how far each boundary is."""
    near = nearest(leads, slopes, norm)
    least = LEAST if norm == "linf" else LEAST * math.sqrt(near.way.shape[1])
    way = near.way.sign() if norm == "linf" else near.way / near.size[:, None]
    step = way * (near.lead / near.size).clamp(min=least)[:, None]
    step = step.to(slopes.dtype).view(len(leads), *slopes.shape[2:])
    if bool(near.lost.any()):
        step = torch.where(near.lost.view(-1, 1, 1, 1), nudge(step, rng), step)
    return step, near.lengths
