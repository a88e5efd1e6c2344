"""Adversarial training from ImageNet weights (after Hendrycks et al., arXiv:1901.09960)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from torch import Tensor

from explorer.core import InvalidValue, param
from explorer.defenses import RECIPES
from explorer.defenses.adversarial import AdversarialRecipe
from explorer.defenses.pgd_linf import PgdLinf

FITS = 64  # the width of the network whose weights can be had


@RECIPES.register(
    "pgd-linf-imagenet",
    title="Adversarial training from ImageNet, Linf",
    paper="arXiv:1706.06083; arXiv:1901.09960",
    group="adversarial training",
    summary="Fine-tunes torchvision's ResNet-18, trained on ImageNet, on attacked images. Downloads its weights (47 MB).",
)
@dataclass(frozen=True)
class PgdImagenet(AdversarialRecipe, epochs=3, lr=0.05, warmup=0.15):
    """Cross-entropy on attacked images, on a ResNet-18 that begins with torchvision's ImageNet weights.

    The network has 11.2 million weights: 22 MB in half precision. The zoo's files stay below 16 MB, so that no model of
    this recipe comes with the project; it must be trained where the weights can be downloaded.
    differs: Hendrycks et al. pre-train adversarially, on ImageNet in pictures of 32 x 32; these weights are ordinary ones
    from pictures of 224 x 224.
    """

    formula: ClassVar[str] = PgdLinf.formula
    explanation: ClassVar[str] = (
        r"What a network has learned on a million pictures of ImageNet is a better start than random weights: its first layers "
        r"know edges and textures already. The training is that of *Adversarial training, Linf*; only where it begins differs. "
        r"The network is four times as dear as the others here, and its model, 22 MB, is too large to come with the project."
    )
    smoke = {"epochs": 1, "width": 8, "pretrained": False, "selection_steps": 2}

    pretrained: bool = param(
        True, "ImageNet weights", help="Begin with torchvision's weights for ImageNet (downloaded once, 47 MB)."
    )
    width: int = param(
        64, "width", lo=4, hi=128, unit="channels", help="Channels of the first stage; ImageNet weights fit 64 only."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pretrained and self.width != FITS:
            raise InvalidValue(f"width must be {FITS} for ImageNet weights (or pretrained false); got {self.width}.")

    def architecture(self) -> tuple[str, dict[str, Any]]:
        return "resnet18", {"width": self.width}

    def initial(self) -> dict[str, Tensor]:
        from explorer.models.imagenet import imagenet_weights

        return imagenet_weights() if self.pretrained and not self.start else {}

    def from_scratch(self) -> Self:
        return replace(super().from_scratch(), pretrained=False)
