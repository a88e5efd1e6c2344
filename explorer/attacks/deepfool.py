"""DeepFool (Moosavi-Dezfooli et al., arXiv:1511.04599), in L2 and Linf."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from explorer.attacks import ATTACKS
from explorer.attacks._ascent import check_norm, dead, look
from explorer.core import Ball, Goal, Hyper, Step, param, randomness

NUDGE = 2 / 255  # every pixel's part in a random step, where there is no slope to follow
NEAREST = 3  # boundaries are looked at again after the first update
BEYOND = 0.1  # of the last update's overshoot is kept when it is drawn back
LEAST = 1e-6  # every pixel's part in the shortest step: less is lost in float32, and a tie would never be left


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
                stalled[active[going]] = ~_usable(slopes).any(1)
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
            nearest = lengths.topk(min(NEAREST, lengths.shape[1]), dim=1, largest=False).indices
            active, rivals = active[going], flat.rivals.gather(1, nearest)
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
        leaf, every, logits = self._look(model, x, not last, rng)
        going = ~goal.reached(logits)
        seen, left = logits, int(going.sum())
        if last or left == 0:
            return seen, None
        width = 1 if goal.is_targeted else min(self.classes, logits.shape[1]) - 1 if rivals is None else rivals.shape[1]
        anew = (len(x) - left) * width > left  # backward passes of finished images cost more than looking again without
        if anew:
            leaf, every, logits = self._look(model, x[going], True, rng)
            goal, rivals = goal.rows(going), None if rivals is None else rivals[going]
        others = logits.scatter(1, goal.labels[:, None], float("-inf"))
        if goal.is_targeted or rivals is None:
            rivals = others.topk(width, dim=1).indices
        slopes = []
        for k in range(width):
            rise = torch.zeros_like(logits).scatter(1, rivals[:, k : k + 1], 1.0)
            rise = rise.scatter(1, goal.labels[:, None], -1.0) * (-1.0 if goal.is_targeted else 1.0)
            rise = rise.repeat_interleave(self.draws, dim=0) / self.draws
            slopes.append(torch.autograd.grad(every, leaf, rise, retain_graph=k + 1 < width)[0])
        flat = _Flat(_leads(logits, goal, rivals), rivals, torch.stack(slopes, 1), anew)
        return seen, flat if anew else flat.rows(going)

    def _look(
        self, model: nn.Module, x: Tensor, graph: bool, rng: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The leaf (n,C,H,W), logits of every draw (n*draws,K), their means (n,K); `graph`: to be differentiated."""
        with torch.set_grad_enabled(graph), randomness(rng):
            leaf = x.detach().requires_grad_(graph)
            every = model(leaf.repeat_interleave(self.draws, dim=0) if self.draws > 1 else leaf).float()
        return leaf, every, every.detach().view(len(x), self.draws, -1).mean(1)

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

        `before` and `margin` are of these rows at the look before. Where the margin's secant crosses zero, and a share BEYOND of
        the rest of the way beyond it; whoever is not fooled there stays.
        """
        now, aim = x[rows], goal.rows(rows)
        share = margin / (margin - aim.margin(logits[rows]))  # of the update; margin < 0 before, > 0 now
        share = (share + BEYOND * (1 - share)).nan_to_num(1.0).clamp(0, 1).view(-1, 1, 1, 1)
        tried = before + share * (now - before)
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


def _leads(logits: Tensor, goal: Goal, rivals: Tensor) -> Tensor:
    """(n,R) how far each rival's logit must rise against the label's (with a target: the reverse)."""
    lead = logits.gather(1, goal.labels[:, None]) - logits.gather(1, rivals)
    return -lead if goal.is_targeted else lead


def _free(slopes: Tensor, x: Tensor) -> Tensor:
    """(n,R,C,H,W) slopes without the pixels that stand at 0 or 1 and would have to leave [0, 1]."""
    x = x[:, None]
    return slopes.masked_fill(((x <= 0) & (slopes < 0)) | ((x >= 1) & (slopes > 0)), 0)


def _usable(slopes: Tensor) -> Tensor:
    """(n,R) bool: neither exactly zero nor not finite."""
    return ~dead(slopes.flatten(0, 1)).view(slopes.shape[:2])


def _step(leads: Tensor, slopes: Tensor, norm: str, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """(n,C,H,W) the shortest way to a boundary by these leads (n,R) and slopes (n,R,C,H,W), random if all are dead; and
    (n,R) how far each boundary is."""
    n = len(leads)
    flat = slopes.double().flatten(2) if slopes.device.type != "mps" else slopes.flatten(2)
    usable = _usable(slopes)
    flat = torch.where(usable[:, :, None], flat, 1.0)
    size = flat.abs().sum(2) if norm == "linf" else flat.norm(dim=2)  # (n,R) in the dual norm
    length = torch.where(usable, leads / size, float("inf"))
    best = length.argmin(1)
    rows = torch.arange(n, device=leads.device)
    way = flat[rows, best]  # (n,D)
    way = way.sign() if norm == "linf" else way / size[rows, best][:, None]
    least = LEAST if norm == "linf" else LEAST * math.sqrt(way.shape[1])
    step = (way * length[rows, best].clamp(min=least)[:, None]).to(slopes.dtype).view(n, *slopes.shape[2:])
    lost = ~usable.any(1)
    if bool(lost.any()):
        noise = torch.randn(step.shape, generator=rng, device=rng.device, dtype=step.dtype).to(step.device)
        step = torch.where(lost.view(-1, 1, 1, 1), NUDGE * noise.sign(), step)
    return step, length
