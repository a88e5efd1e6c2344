"""What the recipes share that go on from a robust network instead of starting anew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from explorer.core import param
from explorer.defenses.recipe import Recipe


@dataclass(frozen=True)
class FineTuned(Recipe, epochs=3, lr=0.03, warmup=0.15, start="cifar10/pgd-linf"):
    """A few epochs at a small rate on the network that adversarial training in Linf left."""

    width: int = param(32, "width", lo=4, hi=128, unit="channels", help="Channels of the first stage.")

    def architecture(self) -> tuple[str, dict[str, Any]]:
        return "preact-resnet18", {"width": self.width}
