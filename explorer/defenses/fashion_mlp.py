"""The MLP on Fashion-MNIST, undefended: the two Fashion-MNIST defences begin with it and are compared with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from explorer.defenses import RECIPES
from explorer.defenses._fashion import Fashion


@RECIPES.register(
    "fashion-mlp",
    title="Fashion-MNIST MLP",
    group="no defence",
    summary="Fashion-MNIST: one hidden layer, cross-entropy on clean images; no defence at all.",
)
@dataclass(frozen=True)
class FashionMlp(Fashion, epochs=10, weight_decay=2e-3):
    """Cross-entropy on the pictures as they are; 784-100-10 unless told otherwise.

    differs: SGD with one cycle of the rate instead of Adam at 1e-3.
    """

    formula: ClassVar[str] = r"\min_\theta\ \mathbb{E}_{(x,y)}\, L\big(f_\theta(x), y\big)"
    explanation: ClassVar[str] = (
        r"A network of one hidden layer sees all 784 pixels at once and learns by the cross-entropy $L$ alone. It is small "
        r"enough to be trained in a minute, and what the two defences that go on from it are compared with."
    )
