"""Ordinary training: accurate, and fooled by almost any attack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from explorer.core import param
from explorer.defenses import RECIPES
from explorer.defenses._recipe import Recipe


@RECIPES.register("baseline", title="Baseline", summary="Cross-entropy on clean images; no defence at all.")
@dataclass(frozen=True)
class Baseline(Recipe):
    """Cross-entropy with flips and crops."""

    smoke = {"epochs": 1, "width": 8}

    epochs: int = param(40, "epochs", lo=1, hi=1000, help="Passes over the training images.")
    width: int = param(32, "width", lo=4, hi=128, unit="channels", help="Channels of the first stage.")

    def architecture(self) -> tuple[str, dict[str, Any]]:
        return "preact-resnet18", {"width": self.width}
