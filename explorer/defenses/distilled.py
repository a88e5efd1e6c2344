"""Defensive distillation (Papernot et al., arXiv:1511.04508): softened labels, a temperature, and a security that is not there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from explorer.core import Classifier, param
from explorer.defenses import RECIPES
from explorer.defenses.recipe import OptimizerName, Recipe
from explorer.models import zoo


@RECIPES.register(
    "distilled",
    title="Defensive distillation",
    paper="arXiv:1511.04508; broken by arXiv:1608.04644",
    group="no defence",
    summary="Fashion-MNIST: trained at a high temperature, so that its loss is flat at 1: a plain gradient finds it robust, C&W does not.",
)
@dataclass(frozen=True)
class Distilled(Recipe, epochs=20, lr=2e-3, warmup=0.1, weight_decay=0.0, label_smoothing=0.0):
    """Cross-entropy at temperature T with the teacher's probabilities at T (section IV); the model answers at 1.

    Without a teacher the labels are the dataset's: so the teacher is made, at the same temperature. The whole defence is
    `train distilled --name fashion_mnist/distilled-teacher`, then `train distilled --set teacher=fashion_mnist/distilled-teacher`.
    differs: Adam on one cycle; averaged weights; a smaller network.
    """

    dataset: ClassVar[str] = "fashion_mnist"
    augment: ClassVar[bool] = False
    optimizer: ClassVar[OptimizerName] = "adam"
    smoke: ClassVar[Mapping[str, Any]] = {
        "epochs": 1,
        "teacher": "",
        "temperature": 2.0,
    }  # at 100 a few updates show little
    formula: ClassVar[str] = (
        r"\min_\theta\ \mathbb{E}_x\Big[ -\sum_k \sigma_k\big(g(x) / T\big) \log \sigma_k\big(f_\theta(x) / T\big) \Big],\quad "
        r"\sigma_k(z) = e^{z_k} \Big/ \sum_j e^{z_j}"
    )
    explanation: ClassVar[str] = (
        r"A teacher $g$ is trained with its logits divided by a temperature $T$; a student $f_\theta$ learns the teacher's "
        r"probabilities at the same $T$, and is then used without it. Its logits have become about $T$ times as large as others', so "
        r"the probability of its answer is 1 to the last digit, the gradient of the cross-entropy is zero, and an attack that follows that "
        r"gradient stands still. Nothing else has changed: an attack on the lead of the answer over its rival, such as C&W, finds "
        r"the wrong class as near as in any other network. This is gradient masking, and not a defence."
    )

    temperature: float = param(
        100.0, "temperature", lo=1.0, hi=1000.0, help="Divides the logits, in training only (T)."
    )
    teacher: str = param("", "teacher", help="A model of the zoo, trained at this temperature; empty: the true labels.")
    channels: int = param(16, "channels", lo=4, hi=128, help="Of the first convolution, twice as many in the second.")

    def architecture(self) -> tuple[str, dict[str, Any]]:
        return "plain-conv", {"convolutions": [[self.channels, 4, 2], [2 * self.channels, 4, 2]], "hidden": [100]}

    def loss(self, model: Classifier, x: Tensor, y: Tensor, rng: torch.Generator, epoch: int = 0) -> Tensor:
        logits = model(x).float() / self.temperature
        if not self.teacher:
            return self.cross_entropy(logits, y)
        with torch.no_grad():
            labels = (_loaded(self.teacher, str(x.device))(x).float() / self.temperature).softmax(1)  # (N,K)
        return F.cross_entropy(logits, labels)


@lru_cache(maxsize=1)
def _loaded(name: str, device: str) -> Classifier:
    return zoo.load(name, device)
