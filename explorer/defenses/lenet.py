"""LeNet, the small network of a course's template, under each defence that the course tries: the reports' own setting."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from explorer.core import Classifier, param
from explorer.defenses import RECIPES
from explorer.defenses._norms import SeveralNorms
from explorer.defenses.adversarial import AdversarialRecipe
from explorer.defenses.baseline import Baseline
from explorer.defenses.half_cw import Halved
from explorer.defenses.inner_attacks import pgd_images
from explorer.defenses.mat import MixedMax, MixedRand
from explorer.defenses.pgd_linf import PgdLinf
from explorer.defenses.rat import Randomized
from explorer.defenses.recipe import Recipe

EPS, ALPHA = 0.03, 0.01  # Linf, and
EPS_L2, ALPHA_L2 = 0.5, 0.1  # L2: what a published solution of the course's project trains with, at 40 steps


def length(eps: float, alpha: float, steps: int) -> float:
    """How long a step is: `alpha`, but with few steps enough that they could cross the ball."""
    return max(alpha, 2 * eps / steps)


@dataclass(frozen=True)
class OnLeNet(Recipe, epochs=30, lr=0.05, label_smoothing=0.0):
    """The template's network and its normalisation by halves, on the common schedule.

    The template trains without a schedule (`--set batch=32 --set lr=0.001 --set ema=0`).
    differs: one cycle, larger batches and averaged weights give a better model in the same time.
    """

    smoke = {"epochs": 2, "batch": 32}

    def architecture(self) -> tuple[str, dict[str, Any]]:
        return "lenet", {"halves": True}


@RECIPES.register(
    "lenet",
    title="LeNet",
    paper="LeCun et al., Proc. IEEE 86, 1998",
    group="small nets",
    summary="The course template's network of 62,006 weights, on clean images; no defence at all.",
)
@dataclass(frozen=True)
class LeNetNatural(OnLeNet):
    """Cross-entropy on clean images."""

    formula: ClassVar[str] = Baseline.formula
    explanation: ClassVar[str] = (
        r"The small network that the course hands out, trained as usual: two convolutions, three linear layers, 180 times smaller "
        r"than a ResNet-18. What it reaches is what the small defended networks beside it are to be compared with."
    )


@dataclass(frozen=True)
class AttackedLeNet(OnLeNet, AdversarialRecipe, epochs=15, eps=EPS):
    """PGD in Linf; `--set inner_steps=40` is the published setting."""

    smoke = OnLeNet.smoke | {"inner_steps": 1, "selection_steps": 2}

    alpha: float = param(
        ALPHA,
        "shortest step",
        lo=1e-4,
        hi=1.0,
        unit="pixel range",
        help="Of PGD; longer where few steps could not cross the ball.",
    )
    inner_steps: int = param(5, "inner steps", lo=1, hi=50, help="PGD steps before every update.")

    def attacked(self, model: Classifier, x: Tensor, y: Tensor, rng: torch.Generator, steps: int) -> Tensor:
        rel_step = length(self.eps, self.alpha, steps) / self.eps
        return pgd_images(model, x, y, self.ball, steps, rel_step, rng)


@RECIPES.register(
    "lenet-at",
    title="LeNet, adversarial training",
    paper="arXiv:1706.06083",
    group="small nets",
    summary="The course template's small network, trained on images attacked inside Linf 0.03.",
)
@dataclass(frozen=True)
class LeNetAt(AttackedLeNet):
    """Adversarial training of the template's network. differs: 5 inner steps instead of 40."""

    formula: ClassVar[str] = PgdLinf.formula
    explanation: ClassVar[str] = (
        r"Adversarial training of the course's small network: the pictures of every batch are attacked by PGD inside "
        r"$\varepsilon = 0.03$, and the network learns from the attacked ones. So few weights cannot be accurate and robust at "
        r"once: what it gains against attacks it pays for in clean accuracy, far more than a large network does."
    )


@RECIPES.register(
    "lenet-rat",
    title="LeNet, RAT",
    paper="arXiv:1903.10219",
    group="small nets",
    summary="The course template's small network, adversarially trained with noise on every input, at test time too.",
)
@dataclass(frozen=True)
class LeNetRat(AttackedLeNet, Randomized):
    """RAT on the template's network. differs: 5 inner steps instead of 40."""

    def architecture(self) -> tuple[str, dict[str, Any]]:
        name, arguments = super().architecture()
        return name, arguments | {"noise": self.noise}


@dataclass(frozen=True)
class LeNetInNorms(OnLeNet, SeveralNorms, epochs=15, eps=EPS, eps_l2=EPS_L2, inner_steps=5):
    """PGD in Linf and L2; `--set inner_steps=40` is the published setting."""

    smoke = AttackedLeNet.smoke

    alpha: float = param(
        ALPHA, "shortest Linf step", lo=1e-4, hi=1.0, unit="pixel range",
        help="Of PGD in Linf; longer where few steps could not cross the ball.",
    )  # fmt: skip
    alpha_l2: float = param(
        ALPHA_L2,
        "shortest L2 step",
        lo=1e-3,
        hi=10.0,
        help="Of PGD in L2; longer where few steps could not cross the ball.",
    )

    def lengths(self) -> tuple[float, float]:
        return length(self.eps, self.alpha, self.inner_steps), length(self.eps_l2, self.alpha_l2, self.inner_steps)


@RECIPES.register(
    "lenet-mat-rand",
    title="LeNet, MAT-Rand",
    paper="arXiv:1903.10219",
    group="small nets",
    summary="The course template's small network; every picture draws the norm it is attacked in, Linf or L2.",
)
@dataclass(frozen=True)
class LeNetMatRand(LeNetInNorms, MixedRand):
    """MAT-Rand on the template's network. differs: 5 inner steps instead of 40; a norm for every image."""


@RECIPES.register(
    "lenet-mat-max",
    title="LeNet, MAT-Max",
    paper="arXiv:1903.10219",
    group="small nets",
    summary="The course template's small network; attacked in Linf and in L2, it learns from the worse of the two.",
)
@dataclass(frozen=True)
class LeNetMatMax(LeNetInNorms, MixedMax, epochs=8):
    """MAT-Max on the template's network. differs: 5 inner steps instead of 40."""


@RECIPES.register(
    "lenet-cw",
    title="LeNet, half PGD, half C&W",
    paper="arXiv:1706.06083; arXiv:1608.04644",
    group="small nets",
    summary="The course template's small network; half of each batch is attacked by PGD, half by C&W.",
)
@dataclass(frozen=True)
class LeNetCW(OnLeNet, Halved, epochs=15, eps=EPS):
    """Half PGD in Linf 0.03, half C&W in L2 0.5. differs: 5 steps of each instead of 40 and more."""

    smoke = AttackedLeNet.smoke | {"cw_steps": 1}

    inner_steps: int = param(5, "PGD steps", lo=1, hi=50, help="Steps of PGD, half of each batch's attack.")
    cw_steps: int = param(5, "C&W steps", lo=1, hi=100, help="Steps of C&W, the other half's.")
