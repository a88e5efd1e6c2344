"""One loop, two uses: a page shows each Step of a walk, an evaluation runs the walk to its Outcome."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from explorer.core.goal import Goal


@dataclass(frozen=True, eq=False)
class Step:
    """Where every image of the batch stands after `index` of `total` updates."""

    index: int
    total: int
    x: Tensor  # (N,C,H,W) in [0,1]
    logits: Tensor  # (N,K) at x; for a stochastic model the mean over the draws
    loss: Tensor  # (N,) what the attack ascends
    distance: Tensor  # (N,) norm of x - x0 in the attack's own norm, float64
    reached: Tensor  # (N,) bool: the goal holds at x; for a stochastic model on the mean logits of the draws
    stalled: Tensor  # (N,) bool: the gradient here was exactly zero or not finite
    forwards: Tensor  # (N,) passes spent on each image so far, draws counted one by one
    backwards: Tensor  # (N,)
    restart: int = 0


@dataclass(frozen=True, eq=False)
class Outcome:
    """The best image found for every input, and what it cost."""

    x: Tensor  # (N,C,H,W)
    success: Tensor  # (N,) bool, as seen by the attack: re-check on fresh draws for a stochastic model
    distance: Tensor  # (N,)
    loss: Tensor  # (N,)
    forwards: Tensor  # (N,)
    backwards: Tensor  # (N,)
    stalled_share: float  # share of all gradients that were zero or not finite


def run(walk: Iterable[Step], goal: Goal, minimal: bool = False) -> Outcome:
    """Exhaust a walk and keep, per image, the best point.

    A point that reaches the goal beats one that does not; among equals the higher loss wins, of equal losses the later
    (a confident network's cross-entropy is 0 for many steps); for a minimal-distance attack (`minimal=True`) the
    smaller distance wins, again the later of equals. Raises ValueError on an empty walk, FloatingPointError on pixels that are not finite.
    """
    last: Step | None = None
    x = success = distance = loss = None
    stalled = seen = 0
    for step in walk:
        stalled += int(step.stalled.sum())
        seen += int((step.backwards > (0 if last is None else last.backwards)).sum())
        if last is None:
            x, success, distance, loss = step.x.clone(), step.reached.clone(), step.distance.clone(), step.loss.clone()
        else:
            rank = (step.distance <= distance).to(loss.device) if minimal else (step.loss >= loss) | loss.isnan()
            better = (step.reached & ~success) | ((step.reached == success) & rank)
            if bool(better.any()):
                x[better], success[better], loss[better] = step.x[better], step.reached[better], step.loss[better]
                beside = better.to(distance.device)  # float64, so perhaps not on the model's device
                distance[beside] = step.distance[beside]
        last = step
    if last is None:
        raise ValueError("the walk yielded no step")
    if not torch.isfinite(x).all():
        raise FloatingPointError("the attack produced pixels that are not finite")
    return Outcome(x, success, distance, loss, last.forwards, last.backwards, stalled / max(seen, 1))
