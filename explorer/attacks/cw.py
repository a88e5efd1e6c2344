"""Carlini & Wagner's L2 attack (arXiv:1608.04644; search and resets as in the authors' l2_attack.py)."""

from __future__ import annotations

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

FRAMES = 120  # of all updates about this many are yielded
LOOKS, STILL = 10, 1.25  # so often in a search an image leaves unless its objective fell by STILL / steps (a share)
SHORTER, PATIENCE = 0.999, 2  # a search that leaves more than this share of the distance was idle; so many in a row
RIVALS = 9  # of so many of the likeliest wrong classes the slopes at the image are seen
WIDER = 0.9  # tanh of w at a white pixel (-WIDER at a black one), so that there is a slope
ENOUGH = 30  # the first c, for a first_c of 1, in units of what a straight boundary needs
LONGEST = 0.1  # Adam's step at most, where lr is not longer
LAST = 0.1  # to this share the step shrinks within a search, once the distance is known
BETAS, TINY = (0.9, 0.999), 1e-8  # Adam's own constants


@ATTACKS.register(
    "cw",
    title="C&W",
    paper="arXiv:1608.04644",
    group="minimal",
    summary="Minimises the length of the change and a penalty together, again and again: slow, precise distances.",
)
@dataclass(frozen=True)
class CW(Attack):
    """min over w of ||x(w) - x0||^2 + c * max(0, kappa - margin(x(w))), with x(w) inside [0, 1] by a tanh.

    margin is the best other logit minus the label's (with a target the reverse): the paper's f, sign turned; above kappa it
    is a success. c is searched for each image by itself: times 10 until it succeeds, then halving between the largest that
    failed and the smallest that succeeded; from 10 searches on, the last one repeats that upper end. w and Adam begin anew
    in every search. The nearest success of all slides along the boundary, and a bisection between the image and it follows.
    Cost: up to 9 backward passes for the slopes at the image; a forward and a backward pass for each update of an image that
    still moves (none back where all of the batch have succeeded for the moment) and each slide; a forward pass for the first
    look and each halving. About 120 updates are yielded, and every search's best point; Step.reached: a margin above kappa.
    differs: c begins at 30 first_c times what suffices if the nearest boundary is as straight as the slopes at the image
    say, whatever the scale of the logits; Adam's step at what a typical pixel has to change then, if that is more than lr.
    Once an image has a result, the step is no longer than what a typical pixel changed by, and shrinks.
    differs: an image leaves a search by itself when its objective stands still, not when that of the batch does.
    differs: the penalty follows the likeliest wrong class. An image that two searches have not brought nearer by a thousandth
    turns, without a target, to the class (of the 9 likeliest) that is nearest by the slopes at the image, if nearer than what
    was found: its penalty asks for that class until a search is idle. Without such a class it is done with searching.
    differs: the tanh is widened to [-1/18, 19/18] and cut at [0, 1], so that x(w0) is the image, and black and white
    pixels have a slope (the authors scale by 0.999999, where it is a millionth).
    differs: the slides and the bisection at the end (`BoundarySearch`); a success that could be rounding is none.
    differs: a gradient that is exactly zero or not finite is replaced by a random direction (in a slide: the point stays).
    """

    budget = "minimal"
    threats: ClassVar[tuple[str, ...]] = ("l2",)
    formula: ClassVar[str] = r"\min_w\ \lVert x_w - x\rVert_2^2 + c\,f(x_w)"
    explanation: ClassVar[str] = (
        r"Two wishes in one sum: keep the change short, and make some wrong logit $z_j$ beat the right one $z_y$ by "
        r"$\kappa$, which is what $f = \max(0,\ \kappa + z_y - \max_{j\ne y} z_j)$ asks for. The factor $c$ weighs "
        r"them: too small, and nothing happens; too large, and the change is longer than it must be. So $c$ is "
        r"searched for, with a fresh start each time. The picture $x_w$ is a tanh of the variable $w$, which keeps "
        r"every pixel inside its range. At the end a bisection moves the best result back to the very boundary."
    )
    presets = {"weak": {"searches": 5, "steps": 50}, "standard": {}, "strong": {"steps": 1000}}

    searches: int = param(9, "searches", lo=1, hi=20, help="How many values of c are tried.")
    steps: int = param(100, "steps per search", lo=1, hi=10000, help="Updates of one search at most.")
    kappa: float = param(
        0.0, "confidence", lo=0.0, hi=100.0, step=1.0, help="By how much the wrong class must lead (kappa), in logits."
    )
    lr: float = param(0.01, "learning rate", lo=0.0001, hi=1.0, step=0.005, help="Adam's step, in the tanh variable.")
    first_c: float = param(
        0.1, "first c", lo=1e-6, hi=1e6, step=0.1, help="First weight: 0.1 is 3 times what a straight boundary needs."
    )
    slides: int = param(8, "slides", lo=0, hi=100, help="Steps along the boundary toward the image, after the searches.")  # fmt: skip
    halvings: int = param(10, "halvings", lo=0, hi=30, help="Bisection steps to the boundary at the end.")
    draws: int = draws_per_step()

    @property
    def expected_frames(self) -> int:
        """Steps that the walk yields at most."""
        return 2 + self.searches * (1 + len(range(0, self.steps, self._every))) + self.slides

    @property
    def expected_passes(self) -> int:
        """Forward and backward passes of one image at most."""
        return (1 + RIVALS + 2 * self.searches * self.steps + 2 * self.slides + self.halvings) * self.draws

    @property
    def _every(self) -> int:
        return math.ceil(self.searches * self.steps / FRAMES)  # one of so many updates is yielded

    def walk(
        self, model: nn.Module, x0: Tensor, goal: Goal, threat: ThreatModel, rng: torch.Generator
    ) -> Iterator[Step]:
        self.check_threat(threat)
        best = BoundarySearch(model, x0.detach(), goal, threat, rng, self.draws, kappa=self.kappa)
        yield best.step(self.expected_frames - 1)
        if best.left == 0:
            return
        penalty, shown = _Penalty(best, self.first_c), len(range(0, self.steps, self._every))
        for search in range(self.searches):
            later = (self.searches - search - 1) * (shown + 1) + self.slides + 1  # steps to come afterwards
            before, state = best.best_distance, penalty.begin(best, self.lr, repeat=search == self.searches - 1 >= 9)
            if len(state.rows) == 0:
                break
            for update in range(self.steps):
                state = self._update(best, penalty, state, update)
                if update % self._every == 0:
                    yield best.step(shown - update // self._every + later)
                if len(state.rows) == 0:
                    break
            best.show_best()
            penalty.bisect()
            penalty.turn(best, before)
            yield best.step(later)
        for left in best.slide(self.slides):
            yield best.step(left + 1)
        best.refine(self.halvings, halfway)
        yield best.step(0)

    def _update(self, best: BoundarySearch, penalty: _Penalty, state: _Search, update: int) -> _Search:
        """One step of Adam down ||x(w) - x0||^2 + c f(x(w)) from the present points; now and then, those that stand still leave."""
        rows, x0, tanh = state.rows, best.x0[state.rows], torch.tanh(state.w)
        x = ((tanh / WIDER + 1) / 2).clamp(0, 1) if update else x0  # at first the same but for rounding
        seen, goal = best.look(x, rows), best.goal.rows(rows)
        toward = penalty.toward[rows][:, None]
        rival = torch.where(toward < 0, goal.rivals(seen.logits, 1), toward)  # (n,1)
        f = leads(seen.logits, goal, rival)[:, 0] + self.kappa  # (n,), below 0 where the rival leads by enough
        penalty.succeeded[rows] |= f < 0
        c, slope = penalty.c[rows], 2 * (x - x0)
        state.lowest = torch.minimum(state.lowest, (x - x0).square().flatten(1).sum(1) + c * f.clamp(min=0))
        needed = f >= 0  # a tie is not yet a success: the slope ends beyond it
        improving = state.lowest <= (1 - STILL / self.steps) * state.before  # (n,)
        wanted, moving = best.counts(needed, improving)
        if wanted:
            rise = best.slopes(seen, rows, rival)[:, 0]  # of -f
            best.degenerate[rows] |= degenerate(rise) & needed
            rise = replace_degenerate(rise, best.rng) * c.view(-1, 1, 1, 1)
            slope = torch.where(needed.view(-1, 1, 1, 1), slope - rise, slope)
        state.adam(slope * (1 - tanh.square()) / (2 * WIDER), update, self.steps)
        return state if update % max(self.steps // LOOKS, 1) else state.keep(where_true(improving, moving))


@dataclass(eq=False)
class _Search:
    """The images of one search that still move, and Adam's state."""

    rows: Tensor  # (n,)
    w: Tensor  # (n,C,H,W)
    mean: Tensor  # (n,C,H,W) of the slopes
    square: Tensor
    lr: Tensor  # (n,1,1,1) at first
    fall: Tensor  # (n,1,1,1) the share of it that is gone at last
    lowest: Tensor  # (n,) the objective, since the last time that it was asked for,
    before: Tensor  # (n,) and until then

    def adam(self, slope: Tensor, update: int, steps: int) -> None:
        self.mean.lerp_(slope, 1 - BETAS[0])
        self.square.lerp_(slope.square(), 1 - BETAS[1])
        mean, square = self.mean / (1 - BETAS[0] ** (update + 1)), self.square / (1 - BETAS[1] ** (update + 1))
        lr, edge = self.lr * (1 - self.fall * update / steps), math.atanh(WIDER)
        self.w = (self.w - lr * mean / (square.sqrt() + TINY)).clamp(-edge, edge)

    def keep(self, some: Tensor) -> _Search:
        """Some of the images (index), whose objective is followed anew."""
        kept = _Search(*(value[some] for value in vars(self).values()))
        kept.before, kept.lowest = kept.lowest, torch.full_like(kept.lowest, math.inf)
        return kept


class _Penalty:
    """Each image's c, found by bisection, and the class that its penalty asks for."""

    def __init__(self, best: BoundarySearch, first_c: float):
        self.classes = RivalsBySlope(best, RIVALS)
        least = 2 * self.classes.nearest / self.classes.slope  # c that suffices if the boundary is straight
        self.c = first_c * torch.where(least > 0, ENOUGH * least, 1.0)
        self.low, self.high, self.worked = torch.zeros_like(self.c), torch.full_like(self.c, math.inf), self.c
        self.toward = torch.full_like(best.goal.labels, -1)  # the likeliest
        self.idle = torch.zeros_like(self.toward)  # searches that brought nothing, up to now
        self.succeeded = self.done = torch.zeros_like(best.found)  # in this search; with all searches

    def begin(self, best: BoundarySearch, lr: float, repeat: bool) -> _Search:
        """A new search for all images that could come nearer: all anew but c, its class and the step's length."""
        self.c = torch.where(self.high.isfinite() & repeat, self.high, self.c)
        self.succeeded = torch.zeros_like(self.done)
        some = ~best.done() & ~self.done
        rows = where_true(some, *best.counts(some))
        x0, pixels = best.x0[rows], math.sqrt(best.x0[0].numel())
        way = (self.classes.nearest[rows] / pixels).clamp(max=LONGEST).clamp(min=lr).view(-1, 1, 1, 1)
        changed = (best.best_distance[rows] / pixels).view(-1, 1, 1, 1)  # infinite as long as nothing is found
        step, none = torch.minimum(way, changed), torch.full_like(self.c[rows], math.inf)
        w, zero = torch.atanh(WIDER * (2 * x0 - 1)), torch.zeros_like(x0)
        return _Search(rows, w, zero, zero.clone(), step, (1 - LAST) * step / changed, none, none)

    def bisect(self) -> None:
        self.worked = torch.where(self.succeeded, self.c, self.worked)
        self.high = torch.where(self.succeeded, torch.minimum(self.high, self.c), self.high)
        self.low = torch.where(self.succeeded, self.low, torch.maximum(self.low, self.c))
        self.c = torch.where(self.high.isfinite(), (self.low + self.high) / 2, self.c * 10)

    def turn(self, best: BoundarySearch, before: Tensor) -> None:
        """Images that came no nearer turn to the nearest class by the slopes, from the last c that succeeded."""
        idle = before.isfinite() & (best.best_distance > SHORTER * before)
        self.idle = torch.where(idle, self.idle + 1, 0)
        turns, rival = self.classes.nearer(best, self.idle >= PATIENCE)
        self.done = (self.idle >= PATIENCE) & ~turns
        self.toward, self.c = torch.where(turns, rival, self.toward), torch.where(turns, self.worked, self.c)
        self.low, self.high = self.low.masked_fill(turns, 0.0), self.high.masked_fill(turns, math.inf)
