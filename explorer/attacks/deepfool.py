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
from explorer.attacks._linear import BEYOND, LEAST, Near, Sight, crossing, leads, likeliest, nearest, nudge
from explorer.core import Attack, Ball, Goal, Step, param

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

    budget: ClassVar[str] = "minimal"
    threats: ClassVar[tuple[str, ...]] = ("linf", "l2")
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
        return (self.steps * (2 * self.classes - 1) + 2) * self.draws

    def walk(self, model: nn.Module, x0: Tensor, goal: Goal, ball: Ball, rng: torch.Generator) -> Iterator[Step]:
        check_norm(self, ball)
        x0 = x0.detach()
        n, none = len(x0), torch.zeros(len(x0), dtype=torch.int64, device=x0.device)
        x, moved, forwards, backwards = x0.clone(), torch.zeros_like(x0), none, none
        logits = rivals = sizes = before = None
        active = torch.arange(n, device=x0.device)
        for index in range(self.steps + 1):
            aim, last = goal.rows(active), index == self.steps
            seen = Sight(model, x[active], self.draws, rng, sloped=not last)
            forwards = forwards.index_add(0, active, torch.full_like(active, self.draws))
            going = ~aim.reached(seen.logits)
            over = last or not bool(going.any())
            degenerate = torch.zeros(n, dtype=torch.bool, device=x0.device)
            if not over:
                if rivals is None or goal.is_targeted:
                    rivals = likeliest(seen.logits, aim, 1 if goal.is_targeted else self.classes - 1)
                    sizes = torch.zeros_like(rivals, dtype=x0.dtype)
                edge, sizes = self._edge(
                    model, seen, x[active], aim, going, rivals, sizes, ball.norm, rng, cut=index < AS_PAPER
                )
                forwards = forwards.index_add(0, active, edge.forwards)
                backwards = backwards.index_add(0, active, edge.backwards)
                degenerate[active] = edge.lost & going
            if index == 0:
                logits = seen.logits
            else:
                earlier, logits = logits, logits.index_copy(0, active, seen.logits)
                done = active[~going]
                x, logits, again = self._drawn_back(model, x0, before, earlier, x, logits, done, goal, ball, rng)
                forwards = forwards.index_add(0, again, torch.full_like(again, self.draws))
            yield Step(
                index=index,
                total=index if over else self.steps,
                x=x,
                logits=logits,
                loss=goal.margin(logits),
                distance=ball.distance(x, x0),
                reached=goal.reached(logits),
                degenerate=degenerate,
                forwards=forwards,
                backwards=backwards,
                minimal=True,
            )
            if over:
                return
            step, lost = edge.step[going], edge.lost[going]
            if bool(lost.any()):
                step = torch.where(lost.view(-1, 1, 1, 1), nudge(step, rng), step)
            active, rivals, sizes = active[going], rivals[going], sizes[going]
            start = x0[active]
            far = torch.minimum(torch.maximum(moved[active] + step, -start), 1 - start)
            before, moved, x = x, moved.clone(), x.clone()  # those handed out stay as they are
            moved[active] = far
            x[active] = (start + (1 + self.overshoot) * far).clamp(0, 1)

    def _edge(
        self,
        model: nn.Module,
        seen: Sight,
        x: Tensor,
        goal: Goal,
        going: Tensor,
        rivals: Tensor,
        sizes: Tensor,
        norm: str,
        rng: torch.Generator,
        cut: bool,
    ) -> tuple[_Edge, Tensor]:
        """The way to the nearest boundary for each of x (n,C,H,W) that is `going` (n,); and the sizes, brought up to date.

        Unless it may be `cut` at [0, 1], the way is that of the pixels that are free to go it.
        `sizes` (n,R) tells how steep each rival's slope was when it was last seen, 0: not yet. As soon as half of the images
        would be in a backward pass for nothing, the others are looked at again by themselves.
        """
        lead = leads(seen.logits, goal, rivals)  # (n,R)
        eligible = going[:, None].repeat(1, lead.shape[1])  # (n,R) not yet looked at, and perhaps the nearest
        edge, rows = _Edge.nowhere(x), torch.arange(len(x), device=x.device)
        while True:
            expected = lead / _known(sizes)
            least = expected / torch.where(sizes > 0, CHANGED, STEEPER)
            eligible &= edge.lost[:, None] | (least < edge.length[:, None])
            asking = eligible.any(1)
            if not bool(asking.any()):
                return edge, sizes
            if 2 * int(asking.sum()) <= len(rows):
                rows = asking.nonzero()[:, 0]
                seen = Sight(model, x[rows], self.draws, rng)
                edge.forwards[rows] += self.draws
            which = expected.nan_to_num().masked_fill(~eligible, math.inf).argmin(1)
            edge.backwards[rows] += self.draws
            slope = seen.slope(goal.rows(rows), rivals[rows, which[rows]])[asking[rows]]
            at = rows[asking[rows]]
            k = which[at]
            slope = slope if cut else _free(slope, x[at])
            near = nearest(lead[at, k][:, None], slope[:, None], norm)
            sizes = sizes.index_put((at, k), near.size.masked_fill(near.lost, 0).to(sizes))
            eligible[at, k] = False
            edge.shorten(at, near, norm)

    def _drawn_back(
        self,
        model: nn.Module,
        x0: Tensor,
        before: Tensor,
        earlier: Tensor,
        x: Tensor,
        logits: Tensor,
        rows: Tensor,
        goal: Goal,
        ball: Ball,
        rng: torch.Generator,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """x and logits of all images, and which of `rows` (they have just arrived) were looked at once more.

        `before` and `earlier` are the images and logits of the look before. Those that were wrong about the boundary go
        back along their last update to where, on a straight line, the class that now leads would just draw level, and a
        little beyond (`crossing`); whoever is not fooled there stays. Where the slopes were as straight as assumed, the
        result is the paper's, overshoot and all.
        """
        aim = goal.rows(rows)
        leader = likeliest(logits[rows], aim, 1)
        share = crossing(-leads(earlier[rows], aim, leader)[:, 0], -leads(logits[rows], aim, leader)[:, 0])
        share, straight = share.flatten(), (1 + BEYOND * self.overshoot) / (1 + self.overshoot)
        shorter = (1 - share) * ball.distance(x[rows], before[rows]).to(share)
        clear = (shorter > WORTH * ball.distance(x[rows], x0[rows]).to(share)) & ((share - straight).abs() > WORTH)
        rows, share = rows[clear], share[clear].view(-1, 1, 1, 1)
        if len(rows) == 0:
            return x, logits, rows
        now, aim = x[rows], goal.rows(rows)
        tried = before[rows] + share * (now - before[rows])
        seen = look(model, tried, aim, "margin", self.draws, rng).logits
        held = aim.reached(seen)
        x = x.index_copy(0, rows, torch.where(held.view(-1, 1, 1, 1), tried, now))
        return x, logits.index_copy(0, rows, torch.where(held[:, None], seen, logits[rows])), rows


@dataclass(frozen=True, eq=False)
class _Edge:
    """The nearest boundary found: `length` (n,) of the `step` (n,C,H,W) to it, and the passes that it took."""

    length: Tensor
    step: Tensor
    forwards: Tensor
    backwards: Tensor

    @classmethod
    def nowhere(cls, x: Tensor) -> _Edge:
        none = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        return cls(x.new_full((len(x),), math.inf), torch.zeros_like(x), none, none.clone())

    @property
    def lost(self) -> Tensor:
        """(n,) bool: no slope was of use."""
        return self.length.isinf()

    def shorten(self, rows: Tensor, near: Near, norm: str) -> None:
        """Take what is nearer in these rows."""
        length = near.lengths[:, 0].to(self.length)
        nearer = length < self.length[rows]
        least = LEAST if norm == "linf" else LEAST * math.sqrt(near.way.shape[1])
        far = (near.lead / near.size).clamp(min=least)
        way, scale = (near.way.sign(), far) if norm == "linf" else (near.way, far / near.size)
        step, at = (way * scale[:, None]).to(self.step), rows[nearer]
        self.length[at], self.step[at] = length[nearer], step[nearer].view(-1, *self.step.shape[1:])


def _known(sizes: Tensor) -> Tensor:
    """(n,R) how steep each slope is taken to be: as last seen, else as the steepest seen of the image, else 1."""
    steepest = sizes.amax(1, keepdim=True)
    return torch.where(sizes > 0, sizes, torch.where(steepest > 0, steepest, 1.0))


def _free(slope: Tensor, x: Tensor) -> Tensor:
    """(n,C,H,W) slope without the pixels that stand at 0 or 1 and would have to leave [0, 1]."""
    return slope.masked_fill(((x <= 0) & (slope < 0)) | ((x >= 1) & (slope > 0)), 0)
