"""Adversarial training by PGD alone, from random weights (Madry et al., arXiv:1706.06083)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from explorer.defenses import RECIPES
from explorer.defenses._resnet import OnResNet
from explorer.defenses.adversarial import AdversarialRecipe
from explorer.defenses.pgd_linf import PgdLinf


@RECIPES.register(
    "pgd-linf-scratch",
    title="PGD training, Linf, from scratch",
    paper="arXiv:1706.06083",
    group="adversarial training",
    summary="Seven PGD steps before every update, from random weights: the original, and the dearest.",
)
@dataclass(frozen=True)
class PgdScratch(OnResNet, AdversarialRecipe, epochs=10, inner_steps=7, finish_steps=7, width=16):
    """Cross-entropy on the last of seven PGD steps from a random start.

    Each update takes eight passes. The reference (Rice et al., arXiv:2002.11569) has ten steps and width 64:
    `--set inner_steps=10 --set finish_steps=10 --set width=64 --set epochs=40`.
    differs: steps of 2 eps / steps, a network of width 16, few epochs.
    """

    formula: ClassVar[str] = PgdLinf.formula
    explanation: ClassVar[str] = (
        r"The inner maximum is looked for by seven steps of PGD from a random point of the ball, before every single update: eight "
        r"passes where ordinary training needs one. From random weights the network has to learn to see and to withstand at once. "
        r"The other recipes are attempts to get the same for less: a start from a trained network, or a single step."
    )
    smoke = {"epochs": 1, "width": 8, "inner_steps": 2, "finish_steps": 2, "selection_steps": 2}
