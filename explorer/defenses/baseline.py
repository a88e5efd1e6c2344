"""Ordinary training: accurate, and fooled by almost any attack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from explorer.defenses import RECIPES
from explorer.defenses._resnet import OnResNet


@RECIPES.register(
    "baseline", title="Baseline", group="no defence", summary="Cross-entropy on clean images; no defence at all."
)
@dataclass(frozen=True)
class Baseline(OnResNet, epochs=40):
    """Cross-entropy with flips and crops."""

    formula: ClassVar[str] = r"\min_\theta\ \mathbb{E}_{(x,y)}\, L\big(f_\theta(x), y\big)"
    explanation: ClassVar[str] = (
        r"Show the network $f_\theta$ a batch of pictures $x$, measure by the cross-entropy $L$ how far its answers are from the "
        r"true classes $y$, and move the weights $\theta$ a small step downhill. Nothing here prepares it for an attack: it is "
        r"what the defences are compared with."
    )
    smoke = {"epochs": 1, "width": 8}
