"""Adversarial training that stops when held-out robust accuracy no longer rises (Rice et al., arXiv:2002.11569)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from explorer.core import param
from explorer.defenses import RECIPES
from explorer.defenses._resnet import OnResNet
from explorer.defenses.adversarial import AdversarialRecipe

DROPS = (0.5, 0.75)  # shares of the planned updates after which the learning rate is divided
BY = 10.0


@RECIPES.register(
    "early-stopping",
    title="Early stopping, Linf",
    paper="arXiv:2002.11569",
    group="adversarial training",
    summary="Adversarial training with a piecewise rate; ends, and keeps its best, once held-out robustness no longer rises.",
)
@dataclass(frozen=True)
class EarlyStopping(OnResNet, AdversarialRecipe, start="cifar10/baseline"):
    """From the baseline's weights: constant learning rate, divided by 10 after half and after three quarters.

    The reference (200 epochs of PGD-10, width 64, from scratch):
    `--set start= --set epochs=200 --set inner_steps=10 --set finish_steps=10 --set width=64 --set patience=50`.
    differs: far fewer epochs of one noisy step; the run ends once `patience` is over, where the paper goes on and looks back.
    """

    formula: ClassVar[str] = (
        r"t^* = \arg\max_t\ \widehat{\mathrm{acc}}_{\text{PGD}}(\theta_t),\quad "
        r"\theta_t \text{ on the way to } \min_\theta\, \mathbb{E}_{(x,y)} \max_{\|\delta\|_\infty \le \varepsilon} "
        r"L\big(f_\theta(x + \delta), y\big)"
    )
    explanation: ClassVar[str] = (
        r"Adversarial training overfits as ordinary training does not: after the learning rate has dropped, robustness on new "
        r"pictures rises for a while and then falls, though it goes on rising on the pictures trained on. So after each epoch the "
        r"averaged network is attacked on pictures held out of the training. Once its accuracy has not risen for *patience* "
        r"epochs the run ends, and the best epoch $t^*$ is kept. Many cleverer defences gain less than this."
    )
    smoke = {"epochs": 1, "width": 8, "selection_steps": 2, "start": ""}

    epochs: int = param(
        12, "epochs at most", lo=1, hi=1000, help="Passes over the training images, if nothing ends them."
    )
    lr: float = param(
        0.05, "learning rate", lo=1e-5, hi=10.0, help="Of the first half; then a tenth, then a hundredth."
    )
    warmup: float = param(0.02, "warm-up share", lo=0.0, hi=0.5, help="Share of all updates until the rate is reached.")
    patience: int = param(
        2, "patience", lo=1, hi=1000, unit="epochs", help="Epochs without a new best that end the run."
    )

    def learning_rate(self, update: int, updates: int) -> float:
        rising = min((update + 1) / max(self.warmup * updates, 1e-9), 1.0)
        return self.lr * rising / BY ** sum(update >= drop * updates for drop in DROPS)

    def early_stop(self, history: Sequence[Mapping[str, Any]]) -> bool:
        scores = [entry["score"] for entry in history]
        return len(scores) - 1 - first_best(scores) >= self.patience if scores else False

    def warning(self, history: Sequence[Mapping[str, Any]]) -> str:
        words = [super().warning(history)]
        if self.early_stop(history) and len(history) < self.epochs:
            best = first_best([entry["score"] for entry in history]) + 1
            words.append(
                f"Stopped early, after epoch {len(history)} of {self.epochs}: held-out robust accuracy has not risen since "
                f"epoch {best}."
            )
        return " ".join(word for word in words if word)


def first_best(scores: Sequence[float]) -> int:
    """Where the highest score stood first."""
    return scores.index(max(scores))
