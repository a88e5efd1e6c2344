"""FGSM training without noise (Goodfellow et al., arXiv:1412.6572), to see it collapse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from explorer.core import Classifier
from explorer.defenses import RECIPES
from explorer.defenses._finetuned import FineTuned
from explorer.defenses.adversarial import RobustRecipe
from explorer.defenses.inner_attacks import fgsm_images
from explorer.defenses.recipe import Each


@RECIPES.register(
    "fgsm",
    title="FGSM training, collapses",
    paper="arXiv:1412.6572; arXiv:2001.03994",
    group="adversarial training",
    summary="One step from the image itself, without noise: apt to collapse, so that PGD fools it and FGSM does not. A lesson.",
)
@dataclass(frozen=True)
class Fgsm(FineTuned, RobustRecipe, epochs=4, lr=0.1, label_smoothing=0.0, start="cifar10/nfgsm", eps=0.05, width=16):
    """Cross-entropy on x + eps * sign(gradient at x).

    The defaults are chosen to show it in minutes: in a ball of 0.05 (12.75/255), without label smoothing, a network of width 16
    that N-FGSM had trained collapsed in its second epoch. At 8/255 (from a clean network, smoothed labels, 5 epochs) and at
    10/255 (from a clean network, 2 epochs) such networks did not.

    The epoch is kept by what such a training sees itself: accuracy under the single step ("fgsm"). "robust", under PGD, and
    the run's warning tell what became of it.
    """

    formula: ClassVar[str] = (
        r"\min_\theta\ \mathbb{E}\, L\big(f_\theta(x + \varepsilon\,\mathrm{sign}\,\nabla_x L(f_\theta(x), y)), y\big)"
    )
    explanation: ClassVar[str] = (
        r"The cheapest adversarial training: one step from the picture itself, always of full length, without noise. It goes well "
        r"for a while; then, often within one epoch, the network learns to bend the loss around the very points where the step "
        r"lands. It withstands that step better than before, and PGD hardly at all: *catastrophic overfitting*. Whoever tests by "
        r"FGSM alone takes the collapsed network for the best. Here the ball is wider than usual (0.05), where even a small network "
        r"collapses soon."
    )
    smoke = {"epochs": 1, "width": 8, "selection_steps": 2, "start": ""}

    @property
    def single_step(self) -> bool:
        return True

    def passes(self, epoch: int) -> int:
        return 2

    def training_inputs(self, model: Classifier, x: Tensor, y: Tensor, rng: torch.Generator, epoch: int = 0) -> Tensor:
        return fgsm_images(model, x, y, self.ball, rng)

    def score(
        self, model: Classifier, x: Tensor, y: Tensor, rng: torch.Generator, each: Each | None = None
    ) -> dict[str, float]:
        scores = super().score(model, x, y, rng, each)
        return scores | {"score": scores["fgsm"]}


@RECIPES.register(
    "fgsm-0.01",
    title="FGSM training at eps 0.01",
    paper="arXiv:1412.6572",
    group="adversarial training",
    summary="The same training in a ball too small to collapse in: much stays right on clean images, little at 8/255.",
)
@dataclass(frozen=True)
class SmallFgsm(Fgsm, lr=0.05, start="cifar10/baseline", eps=0.01, width=32):
    """As Fgsm, with eps 0.01 (2.55/255): the smaller of the two radii of the course slides."""

    explanation: ClassVar[str] = (
        r"One step from the picture itself, always of full length, without noise: the training that collapses in a wide ball. In "
        r"this small one the loss is nearly straight from the picture to the ball's edge, so that the one step is close to the "
        r"worst that an attacker can do there, and PGD finds hardly more. What it learns to withstand is as small as the ball."
    )
