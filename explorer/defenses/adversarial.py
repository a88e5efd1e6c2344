"""Adversarial training (Madry et al., arXiv:1706.06083): the base classes, which train on attacked images and score robustness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from explorer.core import Ball, Classifier, param
from explorer.core.ball import Norm
from explorer.defenses import _collapse as collapse
from explorer.defenses.inner_attacks import fgsm_images, nfgsm_images, pgd_images, quick_pgd, robust_mask
from explorer.defenses.recipe import Each, Recipe, accuracy, counted

SCORED = 250  # held-out images a pass of single_step_images


@dataclass(frozen=True)
class RobustRecipe(Recipe):
    """Trained to withstand changes inside a ball, and scored by how often it does."""

    half: ClassVar[tuple[str, ...]] = ("robust", "fgsm")
    norm: ClassVar[Norm] = "linf"

    eps: float = param(8 / 255, "eps", lo=1e-4, hi=1.0, unit="pixel range", help="Radius of the Linf ball attacked in.")
    selection_steps: int = param(10, "selection PGD steps", lo=1, hi=100, help="PGD steps of the held-out measure.")

    @property
    def ball(self) -> Ball:
        return Ball(self.norm, self.eps)

    @property
    def single_step(self) -> bool:
        """Whether it trains, at times, on images a single step away, so that it may collapse."""
        return False

    def selection_attack(self) -> Any:
        """The attack that the held-out images must withstand."""
        return quick_pgd(self.selection_steps)

    def single_step_images(self, model: Classifier, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
        """(N,C,H,W): the images a single full step away, which a collapsed network withstands."""
        return fgsm_images(model, x, y, self.ball, rng)

    def score(
        self, model: Classifier, x: Tensor, y: Tensor, rng: torch.Generator, each: Each | None = None
    ) -> dict[str, float]:
        """Accuracies: clean on all held-out images; "robust" (PGD) and "fgsm" (a single step) on the first half of them.

        "fgsm" where training takes single steps: see `_collapse`.
        """
        half = slice(0, max(len(x) // 2, 1))
        mask = robust_mask(self.selection_attack(), model, x[half], y[half], self.ball, rng)
        robust = counted(mask, each, "robust")
        scores = {"clean": accuracy(model, x, y, rng, each=each), "robust": robust}
        if self.single_step:
            parts = zip(x[half].split(SCORED), y[half].split(SCORED), strict=True)
            stepped = torch.cat([self.single_step_images(model, *part, rng) for part in parts])
            scores["fgsm"] = accuracy(model, stepped, y[half], rng)
        return scores | {"score": robust}

    def warning(self, history: Sequence[Mapping[str, Any]]) -> str:
        return collapse.warning(history)


@dataclass(frozen=True)
class AdversarialRecipe(RobustRecipe):
    """Trains on attacked images: `inner_steps` 1 is the cheap N-FGSM (in L2: one full step), more is PGD."""

    inner_steps: int = param(1, "inner steps", lo=1, hi=50, help="1: one noisy step (N-FGSM); more: PGD steps.")
    finish_steps: int = param(1, "inner steps at the end", lo=1, hi=50, help="Inner steps of the last epochs.")
    finish_share: float = param(0.0, "share of last epochs", lo=0.0, hi=1.0, help="Share trained with the end's steps.")

    def attacked(self, model: Classifier, x: Tensor, y: Tensor, rng: torch.Generator, steps: int) -> Tensor:
        if steps > 1:
            return pgd_images(model, x, y, self.ball, steps, 2.0 / steps, rng)
        if self.norm == "linf":
            return nfgsm_images(model, x, y, self.eps, rng)
        return fgsm_images(model, x, y, self.ball, rng)

    @property
    def single_step(self) -> bool:
        return any(self.inner_steps_at(epoch) == 1 for epoch in range(self.epochs))

    def inner_steps_at(self, epoch: int) -> int:
        return self.finish_steps if epoch >= round(self.epochs * (1 - self.finish_share)) else self.inner_steps

    def passes(self, epoch: int) -> int:
        return 1 + self.inner_steps_at(epoch)

    def training_inputs(self, model: Classifier, x: Tensor, y: Tensor, rng: torch.Generator, epoch: int = 0) -> Tensor:
        return self.attacked(model, x, y, rng, self.inner_steps_at(epoch))
