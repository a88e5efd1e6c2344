"""What the recipes share that train a PreAct ResNet-18."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from explorer.core import param
from explorer.defenses.recipe import Recipe


@dataclass(frozen=True)
class OnResNet(Recipe):
    """Of any width; beside `AdversarialRecipe` and others that say nothing of a network, it stands first among the bases."""

    smoke: ClassVar[Mapping[str, Any]] = {"epochs": 1, "width": 8, "start": ""}

    width: int = param(32, "width", lo=4, hi=128, unit="channels", help="Channels of the first stage.")

    def architecture(self) -> tuple[str, dict[str, Any]]:
        return "preact-resnet18", {"width": self.width}
