"""Momentum iterative FGSM (MI-FGSM; Dong et al., arXiv:1710.06081), in Linf and L2."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from explorer.attacks import ATTACKS
from explorer.attacks._ascent import check_norm
from explorer.attacks._climb import Momentum, climb
from explorer.core import LOSSES, Ball, Goal, Hyper, Step, param


@ATTACKS.register(
    "mifgsm",
    title="MI-FGSM",
    paper="arXiv:1710.06081",
    group="iterated",
    summary="Steps along a running sum of gradients: made for images that also fool other models (transfer).",
)
@dataclass(frozen=True)
class MIFGSM(Hyper):
    """m <- mu * m + g / ||g||_1, x <- project(x + alpha * sign(m)); in L2, alpha * m / ||m||_2.

    Yields restarts * (steps + 1) steps; forward passes steps + 1, backward passes steps a restart and draw, as PGD.
    differs: an exactly zero or not finite gradient adds nothing to the momentum, which keeps its direction (the plain
    formula gives 0/0, and the image would freeze for good); without any momentum yet the step is random (Step.degenerate).
    differs: mu lies in [0, 1]; above 1 old gradients outweigh new ones without limit. Restarts and draws are ours.
    """

    budget: ClassVar[str] = "fixed"
    norms: ClassVar[tuple[str, ...]] = ("linf", "l2")
    formula: ClassVar[str] = (
        r"g_{t+1} = \mu\, g_t + \frac{\nabla_x L(x_t, y)}{\lVert \nabla_x L(x_t, y)\rVert_1},\quad "
        r"x_{t+1} = \Pi\,\big[\,x_t + \alpha\,\mathrm{sign}(g_{t+1})\big]"
    )
    explanation: ClassVar[str] = (
        r"Take small steps up the loss as PGD does, but along a running sum of all gradients so far, in which each older "
        r"one counts $\mu$ times as much as the next. The sum forgets the zigzag and keeps what the gradients "
        r"have in common, and that is also what different models have in common."
    )
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
    momentum: float = param(
        1.0, "momentum", lo=0.0, hi=1.0, step=0.05, help="How much of the earlier gradients is kept at each step."
    )
    random_start: bool = param(False, "random start", help="Begin at a random point of the ball instead of at the image.")
    restarts: int = param(
        1, "restarts", lo=1, hi=100, help="Independent tries, from the second on from random points; the best is kept."
    )
    draws: int = param(
        1, "draws per step", lo=1, hi=512, help="Gradients averaged over this many passes of a stochastic model (EOT)."
    )
    loss: str = param(
        "ce", "loss", choices=LOSSES, help="What is pushed up: cross-entropy, or the margin between the best two logits."
    )

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
            memory=partial(Momentum, self.momentum),
        )
