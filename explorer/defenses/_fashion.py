"""What the Fashion-MNIST recipes share: small fully connected networks on pictures that are not augmented."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from explorer.core import Classifier, InvalidValue, param
from explorer.defenses.inner_attacks import input_gradient
from explorer.defenses.recipe import Each, Recipe, accuracy

SCORED_EPS = 0.05  # Linf, of the one-step attack by which epochs are compared


@dataclass(frozen=True)
class Fashion(Recipe, lr=0.05, label_smoothing=0.0):
    """Plain pictures, an MLP, and rates for it."""

    dataset: ClassVar[str] = "fashion_mnist"
    augment: ClassVar[bool] = False
    smoke: ClassVar[Mapping[str, Any]] = {"epochs": 1, "start": ""}

    hidden: str = param("100", "hidden layers", help='Units of each hidden layer, as "100" or "500-150".')

    def architecture(self) -> tuple[str, dict[str, Any]]:
        widths = self.hidden.split("-")
        if not all(width.isdecimal() and 1 <= int(width) <= 4096 for width in widths):
            raise InvalidValue(
                f'hidden must be numbers of units in [1, 4096] such as "100" or "500-150"; got {self.hidden!r}.'
            )
        return "mlp", {"hidden": [int(width) for width in widths]}


@dataclass(frozen=True)
class FashionDefence(Fashion, epochs=3, batch=512, lr=0.02, start="fashion_mnist/fashion-mlp"):
    """A few more epochs for the vanilla network; the one is kept that stands one signed step best."""

    def score(
        self, model: Classifier, x: Tensor, y: Tensor, rng: torch.Generator, each: Each | None = None
    ) -> dict[str, float]:
        """Accuracy after one signed gradient step of 0.05, and without it."""
        attacked = (x + SCORED_EPS * input_gradient(model, x, y, rng).sign()).clamp(0, 1)
        robust = accuracy(model, attacked, y, rng, each=each, name="robust")
        return {"clean": accuracy(model, x, y, rng, each=each), "robust": robust, "score": robust}
