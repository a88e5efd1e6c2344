"""Gradient attacks: the input gradient, averaged over a stochastic model's draws, and the one loop that follows it."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from explorer.attacks._fields import draws_per_step, updates
from explorer.attacks._region import RegionAttack
from explorer.core import LOSSES, Attack, Goal, LossName, Region, Step, param, use_generator
from explorer.core.waits import surely_none

Network = Callable[[Tensor], Tensor]  # pixels (N,C,H,W) -> logits (N,K); a model, or one seen through something


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The model at x: logits (N,K) and loss (N,), means over the draws, and the input gradient up to scale (N,C,H,W)."""

    logits: Tensor
    loss: Tensor
    forwards: Tensor | int  # passes it took, a number or (N,)
    backwards: Tensor | int
    each: Tensor  # (N*draws,K) logits of the draws, those of one image in a row
    grad: Tensor | None = None  # `gradient`, if one was asked for

    @property
    def gradient(self) -> Tensor:
        assert self.grad is not None, "a forward pass has no gradient"
        return self.grad

    @property
    def degenerate(self) -> Tensor:
        """(N,) bool: there is a gradient, and it says nothing."""
        return torch.zeros_like(self.loss, dtype=torch.bool) if self.grad is None else degenerate(self.grad)

    def with_gradient(self, other: Evaluation) -> Evaluation:
        """What this says of x, with the gradient found elsewhere; the passes of both."""
        forwards, backwards = self.forwards + other.forwards, self.backwards + other.backwards
        return replace(self, grad=other.gradient, forwards=forwards, backwards=backwards)

    def rows(self, keep: Tensor) -> Evaluation:
        """That of a subset of the images (index or mask)."""
        each = self.each.view(len(self.logits), -1, self.logits.shape[1])[keep].flatten(0, 1)
        forwards, backwards = (n[keep] if isinstance(n, Tensor) else n for n in (self.forwards, self.backwards))
        grad = None if self.grad is None else self.grad[keep]
        return Evaluation(self.logits[keep], self.loss[keep], forwards, backwards, each, grad)

    def log_scale(self, goal: Goal, loss: LossName) -> Tensor:
        """(N,) log of the positive factor by which `gradient` differs from the gradient of the loss; -inf: flat.

        Steps on one image's loss need no scale; a sum over images or models does, in log space against underflow.
        """
        draws = len(self.each) // len(self.logits)
        slopes = goal.repeated(draws).log_grad_norm(self.each, loss).view(-1, draws)
        return slopes.amax(1) - math.log(draws)


def forward(model: Network, x: Tensor, goal: Goal, loss: LossName, draws: int, rng: torch.Generator) -> Evaluation:
    """One forward pass a draw, no gradient."""
    with torch.no_grad(), use_generator(rng):
        logits = model(_repeated(x, draws)).float()
    return _averaged(logits, goal, loss, draws)


def value_and_grad(
    model: Network, x: Tensor, goal: Goal, loss: LossName, draws: int, rng: torch.Generator
) -> Evaluation:
    """One forward and one input-backward pass a draw.

    With several draws the gradients of the loss are averaged (expectation over transformation, Athalye et al.,
    arXiv:1707.07397): each draw's `logit_grad` is weighted by its own slope, 1 - p(true) for cross-entropy.
    """
    with torch.enable_grad(), use_generator(rng):
        leaf = x.detach().requires_grad_(True)
        logits = model(_repeated(leaf, draws)).float()
        with torch.no_grad():
            many = goal.repeated(draws) if draws > 1 else goal
            logit_grad = many.logit_grad(logits, loss)
            if draws > 1:
                logit_grad = logit_grad * _shares(many.log_grad_norm(logits, loss), draws)[:, None]
        (grad,) = torch.autograd.grad(logits, leaf, grad_outputs=logit_grad)
    return replace(_averaged(logits.detach(), goal, loss, draws), grad=grad, backwards=draws)


def relative(log_scales: Tensor, dim: int) -> Tensor:
    """exp(log_scales) divided by the largest along `dim`, without underflow; where all are flat (-inf), all are 1."""
    steepest = log_scales.amax(dim, keepdim=True)
    return torch.where(steepest == -math.inf, 0, log_scales - steepest).exp()


def _repeated(x: Tensor, draws: int) -> Tensor:
    return x.repeat_interleave(draws, dim=0) if draws > 1 else x


def _averaged(logits: Tensor, goal: Goal, loss: LossName, draws: int) -> Evaluation:
    if draws == 1:
        return Evaluation(logits, goal.loss(logits, loss), draws, 0, logits)
    losses = goal.repeated(draws).loss(logits, loss)
    mean = logits.view(-1, draws, logits.shape[1]).mean(1)
    return Evaluation(mean, losses.view(-1, draws).mean(1), draws, 0, logits)


def _shares(log_slope: Tensor, draws: int) -> Tensor:
    """(N*draws,) how steep each draw's loss is, relative to the steepest of its image."""
    return relative(log_slope.view(-1, draws), 1).flatten()


def degenerate(gradient: Tensor) -> Tensor:
    """(N,) bool: exactly zero or not finite, so that it says nothing about where to go."""
    largest = gradient.flatten(1).abs().amax(1)
    return ~((largest > 0) & (largest < math.inf))  # NaN compares false


def replace_degenerate(gradient: Tensor, rng: torch.Generator) -> Tensor:
    """The gradient with degenerate rows replaced by random directions, so that no image freezes."""
    rows = degenerate(gradient)
    if surely_none(rows):  # on a GPU noise is always drawn
        return gradient
    return torch.where(rows.view(-1, 1, 1, 1), gaussian(gradient, rng), gradient)


def gaussian(like: Tensor, rng: torch.Generator) -> Tensor:
    """Standard normal noise of the same shape, type and device."""
    return torch.randn(like.shape, generator=rng, device=rng.device, dtype=like.dtype).to(like.device)


def moved(x: Tensor, direction: Tensor, length: float | Tensor) -> Tensor:
    """x + length * direction; the length is a number, or (N,1,1,1)."""
    return x + length * direction if isinstance(length, Tensor) else torch.add(x, direction, alpha=length)


class Recorder:
    """Makes the steps of one walk: numbers them, adds up the passes, measures distances, sees what is reached.

    `total` is the last step's index; with `early_stop` a walk ends, and says so, once all images have reached the goal:
    `won` counts them, which is the one thing here that makes the host wait for a GPU.
    """

    def __init__(self, attack: Attack, goal: Goal, region: Region, total: int, early_stop: bool = False):
        self.goal, self.region, self.total, self.early_stop = goal, region, total, early_stop
        self.minimal = attack.budget == "minimal"
        self.forwards = self.backwards = torch.zeros_like(goal.labels)
        self.last: Step | None = None
        self.won = 0

    def step(self, x: Tensor, at: Evaluation, rows: Tensor | None = None, **more: Any) -> Step:
        """The next step: the points x and the model there, of all images or of `rows`; the others stay as they were.

        `more` holds other fields of the step; under a transformation theta, all images' parameters.
        """
        logits, loss, flat = at.logits, at.loss, at.degenerate
        if rows is not None and self.last is not None and len(rows) < len(self.goal.labels):
            x, logits = self.last.x.index_copy(0, rows, x), self.last.logits.index_copy(0, rows, logits)
            loss = self.last.loss.index_copy(0, rows, loss)
            flat = torch.zeros_like(self.last.degenerate).index_copy(0, rows, flat)
        self.forwards = _added(self.forwards, at.forwards, rows)
        self.backwards = _added(self.backwards, at.backwards, rows)
        index, reached = 0 if self.last is None else self.last.index + 1, self.goal.reached(logits)
        self.won = int(reached.sum()) if self.early_stop else 0
        self.last = Step(
            index=index,
            total=index if self.early_stop and self.won == len(reached) else self.total,
            x=x,
            logits=logits,
            loss=loss,
            distance=self.region.distance(more.get("theta", x)),
            reached=reached,
            degenerate=flat,
            forwards=self.forwards,
            backwards=self.backwards,
            minimal=self.minimal,
            **more,
        )
        return self.last


def _added(counts: Tensor, more: Tensor | int, rows: Tensor | None) -> Tensor:
    """(N,) with `more` added, to the `rows` only if there are any named."""
    return counts + more if rows is None else counts.index_add(0, rows, torch.zeros_like(rows) + more)


@dataclass(frozen=True)
class GradientAttack(RegionAttack):
    """`steps` updates from each of `restarts` starts, every one along a direction made of the loss's gradient.

    An attack overrides what it does otherwise: `start`, `gradient`, `direction`, `step_size` or `update`.
    A direction that is exactly zero or not finite gives way to a random one, so that no image freezes; Step.degenerate
    speaks of the gradient. Yields restarts * (steps + 1) steps: each start, and each update; steps + 1 forward and
    `steps` backward passes for each restart and draw.
    """

    bfloat16 = True

    steps: int = updates(20)
    rel_step: float = param(
        0.0,
        "step size",
        lo=0.0,
        hi=2.0,
        unit="x eps",
        step=0.005,
        help="Length of one update, relative to eps; 0 means 1 / steps, so that all updates together reach eps.",
    )
    random_start: bool = param(False, "random start", help="Begin at a random allowed point instead of at the image.")
    restarts: int = param(
        1, "restarts", lo=1, hi=100, help="Independent tries, from the second on from random points; the best is kept."
    )
    draws: int = draws_per_step()
    loss: LossName = param(
        "ce",
        "loss",
        choices=(*LOSSES, "kl"),
        help="What is pushed up: cross-entropy, the margin of the best two logits, DLR, the margin of the probabilities, Jitter, "
        "or the KL divergence from the answer to the untouched image.",
    )

    def start(self, region: Region, rng: torch.Generator) -> Tensor:
        """A random start."""
        return region.sample(rng)

    def gradient(
        self, model: Network, x: Tensor, goal: Goal, region: Region, rng: torch.Generator, state: dict[str, Tensor]
    ) -> Evaluation:
        """The model at x, and the gradient to follow. `state` is what `direction` remembers."""
        return value_and_grad(model, x, goal, self.loss, self.draws, rng)

    def direction(self, gradient: Tensor, state: dict[str, Tensor]) -> Tensor:
        """Where to go. `state` is empty at each start, and the attack's to use from step to step."""
        return gradient

    def step_size(self, eps: float | Tensor) -> float | Tensor:
        """The length of an update: a number, or (N,1,1,1) as `eps` is."""
        return (self.rel_step or 1 / self.steps) * eps

    @abstractmethod
    def update(self, x: Tensor, direction: Tensor, region: Region, length: float | Tensor) -> Tensor:
        """The next point."""

    def ascend(self, model: nn.Module, goal: Goal, region: Region, rng: torch.Generator) -> Iterator[Step]:
        """The loop that all of them share."""
        recorder = Recorder(self, goal, region, self.restarts * (self.steps + 1) - 1)
        if self.loss == "kl":
            clean = forward(model, region.x0, goal, "ce", self.draws, rng)
            goal, recorder.forwards = goal.beside(clean.logits), recorder.forwards + clean.forwards
        for restart in range(self.restarts):
            x = self.start(region, rng) if self.random_start or restart > 0 else region.origin
            state: dict[str, Tensor] = {}
            for _ in range(self.steps):
                at = self.gradient(model, x, goal, region, rng, state)
                yield recorder.step(x, at, restart=restart)
                direction = replace_degenerate(self.direction(at.gradient, state), rng)
                x = self.update(x, direction, region, self.step_size(region.size))
            yield recorder.step(x, forward(model, x, goal, self.loss, self.draws, rng), restart=restart)
