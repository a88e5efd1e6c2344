"""What the recipes share that go on from a robust network instead of starting anew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from explorer.defenses._resnet import OnResNet


@dataclass(frozen=True)
class FineTuned(OnResNet, epochs=3, lr=0.03, warmup=0.15, start="cifar10/pgd-linf"):
    """A few epochs at a small rate on the network that adversarial training in Linf left."""

    smoke: ClassVar[Mapping[str, Any]] = {
        "epochs": 1, "width": 8, "inner_steps": 1, "selection_steps": 2, "start": "",
    }  # fmt: skip
