"""What the recipes share that go on from a robust network instead of starting anew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from explorer.core import param
from explorer.defenses._recipe import Recipe


@dataclass(frozen=True)
class FineTuned(Recipe):
    """A few epochs at a small rate on the network that adversarial training in Linf left."""

    epochs: int = param(3, "epochs", lo=1, hi=1000, help="Passes over the training images.")
    lr: float = param(0.03, "peak learning rate", lo=1e-5, hi=10.0, help="Highest point of the one-cycle schedule.")
    warmup: float = param(0.15, "warm-up share", lo=0.0, hi=0.9, help="Share of all updates until the peak is reached.")
    start: str = param(
        "cifar10/pgd-linf", "start from", help="A zoo model whose weights the run starts from; empty: none."
    )
    width: int = param(32, "width", lo=4, hi=128, unit="channels", help="Channels of the first stage.")

    def architecture(self) -> tuple[str, dict[str, Any]]:
        return "preact-resnet18", {"width": self.width}
