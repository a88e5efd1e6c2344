"""Diverse inputs: DI2-FGSM and, with momentum, M-DI2-FGSM (Xie et al., arXiv:1803.06978), in Linf and L2."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from explorer.attacks import ATTACKS
from explorer.attacks._ascent import View, check_norm, look, look_and_pull
from explorer.attacks._climb import Momentum, climb, straight
from explorer.core import LOSSES, Ball, Goal, Hyper, Step, param

GREY = 0.5  # what lies around a shrunk image: the official code pads pixels in [-1, 1] with 0


def shrunk(x: Tensor, smallest: float, rng: torch.Generator) -> Tensor:
    """Each image of x (N,C,H,W) scaled by its own factor, uniform in [smallest, 1], and placed anywhere on a grey canvas
    of the old size; bilinear, differentiable in x.

    Written as two matrix products an image: a scatter's gradient would differ from run to run on a GPU.
    """
    u = torch.rand(3, len(x), generator=rng, device=rng.device).to(x.device)
    scale = 1 - (1 - smallest) * u[0]
    rows, columns = (_resampling(n, scale, place).to(x.dtype) for n, place in zip(x.shape[2:], u[1:], strict=True))
    return GREY + rows[:, None] @ (x - GREY) @ columns[:, None].mT


def _resampling(n: int, scale: Tensor, place: Tensor) -> Tensor:
    """(N,n,n): row i holds the weights of the old pixels in new pixel i; it is short of 1 where the canvas shows."""
    pixels = torch.arange(n, device=scale.device)
    offset = place * (1 - scale) * n
    source = (pixels + 0.5 - offset[:, None]) / scale[:, None] - 0.5  # (N,n) where new pixel i lies in the old image
    return (1 - (source[:, :, None] - pixels).abs()).clamp(min=0)


@dataclass(frozen=True)
class _Diverse(Hyper):
    budget: ClassVar[str] = "fixed"
    norms: ClassVar[tuple[str, ...]] = ("linf", "l2")
    presets = {"weak": {"steps": 5}, "standard": {}, "strong": {"steps": 50, "rel_step": 0.05, "restarts": 5}}

    steps: int = param(10, "steps", lo=1, hi=1000, help="How many times the image is updated.")
    rel_step: float = param(
        0.0,
        "step size",
        lo=0.0,
        hi=2.0,
        unit="x eps",
        step=0.005,
        help="Length of one update, relative to eps; 0 means 1 / steps, so that all updates together reach eps.",
    )
    probability: float = param(
        0.5, "probability", lo=0.0, hi=1.0, step=0.05, help="How often a step looks at a shrunk copy instead of the image."
    )
    smallest: float = param(
        0.9, "smallest size", lo=0.5, hi=1.0, unit="x side", step=0.01, help="The strongest shrinking, relative to the side."
    )
    random_start: bool = param(False, "random start", help="Begin at a random point of the ball instead of at the image.")
    restarts: int = param(
        1, "restarts", lo=1, hi=100, help="Independent tries, from the second on from random points; the best is kept."
    )
    draws: int = param(
        1, "draws per step", lo=1, hi=512, help="Gradients averaged over this many copies and passes at each step (EOT)."
    )
    loss: str = param(
        "ce", "loss", choices=LOSSES, help="What is pushed up: cross-entropy, or the margin between the best two logits."
    )

    @property
    def expected_passes(self) -> int:
        """At most: two forward passes and a backward one for an update, and a last look."""
        return self.restarts * (3 * self.steps + 1) * self.draws

    def _memory(self) -> Callable:
        return straight

    def walk(self, model: nn.Module, x0: Tensor, goal: Goal, ball: Ball, rng: torch.Generator) -> Iterator[Step]:
        check_norm(self, ball)
        return climb(
            model,
            x0,
            goal,
            ball,
            rng,
            steps=self.steps,
            alpha=(self.rel_step or 1 / self.steps) * ball.eps,
            loss=self.loss,
            draws=self.draws,
            random_start=self.random_start,
            restarts=self.restarts,
            memory=self._memory,
            see=self._see,
        )

    def _see(self, model: nn.Module, x: Tensor, goal: Goal, loss: str, draws: int, rng: torch.Generator) -> View:
        """The gradient through the copies; logits and loss at x itself, for which shrunk images are looked at again."""
        chosen = torch.rand(len(x), generator=rng, device=rng.device).to(x.device) < self.probability
        rows = chosen.nonzero()[:, 0]
        if len(rows) == 0:
            return look_and_pull(model, x, goal, loss, draws, rng)
        copies = chosen.repeat_interleave(draws).nonzero()[:, 0]

        def through_copies(pixels: Tensor) -> Tensor:  # (N * draws,C,H,W)
            return model(pixels.index_copy(0, copies, shrunk(pixels[copies], self.smallest, rng)))

        view = look_and_pull(through_copies, x, goal, loss, draws, rng)
        true = look(model, x[rows], goal.rows(rows), loss, draws, rng)
        return View(
            view.logits.index_copy(0, rows, true.logits),
            view.loss.index_copy(0, rows, true.loss),
            view.gradient,
            chosen * draws,
        )


@ATTACKS.register(
    "difgsm",
    title="DI²-FGSM",
    paper="arXiv:1803.06978",
    group="iterated",
    summary="Steps whose gradient is often taken through a shrunk copy: made for images that also fool other models.",
)
@dataclass(frozen=True)
class DIFGSM(_Diverse):
    """x <- project(x + alpha * sign(gradient of loss(T(x; p)))); T shrinks with probability p, else leaves x as it is.

    The variant: a factor uniform in [smallest, 1], bilinear, at a uniformly random place of a mid-grey canvas of the
    model's own size (the official code enlarges to [299, 330) of 330, the same range of proportions, by nearest
    neighbour, and lets the network see all 330). The coin, factor and place are drawn for each image and step anew, the
    factor and place for each draw, too.
    differs: one coin an image, not one a batch (official); continuous factors and places, not whole pixels; L2, restarts
    and draws are ours; a dead gradient gives way to a random direction (Step.degenerate).
    cost: a step reports the model at x itself, not at the copy: one forward pass more for each image (and draw) whose
    copy was shrunk, so (1 + p) * steps + 1 forward and steps backward passes on average.
    """

    formula: ClassVar[str] = (
        r"x_{t+1} = \Pi\,\big[\,x_t + \alpha\,\mathrm{sign}\big(\nabla_x L(T(x_t; p), y)\big)\big]"
    )
    explanation: ClassVar[str] = (
        r"As in PGD, but before each question to the model a coin is tossed: with probability $p$ the model sees the "
        r"picture a little smaller, somewhere on a grey canvas ($T$). A change that must work for all these views hangs "
        r"less on the details of one model, and so more often fools others. Every number shown is that of the picture "
        r"itself, not of the copy."
    )


@ATTACKS.register(
    "mdifgsm",
    title="M-DI²-FGSM",
    paper="arXiv:1803.06978",
    group="iterated",
    summary="Shrunk copies and momentum together: the strongest of this family for transfer to other models.",
)
@dataclass(frozen=True)
class MDIFGSM(_Diverse):
    """DI2-FGSM (its variant, differences and cost: see DIFGSM) along MI-FGSM's momentum of gradients (see MIFGSM)."""

    formula: ClassVar[str] = (
        r"g_{t+1} = \mu\, g_t + \frac{\nabla_x L(T(x_t; p), y)}{\lVert \nabla_x L(T(x_t; p), y)\rVert_1},\quad "
        r"x_{t+1} = \Pi\,\big[\,x_t + \alpha\,\mathrm{sign}(g_{t+1})\big]"
    )
    explanation: ClassVar[str] = (
        r"Two ideas together: with probability $p$ the model is asked about a slightly smaller copy of the picture on a "
        r"grey canvas ($T$), and the steps go along a running sum of the gradients, in which each older one counts $\mu$ "
        r"times as much as the next. Both keep what different views and models have in common."
    )

    momentum: float = param(
        1.0, "momentum", lo=0.0, hi=1.0, step=0.05, help="How much of the earlier gradients is kept at each step."
    )

    def _memory(self) -> Callable:
        return Momentum(self.momentum)
