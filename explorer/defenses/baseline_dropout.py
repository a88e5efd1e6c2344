"""Ordinary training with dropout before the last layer: the base model of the course's slides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from explorer.core import param
from explorer.defenses import RECIPES
from explorer.defenses.baseline import Baseline


@RECIPES.register(
    "baseline-dropout",
    title="Baseline with dropout",
    paper="Srivastava et al., JMLR 15 (2014)",
    group="no defence",
    summary="Clean images, and dropout before the last layer: helps against overfitting, not against attacks.",
)
@dataclass(frozen=True)
class BaselineDropout(Baseline, epochs=16, width=16):
    """Cross-entropy with flips and crops; training hides a share of the features from the last layer."""

    formula: ClassVar[str] = (
        r"\min_\theta\ \mathbb{E}_{(x,y)}\, \mathbb{E}_m\, L\big(W\,(m \odot h_\theta(x)) + b,\ y\big),"
        r"\quad m_i \in \{0, \tfrac{1}{1-p}\}"
    )
    explanation: ClassVar[str] = (
        r"As the baseline, but in every update each feature $h_i$ that the last layer sees is set to zero with probability $p$, so "
        r"that no single one can be relied on; afterwards all are there. This keeps a network from learning its pictures by heart. "
        r"It is no defence: an attack moves all features together."
    )

    dropout: float = param(0.5, "dropout", lo=0.0, hi=0.95, help="Share of the last layer's inputs that is hidden.")

    def architecture(self) -> tuple[str, dict[str, Any]]:
        return "preact-resnet18", {"width": self.width, "dropout": self.dropout}
