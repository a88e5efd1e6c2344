"""Adversarial training against changes of a part of the picture only (after Rothberg et al., arXiv:1909.04779)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from explorer.attacks.localized import LocalizedPGD
from explorer.core import Classifier, param, sample_batch
from explorer.defenses import RECIPES
from explorer.defenses._resnet import OnResNet
from explorer.defenses.adversarial import AdversarialRecipe
from explorer.defenses.inner_attacks import input_gradient, projected_ascent

AREAS = ("border", "background")
ONE_STEP = 1.25  # x eps: how far a single step goes from its random start (Wong et al., arXiv:2001.03994)


@RECIPES.register(
    "localized",
    title="Localized adversarial training",
    paper="arXiv:1909.04779",
    group="adversarial training",
    summary="Attacked in the border or the background only, mixed with clean images: learns not to look there.",
)
@dataclass(frozen=True)
class Localized(OnResNet, AdversarialRecipe, epochs=4, lr=0.1, warmup=0.15, start="cifar10/baseline", finish_steps=2):
    """From the baseline's weights: a share of each batch is attacked inside a mask (Linf), the rest stays clean.

    "robust" is the held-out accuracy under PGD inside the same mask: it says nothing about attacks on the whole picture.
    differs: CIFAR-10 has no masks of its objects, so the mask is a border, or the background as far as
    `attacks.localized.background` recognises it.
    """

    formula: ClassVar[str] = (
        r"\min_\theta\ (1 - s)\,\mathbb{E}\,L\big(f_\theta(x), y\big) + s\,\mathbb{E} \max_{\|\delta\|_\infty \le \varepsilon} "
        r"L\big(f_\theta(x + M(x) \odot \delta), y\big)"
    )
    explanation: ClassVar[str] = (
        r"What is around an object should not decide what it is. So a share $s$ of the pictures is attacked, but only inside a "
        r"mask $M$ (the border, or the recognised background), and the others stay as they are. The network learns to rely on the "
        r"middle or the object. It keeps most of its clean accuracy; an attack that may change the whole picture still fools it."
    )
    smoke = {"epochs": 1, "width": 8, "selection_steps": 2, "start": ""}

    inner_steps: int = param(
        2, "inner steps", lo=1, hi=50, help="PGD steps inside the mask: 2 keep the run short, 7 to 10 are usual."
    )
    area: str = param("border", "what is attacked", choices=AREAS, help="Where the mask is.")
    thickness: int = param(
        4, "border", lo=1, hi=16, unit="pixels", when=("area", "border"), help="How wide the border is."
    )
    tolerance: float = param(
        0.03, "colour tolerance", lo=0.0, hi=1.0, step=0.005, when=("area", "background"),
        help="How much neighbouring pixels may differ for the background to spread from one to the other.",
    )  # fmt: skip
    attacked_share: float = param(
        0.5, "attacked share", lo=0.0, hi=1.0, help="Share of each batch that is attacked; the rest stays clean."
    )

    @property
    def mask(self) -> LocalizedPGD:
        """The attack whose mask this is."""
        return LocalizedPGD(
            area=self.area, thickness=self.thickness, tolerance=self.tolerance,
            steps=self.selection_steps, rel_step=min(2.5 / self.selection_steps, 2.0),
        )  # fmt: skip

    def attacked(self, model: Classifier, x: Tensor, y: Tensor, rng: torch.Generator, steps: int) -> Tensor:
        return self.inside(model, x, y, self.ball.around(x).sample(rng), rng, steps)

    def inside(
        self, model: Classifier, x: Tensor, y: Tensor, start: Tensor, rng: torch.Generator, steps: int
    ) -> Tensor:
        """(N,C,H,W): x after PGD inside its mask, from `start` there; outside it is exactly x."""
        mask = self.mask.allowed(x)
        return projected_ascent(
            torch.where(mask, start, x), self.ball.around(x), self.ball, steps, min(2.0 / steps, ONE_STEP),
            lambda at: mask * input_gradient(model, at, y, rng),
        )  # fmt: skip

    def training_inputs(self, model: Classifier, x: Tensor, y: Tensor, rng: torch.Generator, epoch: int = 0) -> Tensor:
        start = self.ball.around(x).sample(rng)  # for all images: what one draws depends on no other
        rows = sample_batch(lambda shape: torch.arange(shape[0]), x.shape[:1]).to(x.device)  # in the whole batch
        share = self.attacked_share
        chosen = ((rows + 1) * share).floor() > (rows * share).floor()  # evenly spread, in the exact share
        inputs = x.clone()
        if bool(chosen.any()):
            inputs[chosen] = self.inside(model, x[chosen], y[chosen], start[chosen], rng, self.inner_steps_at(epoch))
        return inputs

    def selection_attack(self) -> LocalizedPGD:
        return self.mask

    def single_step_images(self, model: Classifier, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
        return torch.where(self.mask.allowed(x), super().single_step_images(model, x, y, rng), x)
