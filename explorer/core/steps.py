"""One loop, two uses: a page shows each Step of a walk, an evaluation runs the walk to its Outcome."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from explorer.core.goal import Goal


@dataclass(frozen=True, eq=False)
class Domains:
    """Where a step stands in several risks at once (models, norms), the first being the one its other fields speak of."""

    names: tuple[str, ...]
    weights: Tensor  # (N,K) learned, each row on the simplex
    losses: Tensor  # (N,K)
    reached: Tensor  # (N,K) bool


@dataclass(frozen=True, eq=False)
class Step:
    """Where every image of the batch stands after `index` of `total` updates."""

    index: int
    total: int
    x: Tensor  # (N,C,H,W) in [0,1]
    logits: Tensor  # (N,K) at x; for a stochastic model the mean over the draws
    loss: Tensor  # (N,) what the attack ascends
    distance: Tensor  # (N,) float64, norm of x - x0 in the attack's own norm (under a transformation, of theta)
    reached: Tensor  # (N,) bool: the goal holds at x; for a stochastic model on the mean logits of the draws
    degenerate: Tensor  # (N,) bool: the gradient here was exactly zero or not finite
    forwards: Tensor  # (N,) passes spent on each image so far, draws counted one by one
    backwards: Tensor  # (N,)
    restart: int = 0
    shared: Tensor | None = None  # (1,C,H,W) the one change that all images carry, each cut to [0,1]
    domains: Domains | None = None  # of an attack on several at once; `loss` is then that of the worst
    minimal: bool = False  # the attack looks for the smallest change: the nearest success counts
    theta: Tensor | None = None  # (N,P) under a transformation: the parameters that make x of the original


@dataclass(frozen=True, eq=False)
class Outcome:
    """The best image found for every input, and what it cost."""

    x: Tensor  # (N,C,H,W)
    success: Tensor  # (N,) bool, as seen by the attack: re-check on fresh draws for a stochastic model
    distance: Tensor  # (N,)
    loss: Tensor  # (N,)
    forwards: Tensor  # (N,)
    backwards: Tensor  # (N,)
    degenerate_share: float  # share of all gradients that were zero or not finite
    shared: Tensor | None = None  # (1,C,H,W) the one change that all images carry, if the attack looks for one
    theta: Tensor | None = None  # (N,P) the parameters that make x of the original, under a transformation


class Best:
    """The best point of each image so far, while a walk goes on; `run` exhausts a walk into one.

    A point that reaches the goal beats one that does not; among equals the higher loss wins, of equal losses the later
    (a confident network's cross-entropy is 0 for many steps); for a minimal-distance attack (`minimal`; None: as the
    first step says) the smaller distance wins, again the later of equals. Images that share one change (`Step.shared`)
    stay together: the point at which most of them reach the goal wins, among equals the one of the highest mean loss,
    again the later.

    `by_loss`: the model is stochastic, so that one step's success is noise: the mean loss over the draws chooses alone,
    and `success` says what was seen there. A minimal-distance attack has no other measure than success.
    """

    x: Tensor  # these four as in `Outcome`, from the first step on
    success: Tensor
    distance: Tensor
    loss: Tensor

    def __init__(self, minimal: bool | None = None, by_loss: bool = False):
        self.minimal, self.by_loss = minimal, by_loss
        self.last: Step | None = None
        self.shared: Tensor | None = None
        self.theta: Tensor | None = None
        self._degenerate: Tensor | int = 0
        self._gradients: Tensor | int = 0

    def add(self, step: Step) -> Tensor:
        """(N,) bool: the images whose best point is this step's."""
        last, self.last = self.last, step
        self._degenerate = (
            self._degenerate + step.degenerate.sum()
        )  # tensors: an int would make the host wait for a GPU
        self._gradients = self._gradients + (step.backwards > (0 if last is None else last.backwards)).sum()
        if last is None:
            self.x, self.success, self.distance, self.loss = (
                t.clone() for t in (step.x, step.reached, step.distance, step.loss)
            )
            self.shared, self.theta = step.shared, None if step.theta is None else step.theta.clone()
            self.minimal = step.minimal if self.minimal is None else self.minimal
            self.by_loss = self.by_loss and not self.minimal
            return torch.ones_like(step.reached)
        better = self._better(step)  # chosen by `where`: with a mask as index the host would wait for a GPU
        self.x = torch.where(better.view(-1, 1, 1, 1), step.x, self.x)
        self.success = torch.where(better, step.reached, self.success)
        self.loss = torch.where(better, step.loss, self.loss)
        beside = better.to(self.distance.device)  # float64, so perhaps not on the model's device
        self.distance = torch.where(beside, step.distance, self.distance)
        if self.shared is not None and step.shared is not None:
            self.shared = torch.where(better[:1].view(-1, 1, 1, 1), step.shared, self.shared)
        if self.theta is not None and step.theta is not None:
            self.theta = torch.where(better[:, None], step.theta, self.theta)
        return better

    def _better(self, step: Step) -> Tensor:
        if step.shared is not None:
            no_less = ~(step.loss.mean() < self.loss.mean())
            now, before = step.reached.sum(), self.success.sum()
            better = no_less if self.by_loss else (now > before) | ((now == before) & no_less)
            return better.expand_as(step.reached)
        if self.minimal:
            rank = (step.distance <= self.distance).to(self.loss.device)
        else:
            rank = (step.loss >= self.loss) | self.loss.isnan()
        if self.by_loss:
            return rank
        return (step.reached & ~self.success) | ((step.reached == self.success) & rank)

    @property
    def degenerate_share(self) -> float:
        """Share of all gradients so far that were zero or not finite."""
        return int(self._degenerate) / max(int(self._gradients), 1)

    def outcome(self) -> Outcome:
        """Raises ValueError if no step was added, FloatingPointError on pixels that are not finite."""
        if self.last is None:
            raise ValueError("the walk yielded no step")
        if not torch.isfinite(self.x).all():
            raise FloatingPointError("the attack produced pixels that are not finite")
        last = self.last
        spent = last.forwards, last.backwards
        return Outcome(
            self.x, self.success, self.distance, self.loss, *spent, self.degenerate_share, self.shared, self.theta
        )


def run(walk: Iterable[Step], goal: Goal, minimal: bool | None = None) -> Outcome:
    """Exhaust a walk and keep, per image, the best point by the rule of `Best`.

    `minimal` None: the walk says itself whether the nearest success counts, as its attack's `budget` does.
    Raises ValueError on an empty walk, FloatingPointError on pixels that are not finite.

    Examples:
        >>> from explorer.attacks import ATTACKS
        >>> from explorer.core import Ball, Goal, run, seeded
        >>> from explorer.testing import small_case
        >>> model, x, y = small_case()
        >>> goal = Goal.untargeted(y)
        >>> outcome = run(ATTACKS["pgd"](steps=5).walk(model, x, goal, Ball("linf", 0.1), seeded(0)), goal)
        >>> outcome.x.shape, outcome.success.dtype
        (torch.Size([48, 1, 8, 8]), torch.bool)
        >>> bool((outcome.distance <= 0.1).all()), bool(outcome.success.any())
        (True, True)
        >>> int(outcome.forwards[0]), int(outcome.backwards[0])  # passes an image
        (6, 5)
    """
    best = Best(minimal)
    for step in walk:
        best.add(step)
    return best.outcome()
