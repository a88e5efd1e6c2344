"""Random search in the ball: keep a random change if it helps. The loop also serves the noise baselines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from explorer.attacks import ATTACKS
from explorer.attacks._ascent import check_norm, look
from explorer.core import Ball, Goal, Hyper, Region, Step, param

Propose = Callable[[Region, Tensor, torch.Generator], Tensor]  # where x stands in its region -> what to try next


def search(
    model: nn.Module,
    x0: Tensor,
    goal: Goal,
    ball: Ball,
    rng: torch.Generator,
    *,
    tries: int,
    draws: int,
    propose: Propose,
    start: Callable[[Region, torch.Generator], Tensor],
    loss: str = "margin",
    early_stop: bool = True,
) -> Iterator[Step]:
    """Look at `start`, then at tries - 1 proposals, and keep a proposal where it raises the loss or is the first to
    reach the goal: `tries` steps, each the best point so far.

    With `early_stop` an image that has reached its goal is left as it is and costs no further passes, and the walk ends
    with the last of them. Logits and loss of the kept point are means over the draws of the try that found it; on a
    stochastic model a lucky draw can win, so judge it anew.
    """
    x0 = x0.detach()
    region = ball.around(x0)
    x = start(region, rng)
    view = look(model, x, goal, loss, draws, rng)
    reached = goal.reached(view.logits)
    forwards = torch.full_like(goal.labels, draws)
    over = tries == 1 or (early_stop and bool(reached.all()))
    step = Step(
        index=0,
        total=0 if over else tries - 1,
        x=x,
        logits=view.logits,
        loss=view.loss,
        distance=ball.distance(x, x0),
        reached=reached,
        degenerate=torch.zeros_like(reached),
        forwards=forwards,
        backwards=torch.zeros_like(forwards),
    )
    yield step
    live = torch.arange(len(x0), device=x0.device)
    while not over:
        if early_stop and bool(reached[live].any()):
            live = (~reached).nonzero()[:, 0]
            region = ball.around(x0[live])
        tried = propose(region, step.x[live], rng)
        view = look(model, tried, goal.rows(live), loss, draws, rng)
        first = goal.rows(live).reached(view.logits) & ~step.reached[live]
        better = (view.loss > step.loss[live]) | step.loss[live].isnan() | first
        kept = live[better]
        x = step.x.index_copy(0, kept, tried[better])
        logits = step.logits.index_copy(0, kept, view.logits[better])
        reached, index = goal.reached(logits), step.index + 1
        over = index == tries - 1 or (early_stop and bool(reached.all()))
        step = replace(
            step,
            index=index,
            total=index if over else step.total,
            x=x,
            logits=logits,
            loss=step.loss.index_copy(0, kept, view.loss[better]),
            distance=ball.distance(x, x0),
            reached=reached,
            forwards=step.forwards.index_copy(0, live, step.forwards[live] + draws),
        )
        yield step


@ATTACKS.register(
    "random-search",
    title="Random search",
    paper="arXiv:1905.07121 (SimBA, a relative)",
    group="baseline",
    summary="Keeps random changes that help, without any gradient: what a real attack has to be better than.",
)
@dataclass(frozen=True)
class RandomSearch(Hyper):
    """Change a random share of the pixel values at once; keep the change if the margin of the goal grows.

    In Linf the start is a random corner of the ball, and the chosen values jump to +eps or -eps at random. In L2 the
    start is a random point of the surface, and a random direction among the chosen values is added with length eps / 2
    and the sum projected back into the ball.
    differs: SimBA (Guo et al.) walks along one fixed basis vector a query, tries both signs and starts at the image;
    here several values change at once, at random, at the ball's edge.
    cost: steps + 1 forward passes a draw at most, none backward; an image that has reached its goal costs no more.
    """

    budget: ClassVar[str] = "fixed"
    norms: ClassVar[tuple[str, ...]] = ("linf", "l2")
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
    draws: int = param(
        1, "draws per query", lo=1, hi=512, help="Outputs averaged over this many passes of a stochastic model (EOT)."
    )

    @property
    def expected_passes(self) -> int:
        return (self.steps + 1) * self.draws

    def walk(self, model: nn.Module, x0: Tensor, goal: Goal, ball: Ball, rng: torch.Generator) -> Iterator[Step]:
        check_norm(self, ball)
        propose, start = partial(_change, ball, self.share), partial(_edge, ball)
        tries = self.steps + 1
        return search(model, x0, goal, ball, rng, tries=tries, draws=self.draws, propose=propose, start=start)


def _edge(ball: Ball, region: Region, rng: torch.Generator) -> Tensor:
    """A random corner (Linf) or a random point of the surface (L2)."""
    return region.project(region.x0 + ball.eps * ball.steepest(gaussian(region.x0, rng)))


def _change(ball: Ball, share: float, region: Region, x: Tensor, rng: torch.Generator) -> Tensor:
    """x with about `share` of its values changed at random, at least one."""
    order = torch.rand(x.shape, generator=rng, device=rng.device).to(x.device)
    chosen = order <= order.flatten(1).amin(1).clamp(min=share).view(-1, 1, 1, 1)
    direction = ball.steepest(gaussian(x, rng) * chosen)
    return region.project(x + (2 if ball.norm == "linf" else 0.5) * ball.eps * direction)


def gaussian(like: Tensor, rng: torch.Generator) -> Tensor:
    """Standard normal noise of the same shape, type and device."""
    return torch.randn(like.shape, generator=rng, device=rng.device, dtype=like.dtype).to(like.device)
