"""Fast gradient sign method (Goodfellow et al., arXiv:1412.6572): PGD with one full step from the image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from explorer.attacks import ATTACKS
from explorer.attacks._ascent import check_norm
from explorer.attacks.pgd import PGD
from explorer.core import LOSSES, Ball, Goal, Hyper, Step, param


@ATTACKS.register(
    "fgsm",
    title="FGSM",
    paper="arXiv:1412.6572",
    group="single step",
    summary="One step of full length along the gradient's sign: the fastest attack, and a weak one.",
)
@dataclass(frozen=True)
class FGSM(Hyper):
    """x0 + eps * sign(gradient of the loss at x0); in L2, eps * gradient / ||gradient||. Two steps: start and end."""

    budget: ClassVar[str] = "fixed"
    norms: ClassVar[tuple[str, ...]] = ("linf", "l2")
    formula: ClassVar[str] = r"x_{adv} = x + \varepsilon\,\mathrm{sign}\big(\nabla_x L(x, y)\big)"
    explanation: ClassVar[str] = (
        r"Ask the model once which way its loss grows with every pixel, and move each pixel by the whole $\varepsilon$ "
        r"that way. (In L2: along the slope itself, scaled to length $\varepsilon$.) It works as far as the loss is "
        r"a straight slope over that distance, so what survives it may still fall to many small steps."
    )
    presets = {"weak": {}, "standard": {}, "strong": {}}  # one step has one strength

    draws: int = param(
        1, "draws per step", lo=1, hi=512, help="Gradients averaged over this many passes of a stochastic model (EOT)."
    )
    loss: str = param(
        "ce", "loss", choices=LOSSES, help="What is pushed up: cross-entropy, or the margin between the best two logits."
    )

    def walk(self, model: nn.Module, x0: Tensor, goal: Goal, ball: Ball, rng: torch.Generator) -> Iterator[Step]:
        check_norm(self, ball)
        step = PGD(steps=1, rel_step=1.0, random_start=False, draws=self.draws, loss=self.loss)
        return step.walk(model, x0, goal, ball, rng)
