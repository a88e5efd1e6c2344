"""Random search in the ball: keep a random change if it helps. The loop also serves Square and the noise baselines."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from explorer.attacks import ATTACKS
from explorer.attacks._fields import draws_per_query
from explorer.attacks._region import RegionAttack
from explorer.attacks.gradient import Recorder, forward, gaussian
from explorer.core import Goal, LossName, Region, Step, param
from explorer.core.dense import LinfRegion
from explorer.core.waits import where_true

MARGIN: LossName = "margin"


@dataclass(frozen=True)
class SearchAttack(RegionAttack):
    """Look at `start`, then at tries - 1 proposals, and keep a proposal where it raises the loss or is the first to
    reach the goal: `tries` steps, each the best point so far.

    With `early_stop` an image that has reached its goal is left as it is and costs no further passes, and the walk ends
    with the last of them. Logits and loss of the kept point are means over the draws of the try that found it; on a
    stochastic model a lucky draw can win, so judge it anew.
    """

    loss = MARGIN
    early_stop = True

    @property
    @abstractmethod
    def count(self) -> int:
        """How many points are looked at, at most."""

    @abstractmethod
    def start(self, region: Region, rng: torch.Generator) -> Tensor:
        """The first point."""

    @abstractmethod
    def propose(self, region: Region, x: Tensor, tried: int, rng: torch.Generator) -> Tensor:
        """What to try from x, in its region, after `tried` proposals."""

    @property
    def expected_frames(self) -> int:
        return self.count

    @property
    def expected_passes(self) -> int:
        return self.count * self.draws

    def ascend(self, model: nn.Module, goal: Goal, region: Region, rng: torch.Generator) -> Iterator[Step]:
        whole, recorder = region, Recorder(self, goal, region, self.count - 1, self.early_stop)
        x = self.start(whole, rng)
        step = recorder.step(x, forward(model, x, goal, self.loss, self.draws, rng))
        yield step
        live = torch.arange(len(x), device=x.device)
        while step.index < step.total:
            if recorder.won > len(x) - len(live):
                live = where_true(~step.reached, len(x) - recorder.won)
                region = whole.rows(live)
            tried = self.propose(region, step.x[live], step.index, rng)
            at = forward(model, tried, goal.rows(live), self.loss, self.draws, rng)
            first = goal.rows(live).reached(at.logits) & ~step.reached[live]
            better = (at.loss > step.loss[live]) | step.loss[live].isnan() | first
            logits = torch.where(better[:, None], at.logits, step.logits[live])
            kept = replace(at, logits=logits, loss=torch.where(better, at.loss, step.loss[live]))
            step = recorder.step(torch.where(better.view(-1, 1, 1, 1), tried, step.x[live]), kept, rows=live)
            yield step


@ATTACKS.register(
    "random-search",
    title="Random search",
    paper="arXiv:1905.07121 (SimBA, a relative)",
    group="baseline",
    summary="Keeps random changes that help, without any gradient: what a real attack has to be better than.",
)
@dataclass(frozen=True)
class RandomSearch(SearchAttack):
    """Change a random share of the pixel values at once; keep the change if the margin of the goal grows.

    In Linf the start is a random corner of the ball, and the chosen values jump to +eps or -eps at random. In L2 the
    start is a random point of the surface, and a random direction among the chosen values is added with length eps / 2
    and the sum projected back into the ball.
    differs: SimBA (Guo et al.) walks along one fixed basis vector a query, tries both signs and starts at the image;
    here several values change at once, at random, at the ball's edge.
    cost: steps + 1 forward passes a draw at most, none backward; an image that has reached its goal costs no more.
    """

    formula: ClassVar[str] = (
        r"x_{t+1} = x_t + \delta \ \text{ if } \ m(x_t + \delta) > m(x_t), \ \text{ else } \ x_t; \quad \delta \text{ random}"
    )
    explanation: ClassVar[str] = (
        r"Change a few random pixels, ask the model, and keep the change only if the margin $m$ between the wrong and the "
        r"right class grew. It needs nothing but the model's output, so a model that only hides its gradients does not "
        r"stop it; where it beats an attack with gradients, those gradients are not to be trusted."
    )
    presets = {"weak": {"steps": 50}, "standard": {}, "strong": {"steps": 1000}}

    steps: int = param(200, "queries", lo=1, hi=10_000, help="How many random changes are tried.")
    share: float = param(
        0.05, "share of pixels", lo=0.001, hi=1.0, step=0.005, help="How many of the pixel values one try changes."
    )
    draws: int = draws_per_query()

    @property
    def count(self) -> int:
        return self.steps + 1

    def start(self, region: Region, rng: torch.Generator) -> Tensor:
        """A random corner (Linf) or a random point of the surface (L2)."""
        return region.project(region.x0 + region.size * region.steepest(gaussian(region.x0, rng)))

    def propose(self, region: Region, x: Tensor, tried: int, rng: torch.Generator) -> Tensor:
        """x with about `share` of its values changed at random, at least one."""
        order = torch.rand(x.shape, generator=rng, device=rng.device).to(x.device)
        chosen = order <= order.flatten(1).amin(1).clamp(min=self.share).view(-1, 1, 1, 1)
        direction = region.steepest(gaussian(x, rng) * chosen)
        return region.project(x + (2 if isinstance(region, LinfRegion) else 0.5) * region.size * direction)
