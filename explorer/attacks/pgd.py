"""Projected gradient descent (Madry et al., arXiv:1706.06083), in Linf and L2."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from explorer.attacks import ATTACKS
from explorer.attacks._ascent import check_norm
from explorer.attacks._climb import climb
from explorer.core import LOSSES, Ball, Goal, Hyper, Step, param


@ATTACKS.register(
    "pgd",
    title="PGD",
    paper="arXiv:1706.06083",
    group="iterated",
    summary="Many small steps up the loss, each projected back into the ball: the standard white-box test.",
)
@dataclass(frozen=True)
class PGD(Hyper):
    """x <- project(x + alpha * steepest(gradient of the loss at x)).

    Yields restarts * (steps + 1) steps: the start of each restart, then one per update; forward passes
    steps + 1 and backward passes steps for each restart and draw.
    differs: an image whose gradient is exactly zero or not finite takes a random step instead of none (Step.degenerate).
    """

    budget: ClassVar[str] = "fixed"
    norms: ClassVar[tuple[str, ...]] = ("linf", "l2")
    formula: ClassVar[str] = r"x_{t+1} = \Pi\,\big[\,x_t + \alpha\, d\big(\nabla_x L(x_t, y)\big)\big]"
    explanation: ClassVar[str] = (
        r"Start at a random point near the picture. Ask the model which way its loss grows, take a small step of length "
        r"$\alpha$ in the steepest direction $d$ (in L∞ the sign of every pixel's slope), and let $\Pi$ pull the result "
        r"back to the nearest picture that is allowed. Repeat."
    )
    presets = {
        "weak": {"steps": 5, "rel_step": 0.5},
        "standard": {"steps": 20, "rel_step": 0.125},
        "strong": {"steps": 50, "rel_step": 0.1, "restarts": 5},
    }

    steps: int = param(20, "steps", lo=1, hi=1000, help="How many times the image is updated.")
    rel_step: float = param(
        0.125, "step size", lo=0.001, hi=2.0, unit="x eps", step=0.005, help="Length of one update, relative to eps."
    )
    random_start: bool = param(True, "random start", help="Begin at a random point of the ball instead of at the image.")
    restarts: int = param(1, "restarts", lo=1, hi=100, help="Independent tries from new random starts; the best is kept.")
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
            alpha=self.rel_step * ball.eps,
            loss=self.loss,
            draws=self.draws,
            random_start=self.random_start,
            restarts=self.restarts,
        )
