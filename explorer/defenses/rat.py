"""Randomized adversarial training (Araujo et al., arXiv:1903.10219): noise on the input, in training and at test time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from explorer.core import Ball, Classifier, param
from explorer.defenses import RECIPES
from explorer.defenses._finetuned import FineTuned
from explorer.defenses.adversarial import AdversarialRecipe
from explorer.defenses.inner_attacks import pgd_images
from explorer.defenses.recipe import Each, counted, probabilities

VOTES = 8  # passes of the noisy network that are averaged for a held-out verdict


@dataclass(frozen=True)
class Randomized(AdversarialRecipe):
    """Adversarial training of a network that adds Gaussian noise to whatever it is shown, attacks included."""

    formula: ClassVar[str] = (
        r"\min_\theta\ \mathbb{E}_{(x,y)} \max_{\|\delta\|_\infty \le \varepsilon} L\big(\tilde f_\theta(x + \delta), y\big), "
        r"\quad \tilde f_\theta(x) = f_\theta(x + \nu),\ \nu \sim \mathcal{N}(0, \sigma^2 I)"
    )
    explanation: ClassVar[str] = (
        r"Adversarial training, but the network $\tilde f$ adds fresh Gaussian noise $\nu$ to every picture before it looks, in "
        r"training and afterwards. An attack no longer knows what exactly the network will see, and the noise drowns part of a "
        r"small change. What one lucky or unlucky draw says means little: an attack has to average over draws, and so does a verdict."
    )

    noise: float = param(
        0.1, "noise", lo=0.0, hi=1.0, unit="pixel range", step=0.01, help="Standard deviation of the noise."
    )

    def score(
        self, model: Classifier, x: Tensor, y: Tensor, rng: torch.Generator, each: Each | None = None
    ) -> dict[str, float]:
        """As in all adversarial training, but verdicts are means over draws, on noise that the attack has not seen."""
        half = slice(0, max(len(x) // 2, 1))
        attacked = []
        for images, labels in zip(x[half].split(250), y[half].split(250), strict=True):
            ball = Ball("linf", self.eps)
            attacked.append(
                pgd_images(model, images, labels, ball, self.selection_steps, 2.5 / self.selection_steps, rng)
            )
        robust = counted(voted_right(model, torch.cat(attacked), y[half], rng), each, "robust")
        return {"clean": counted(voted_right(model, x, y, rng), each, "clean"), "robust": robust, "score": robust}


def voted_right(model: Classifier, x: Tensor, y: Tensor, rng: torch.Generator, draws: int = VOTES) -> Tensor:
    """(N,) bool: images x (N,C,H,W) whose mean probabilities over the draws of a stochastic model favour y (N,)."""
    votes = sum((probabilities(model, x, rng) for _ in range(draws)), start=torch.zeros(()))
    return votes.argmax(1) == y


@RECIPES.register(
    "rat",
    title="Randomized adversarial (RAT), Linf",
    paper="arXiv:1903.10219",
    group="random networks",
    summary="Adversarially trained with Gaussian noise on every input, and the noise stays on at test time.",
)
@dataclass(frozen=True)
class Rat(FineTuned, Randomized, inner_steps=2):
    """From a Linf-trained network without noise; PGD in Linf, each of its passes under fresh noise.

    A long training is `--set start= --set epochs=30 --set lr=0.2 --set inner_steps=7`.
    differs: fine-tuned for 3 epochs with 2 inner steps, each as long as eps.
    """

    def architecture(self) -> tuple[str, dict[str, Any]]:
        return "preact-resnet18", {"width": self.width, "noise": self.noise}
