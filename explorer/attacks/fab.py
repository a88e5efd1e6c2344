"""FAB, the fast adaptive boundary attack (Croce & Hein, arXiv:1907.02044), as in the authors' code (fab_base.py)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from explorer.attacks import ATTACKS
from explorer.attacks._fields import draws_per_step
from explorer.attacks.boundary import (
    BoundarySearch,
    Hyperplane,
    Linearization,
    leads,
    least,
    length,
    nearest,
    shortest,
)
from explorer.core import Attack, Goal, Step, ThreatModel, param
from explorer.core.waits import surely_none, where_true

FRAMES = 120  # of all updates about this many are yielded
START = {"linf": 0.3, "l2": 1.0, "l1": 5.0}  # a random start lies within half of this, or of the nearest result


@ATTACKS.register(
    "fab",
    title="FAB",
    paper="arXiv:1907.02044",
    group="minimal",
    summary="Follows the boundary and pulls back toward the image, one wrong class after the other: small distances.",
)
@dataclass(frozen=True)
class FAB(Attack):
    """x <- clip((1 - a)(x + 1.05 d) + a(x0 + 1.05 d0)), then x <- x0 + 0.9 (x - x0) where the goal was reached.

    d and d0 are the shortest ways from x and from x0 to the boundary, if it is the straight one seen at x, that stay in
    [0, 1]: `shortest`. a = |d| / (|d| + |d0|), at most 0.1. The nearest point of all that reached the goal counts.
    Untargeted it is FAB-T: `restarts` runs toward the boundary to each of the likeliest wrong classes at the image, with
    any wrong class a success; or, if not `one_by_one`, runs toward whichever of these boundaries is nearest to x. The
    first run starts at the image, the others at a random point half as far as the nearest result so far.
    The final search of the authors' first code ends the walk: between the image and the result, where the straight line
    through both margins crosses zero, and again between the two points around the crossing.
    Cost: the first look takes one forward pass, and one backward pass for each class (targeted: one). An update takes one
    forward and one backward pass (a backward pass for each class if not `one_by_one`), and one more forward pass where
    the goal was reached; the final search `search_steps` forward passes. In a batch, slopes come from the look itself
    where most images need them, otherwise from one that is shared with those that stepped back.
    Of all updates about 120 are yielded, and each run's best point so far. Points beyond the ball do not count.
    differs: the step back is a candidate, too, where it still reaches the goal; an image that is not taken for its label
    has reached the goal at once; with a target, each update goes to the boundary between it and the best other class.
    differs: the final search goes a tenth of the rest of the way beyond the crossing, where a step could just miss it.
    differs: a is 0 until the run has reached the goal: where the boundary curves away, step and pull would cancel out.
    differs: a margin that could be rounding is no success, and each update aims at twice as much beyond the boundary.
    differs: no run goes toward a class whose logit is -inf at the image.
    differs: an update moves at least 1e-6 a pixel, so that a tie is left; where all slopes are exactly zero or not finite
    (Step.degenerate), or the point would stay, it is a random step.
    """

    budget: ClassVar[Literal["fixed", "minimal"]] = "minimal"
    threats: ClassVar[tuple[str, ...]] = ("linf", "l2", "l1")
    stops: ClassVar[bool] = False  # whether an image leaves with its first result
    formula: ClassVar[str] = r"x \leftarrow (1-\alpha)\,(x + \eta\, d) + \alpha\,(x_0 + \eta\, d_0)"
    explanation: ClassVar[str] = (
        r"Near the present point treat the boundary to a wrong class as straight. Find the shortest step $d$ from there "
        r"onto it, and the shortest step $d_0$ from the original picture, both within the range of the pixels. Go a "
        r"little beyond ($\eta$), mostly to the first, a little ($\alpha$) to the second, which is nearer to the "
        r"picture. Once the model is fooled, step a tenth of the way back and look again: so the points move along "
        r"the boundary, ever nearer to the picture. It needs no eps: the result is a distance."
    )
    presets = {"weak": {"steps": 20, "target_classes": 3}, "standard": {}, "strong": {"steps": 100, "restarts": 2}}

    steps: int = param(50, "steps", lo=1, hi=1000, help="How many times the image is updated, in each run.")
    target_classes: int = param(
        9, "target classes", lo=1, hi=999, help="How many of the likeliest wrong classes' boundaries are looked for."
    )
    one_by_one: bool = param(
        True,
        "one class at a time",
        help="One run toward each class. Off: one run, each step of which goes to the boundary that is nearest.",
    )
    restarts: int = param(
        1, "restarts", lo=1, hi=100, help="Runs toward each class, from new random starts; the nearest result counts."
    )
    alpha_max: float = param(
        0.1, "largest pull", lo=0.0, hi=1.0, step=0.05, help="How much of a step may aim from the original image."
    )
    eta: float = param(
        1.05, "overshoot", lo=1.0, hi=2.0, step=0.05, help="How far beyond the boundary to go: 1 is onto it."
    )
    beta: float = param(
        0.9, "step back", lo=0.0, hi=1.0, step=0.05, help="How much of the change is kept after a success."
    )
    search_steps: int = param(
        3, "final search", lo=0, hi=30, help="Steps between the image and the result, to the very boundary."
    )
    draws: int = draws_per_step()

    @property
    def expected_frames(self) -> int:
        """Steps that the walk yields at most."""
        return 1 + self._left(self._runs(self.target_classes))

    @property
    def expected_passes(self) -> int:
        """Forward and backward passes of an image by itself at most; fewer where the model has fewer classes."""
        width = 1 if self.one_by_one else self.target_classes
        updates = self._runs(self.target_classes) * self.steps
        return (1 + self.target_classes + updates * (2 + width) + self.search_steps) * self.draws

    @property
    def _every(self) -> int:
        """One of so many updates is yielded."""
        return math.ceil(self._runs(self.target_classes) * self.steps / FRAMES)

    def _runs(self, classes: int) -> int:
        return self.restarts * (classes if self.one_by_one else 1)

    def _left(self, runs: int) -> int:
        """Steps to come when so many runs have not begun: updates, the best of each run, the end of the search."""
        return runs * (self.steps // self._every + 1) + (self.search_steps > 0)

    def walk(
        self, model: nn.Module, x0: Tensor, goal: Goal, threat: ThreatModel, rng: torch.Generator
    ) -> Iterator[Step]:
        self.check_threat(threat)
        best = BoundarySearch(model, x0.detach(), goal, threat, rng, self.draws, eps=threat.eps, stops=self.stops)
        runs = [start for start in self._starts(best) for _ in range(self.restarts)]
        yield best.step(self._left(len(runs)))
        for number, (rivals, clean) in enumerate(runs):
            later = self._left(len(runs) - number - 1)
            if best.left == 0:
                return
            run = _Run(self, best, rivals, clean, anywhere=number % self.restarts > 0)
            for update in range(1, self.steps + 1):
                if len(run.rows) == 0:
                    break
                run.update(last=update == self.steps)
                if update % self._every == 0 and len(run.rows):
                    yield best.step(self.steps // self._every - update // self._every + 1 + later)
            best.show_best()
            yield best.step(later)
        if self.search_steps and best.left:
            best.refine(self.search_steps)
            yield best.step(0)

    def _starts(self, best: BoundarySearch) -> list[tuple[Tensor | None, Hyperplane]]:
        """For each group of classes these (N,R), and the boundary to them as it is seen from the untouched images.

        With a target there is one group, whose class is chosen anew at every look (None). Nothing if all is done.
        """
        if best.left == 0:
            return []
        rivals, lead, slopes = best.from_images(self.target_classes)
        groups = [slice(r, r + 1) for r in range(rivals.shape[1])] if self.one_by_one else [slice(None)]
        planes = [nearest(lead[:, group], slopes[:, group], best.ball.norm) for group in groups]
        classes = [None if best.goal.is_targeted else rivals[:, group] for group in groups]
        return list(zip(classes, planes, strict=True))


class FABInside(FAB):
    """FAB as a part of AutoAttack: an image leaves with its first result inside the ball, as it is then fooled."""

    budget = "fixed"
    stops: ClassVar[bool] = True


class _Run:
    """The walk of the images in `rows`, at x, toward one group of classes, the nearest of whose boundaries is `plane`."""

    def __init__(self, attack: FAB, best: BoundarySearch, rivals: Tensor | None, clean: Hyperplane, anywhere: bool):
        self.attack, self.best, self.rivals = attack, best, rivals
        going = ~best.done()
        if rivals is not None:  # a class at -inf is infinitely far
            going &= (best.clean.logits.gather(1, rivals) != -math.inf).any(1)
        self.rows = where_true(going, *best.counts(going))
        self.x, self.plane = best.x0[self.rows], clean.rows(self.rows)
        self.crossed = torch.zeros_like(self.rows, dtype=torch.bool)
        if anywhere and len(self.rows):
            self.x = self._anywhere()
            self.plane = self._seen(self.x, best.look(self.x, self.rows), self.rows)

    def update(self, last: bool) -> None:
        """Step to where the boundary seems to be, look, step back where it was crossed; see the slopes there."""
        best, x = self.best, self._ahead()
        seen = best.look(x, self.rows, sloped=not last)
        if last:
            return
        x0, beyond, stay = best.x0[self.rows], best.clear(seen.logits, self.rows), ~best.done()[self.rows]
        back = torch.where(beyond.view(-1, 1, 1, 1), (x0 + self.attack.beta * (x - x0)).clamp(0, 1), x)
        again = beyond & stay
        successes, staying, stepping = best.counts(beyond, stay, again)
        kept = where_true(stay, staying)
        rows, self.rows, self.x = self.rows, self.rows[kept], back[kept]
        self.crossed = (self.crossed | beyond)[kept]
        if successes > len(x) // 2:  # a new look costs less than backward passes that nobody needs
            if len(self.rows):
                self.plane = self._seen(self.x, best.look(self.x, self.rows), self.rows)
        elif len(self.rows):
            plane = self._seen(x, seen, rows)
            if stepping:
                some = where_true(again, stepping)
                plane = plane.put(some, self._seen(back[some], best.look(back[some], rows[some]), rows[some]))
            self.plane = plane.rows(kept)

    def _seen(self, x: Tensor, seen: Linearization, rows: Tensor) -> Hyperplane:
        """The nearest boundary, as it is seen at x (n,C,H,W), points of the images in `rows`: backward passes."""
        best, goal = self.best, self.best.goal.rows(rows)
        rivals = goal.rivals(seen.logits, 1) if self.rivals is None else self.rivals[rows]
        lead = leads(seen.logits, goal, rivals) + 2 * best.rounding(seen.logits, rows)[:, None]  # to a clear success
        plane = nearest(lead, best.slopes(seen, rows, rivals), best.ball.norm)
        best.degenerate[rows] |= plane.lost
        return plane

    def _anywhere(self) -> Tensor:
        """A random point half as far as the nearest result, or as START."""
        best, norm, x0 = self.best, self.best.ball.norm, self.x
        draw = torch.rand if norm == "linf" else torch.randn
        noise = draw(x0.shape, generator=best.rng, device=best.rng.device, dtype=x0.dtype).to(x0.device)
        noise = 2 * noise - 1 if norm == "linf" else noise
        noise = noise / length(noise.flatten(1), norm).view(-1, 1, 1, 1)
        eps = best.ball.rows(self.rows).eps
        limit = eps.to(x0).clamp(max=START[norm]) if isinstance(eps, Tensor) else min(START[norm], eps)
        far = best.best_distance[self.rows].clamp(max=limit)
        return (x0 + far.view(-1, 1, 1, 1) / 2 * noise).clamp(0, 1)

    def _ahead(self) -> Tensor:
        """(n,C,H,W) beyond the boundary as it seems to be, mostly from x, a little from the image."""
        plane, norm, eta = self.plane, self.best.ball.norm, self.attack.eta
        x, x0 = (point.flatten(1).to(plane.way) for point in (self.x, self.best.x0[self.rows]))
        near = torch.where(plane.lead < 0, -1.0, 1.0) * torch.maximum(
            plane.lead.abs(), least(plane.way, norm) * plane.size
        )
        far = plane.lead + (plane.way * (x - x0)).sum(1)
        d, d0 = shortest(torch.cat([plane.way] * 2), torch.cat([near, far]), torch.cat([x, x0]), norm).chunk(2)
        own, pull = length(d, norm), length(d0, norm)
        alpha = (own / (own + pull)).nan_to_num(0.0).clamp(max=self.attack.alpha_max)
        alpha = (alpha * self.crossed)[:, None]
        ahead = (1 - alpha) * (x + eta * d) + alpha * (x0 + eta * d0)
        ahead = ahead.to(self.x.dtype).clamp(0, 1).view_as(self.x)
        stuck = plane.lost | (ahead == self.x).flatten(1).all(1)
        if not surely_none(stuck):
            ahead = torch.where(stuck.view(-1, 1, 1, 1), (self.x + self.best.nudge(self.x)).clamp(0, 1), ahead)
        return ahead
