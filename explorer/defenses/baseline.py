"""Ordinary training: accurate, and fooled by almost any attack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from explorer.core import param
from explorer.defenses import RECIPES
from explorer.defenses.recipe import Recipe


@RECIPES.register(
    "baseline", title="Baseline", group="no defence", summary="Cross-entropy on clean images; no defence at all."
)
@dataclass(frozen=True)
class Baseline(Recipe, epochs=40):
    """Cross-entropy with flips and crops."""

    formula: ClassVar[str] = r"\min_\theta\ \mathbb{E}_{(x,y)}\, L\big(f_\theta(x), y\big)"
    explanation: ClassVar[str] = (
        r"Show the network $f_\theta$ a batch of pictures $x$, measure by the cross-entropy $L$ how far its answers are from the "
        r"true classes $y$, and move the weights $\theta$ a small step downhill. Nothing here prepares it for an attack: it is "
        r"what the defences are compared with."
    )
    smoke = {"epochs": 1, "width": 8}

    width: int = param(32, "width", lo=4, hi=128, unit="channels", help="Channels of the first stage.")

    def architecture(self) -> tuple[str, dict[str, Any]]:
        return "preact-resnet18", {"width": self.width}
