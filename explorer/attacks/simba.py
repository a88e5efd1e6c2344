"""SimBA, the simple black-box attack (Guo et al., arXiv:1905.07121): one value at a time, up or down, by scores alone."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from explorer.attacks import ATTACKS
from explorer.attacks._fields import draws_per_query, stop_when_fooled
from explorer.attacks._region import RegionAttack
from explorer.attacks.gradient import Recorder, forward
from explorer.core import Goal, Region, Step, param
from explorer.core.dense import LinfRegion


@ATTACKS.register(
    "simba",
    title="SimBA",
    paper="arXiv:1905.07121",
    group="black-box",
    summary="Changes one pixel value at a time, up or else down, and keeps what the scores say helps: as simple as can be.",
)
@dataclass(frozen=True)
class SimBA(RegionAttack):
    """For one value q of a random order after the other: x + size * q if that raises the loss, else x - size * q if that does.

    Algorithm 1 with the pixel basis: no value is tried twice before all have been. A step takes one or two forward passes.
    In L2 the point is projected; in Linf a value jumps to +-eps, whatever `size` is.
    differs: each image has an order of its own. With `early_stop` an image that has reached its goal is left as it is.
    """

    threats: ClassVar[tuple[str, ...]] = ("l2", "linf")
    formula: ClassVar[str] = (
        r"x_{t+1} = x_t + s\,\epsilon\, q_t,\quad s \in \{+1, -1, 0\}: \text{ the first that raises } L"
    )
    explanation: ClassVar[str] = (
        r"Take one value of the picture at random, make it a little larger, and ask the model: did the loss rise? If not, make "
        r"it a little smaller and ask again; if that does not help either, leave it. Then the next. That such a plain search "
        r"works at all shows how many directions lead out of a class."
    )
    presets = {"weak": {"steps": 100}, "standard": {}, "strong": {"steps": 2500}}

    steps: int = param(500, "steps", lo=1, hi=5_000, help="How many values are tried, each with one or two queries.")
    size: float = param(
        0.2,
        "size",
        lo=0.001,
        hi=1.0,
        step=0.05,
        help="By how much a value changes in L2, in pixel units; in Linf by eps.",
    )
    early_stop: bool = stop_when_fooled()
    draws: int = draws_per_query()

    @property
    def expected_passes(self) -> int:
        """Queries of an image at most."""
        return (2 * self.steps + 1) * self.draws

    def ascend(self, model: nn.Module, goal: Goal, region: Region, rng: torch.Generator) -> Iterator[Step]:
        x, values = region.x0, region.x0[0].numel()
        recorder = Recorder(self, goal, region, self.steps, self.early_stop)
        at = forward(model, x, goal, self.loss, self.draws, rng)
        yield (step := recorder.step(x, at))
        size = region.size if isinstance(region, LinfRegion) else self.size
        order = _orders(x, rng)
        for k in range(self.steps):
            if step.index == step.total:
                return
            if k and k % values == 0:
                order = _orders(x, rng)
            q = torch.zeros_like(x).flatten(1).scatter_(1, order[:, k % values, None], 1.0).view_as(x)
            logits, loss, spent = step.logits, step.loss, torch.zeros_like(goal.labels)
            left = ~step.reached if self.early_stop else torch.ones_like(step.reached)
            for sign in (1.0, -1.0):
                rows = left.nonzero()[:, 0]
                if len(rows) == 0:
                    break
                tried = region.rows(rows).project(x[rows] + sign * _of(size, rows) * q[rows])
                seen = forward(model, tried, goal.rows(rows), self.loss, self.draws, rng)
                better = (seen.loss > loss[rows]) | loss[rows].isnan()
                kept = rows[better]
                x, logits, loss = (
                    old.index_copy(0, kept, new[better])
                    for old, new in ((x, tried), (logits, seen.logits), (loss, seen.loss))
                )
                spent[rows] += self.draws
                left = left.index_fill(0, kept, False)
            yield (step := recorder.step(x, replace(at, logits=logits, loss=loss, forwards=spent)))


def _of(size: float | Tensor, rows: Tensor) -> float | Tensor:
    return size[rows] if isinstance(size, Tensor) else size


def _orders(x: Tensor, rng: torch.Generator) -> Tensor:
    """(N,D) a random order of the values of each image."""
    return torch.rand(x.flatten(1).shape, generator=rng, device=rng.device).argsort(dim=1).to(x.device)
