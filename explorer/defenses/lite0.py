"""Adversarial training of EfficientNet-Lite0 on small pictures, from ImageNet weights and from scratch (after arXiv:1901.09960)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from explorer.core import param
from explorer.defenses import RECIPES
from explorer.defenses.adversarial import AdversarialRecipe
from explorer.defenses.pgd_linf import PgdLinf
from explorer.models import zoo

PRETRAINED = "photos/efficientnet-lite0"


@RECIPES.register(
    "lite0-scratch",
    title="Adversarial training from scratch, Lite0",
    paper="arXiv:1706.06083; arXiv:1905.11946",
    group="adversarial training",
    summary="EfficientNet-Lite0 on attacked images, from random weights: the twin of the one that begins with ImageNet's.",
)
@dataclass(frozen=True)
class Lite0Scratch(AdversarialRecipe, epochs=6, lr=0.02, warmup=0.15, label_smoothing=0.0):
    """Cross-entropy on N-FGSM images, on an EfficientNet-Lite0 whose first halvings are left out.

    differs: one noisy step instead of PGD; few epochs, the same for both twins.
    """

    smoke = {"epochs": 1, "unstrided": 0, "selection_steps": 2, "lr": 0.005}
    formula: ClassVar[str] = PgdLinf.formula
    explanation: ClassVar[str] = (
        r"The training of *Adversarial training, Linf*, on a network made for photographs of 224 x 224 (EfficientNet-Lite0). A picture "
        r"of 32 x 32 would end as a single place after its five halvings, so the first two are left out. This one begins "
        r"with random weights; its twin with those of ImageNet, and everything else is equal: the two curves show what a start is worth."
    )

    unstrided: int = param(
        2, "halvings left out", lo=0, hi=5, help="Of the network's five; 2 leave 4 x 4 places of 32 x 32 pixels."
    )

    def architecture(self) -> tuple[str, dict[str, Any]]:
        return "efficientnet-lite0", {"unstrided": self.unstrided}


@RECIPES.register(
    "lite0-imagenet",
    title="Adversarial training from ImageNet, Lite0",
    paper="arXiv:1706.06083; arXiv:1901.09960",
    group="adversarial training",
    summary="EfficientNet-Lite0 on attacked images, from the weights for ImageNet that come with the project.",
)
@dataclass(frozen=True)
class Lite0Imagenet(Lite0Scratch):
    """Begins with the weights of `photos/efficientnet-lite0`, but for the last layer.

    differs: Hendrycks et al. pre-train adversarially, on ImageNet in pictures of 32 x 32; these weights are ordinary ones
    from pictures of 224 x 224.
    """

    explanation: ClassVar[str] = (
        r"What a network has learned on a million photographs is a better start than random weights: its first layers know edges and "
        r"textures already. The training is its twin's from scratch; only where it begins differs. ImageNet's pictures were "
        r"seven times as large, and not attacked, so some of what is known must be learned anew."
    )

    def initial(self) -> dict[str, Tensor]:
        if self.start:
            return {}
        found = zoo.load(PRETRAINED).state_dict()
        return {key: tensor for key, tensor in found.items() if not key.startswith(("head.", "mean", "std"))}
