"""The loop that PGD and its relatives share: look, step up the loss, project; with restarts and a memory of gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from explorer.attacks._ascent import View, dead, look, look_and_pull, revived
from explorer.core import Ball, Goal, Region, Step

Turn = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]  # gradient, its dead rows -> where to go, its dead rows


def anywhere(region: Region, rng: torch.Generator) -> Tensor:
    """A uniformly random point of the region."""
    return region.sample(rng)


def straight(gradient: Tensor, degenerate: Tensor) -> tuple[Tensor, Tensor]:
    """Follow the gradient itself."""
    return gradient, degenerate


class Momentum:
    """Follow m <- mu * m + gradient / ||gradient||_1 (Dong et al., arXiv:1710.06081). A dead gradient adds nothing.

    differs: divided by the mean instead of the sum of |gradient|: the same direction, in float32's comfortable range.
    """

    def __init__(self, mu: float):
        self.mu, self.kept = mu, None

    def __call__(self, gradient: Tensor, degenerate: Tensor) -> tuple[Tensor, Tensor]:
        gradient = gradient / gradient.abs().amax((1, 2, 3), keepdim=True)  # else the mean could under- or overflow
        gradient = gradient / gradient.abs().mean((1, 2, 3), keepdim=True)
        gradient = gradient.masked_fill(degenerate.view(-1, 1, 1, 1), 0)  # 0/0 stays out of the memory, where it would last
        self.kept = gradient if self.kept is None else self.mu * self.kept + gradient
        return self.kept, dead(self.kept)


def climb(
    model: nn.Module,
    x0: Tensor,
    goal: Goal,
    ball: Ball,
    rng: torch.Generator,
    *,
    steps: int,
    alpha: float,
    loss: str,
    draws: int = 1,
    random_start: bool = False,
    restarts: int = 1,
    start: Callable[[Region, torch.Generator], Tensor] = anywhere,
    memory: Callable[[], Turn] = lambda: straight,
    see: Callable[..., View] = look_and_pull,
) -> Iterator[Step]:
    """x <- project(x + alpha * steepest(direction)), `steps` times from each start; yields restarts * (steps + 1) steps.

    The first start is x0 unless `random_start`, the others are random: `start`. `memory` makes, once a restart, what
    turns gradients into directions. `see` looks at the model at x and pulls the gradient. A direction that is exactly
    zero or not finite gives way to a random one, so that no image freezes; Step.degenerate speaks of the gradient.
    """
    x0 = x0.detach()
    region = ball.around(x0)
    total = restarts * (steps + 1) - 1
    passes = torch.zeros(len(x0), dtype=torch.int64, device=x0.device)
    forwards = backwards = passes
    for restart in range(restarts):
        x = start(region, rng) if random_start or restart > 0 else x0.clone()
        turn = memory()
        for index in range(steps + 1):
            last = index == steps
            view = (look if last else see)(model, x, goal, loss, draws, rng)
            forwards = forwards + (draws + view.extra)
            degenerate = torch.zeros_like(passes, dtype=torch.bool) if last else dead(view.gradient)
            if not last:
                backwards = backwards + draws
            yield Step(
                index=restart * (steps + 1) + index,
                total=total,
                x=x,
                logits=view.logits,
                loss=view.loss,
                distance=region.distance(x),
                reached=goal.reached(view.logits),
                degenerate=degenerate,
                forwards=forwards,
                backwards=backwards,
                restart=restart,
            )
            if not last:
                direction, lost = turn(view.gradient, degenerate)
                x = region.project(torch.add(x, ball.steepest(revived(direction, lost, rng)), alpha=alpha))
