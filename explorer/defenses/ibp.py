"""Training by interval bound propagation (IBP; Gowal et al., arXiv:1810.12715): the loss is that of the worst logits possible."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from explorer.core import Classifier, param
from explorer.defenses import RECIPES
from explorer.defenses._plain_conv import convolutions
from explorer.defenses.recipe import Each, OptimizerName, Recipe, accuracy
from explorer.models.intervals import around, margins

PART = 500  # images whose bounds are computed at a time, for the score


@RECIPES.register(
    "ibp",
    title="Interval bounds",
    paper="arXiv:1810.12715",
    group="certified",
    summary="Fashion-MNIST: trained on the worst that its logits could be, so that for most pictures no Linf attack at 0.1 exists.",
)
@dataclass(frozen=True)
class IntervalBounds(Recipe, epochs=60, lr=1e-3, warmup=0.05, weight_decay=0.0, label_smoothing=0.0):
    """Cross-entropy of the logits plus that of the worst logits which intervals around every activation allow.

    differs: eps and kappa move from epoch to epoch, not from update to update; one cycle instead of two drops of the rate;
    averaged weights.
    """

    dataset: ClassVar[str] = "fashion_mnist"
    augment: ClassVar[bool] = False
    optimizer: ClassVar[OptimizerName] = "adam"
    smoke: ClassVar[Mapping[str, Any]] = {"epochs": 2, "eps": 1e-4}  # at the eps of a run the loss begins by rising
    formula: ClassVar[str] = (
        r"\min_\theta\ \mathbb{E}_{(x,y)}\Big[ \kappa\, L\big(f_\theta(x), y\big) + (1 - \kappa)\, L\big(\hat z(x, \varepsilon), y\big)"
        r"\Big],\quad \hat z_k - \hat z_y = \overline{\big(f_k - f_y\big)}\big([x - \varepsilon,\, x + \varepsilon]\big)"
    )
    explanation: ClassVar[str] = (
        r"Let every pixel lie anywhere within $\varepsilon$ of its value. Then each unit's value lies in an interval that follows "
        r"from the intervals before it, layer by layer, up to the logits: no picture within $\varepsilon$ can give others. "
        r"$\hat z$ are the worst logits of all those: the rivals at most as good as they can be beside the true class. The "
        r"loss makes even them right, which is a *proof* for the picture. $\varepsilon$ grows and $\kappa$, the weight "
        r"of the plain loss, shrinks in the course of the run; intervals are wide guesses at first, and training makes them narrow."
    )

    eps: float = param(
        0.1, "eps", lo=0.0, hi=1.0, unit="pixel range", help="Radius in Linf whose pictures are bounded, at the end."
    )
    kappa: float = param(0.5, "kappa", lo=0.0, hi=1.0, help="Weight of the plain loss at the end; 1 at first.")
    clean: float = param(
        0.05, "clean share", lo=0.0, hi=1.0, help="Share of the epochs before the bounds' loss sets in."
    )
    ramp: float = param(
        0.5, "ramp share", lo=0.01, hi=1.0, help="Share of the epochs in which eps and kappa move to their ends."
    )
    channels: str = param("24-48", "channels", help='Of each convolution, 4x4 with a stride of 2, as "16-32".')
    hidden: int = param(128, "hidden units", lo=1, hi=4096, help="Of the linear layer after the convolutions.")

    def architecture(self) -> tuple[str, dict[str, Any]]:
        return "plain-conv", {"convolutions": convolutions(self.channels), "hidden": [self.hidden]}

    def moved(self, epoch: int) -> float:
        """How far eps and kappa have come in this 0-based epoch, from 0 to 1."""
        return min(max(((epoch + 0.5) / self.epochs - self.clean) / self.ramp, 0.0), 1.0)

    def loss(self, model: Classifier, x: Tensor, y: Tensor, rng: torch.Generator, epoch: int = 0) -> Tensor:
        plain = self.cross_entropy(model(x), y)
        share = self.moved(epoch)
        if share == 0:
            return plain
        worst = -margins(
            model, *around(x, share * self.eps), y
        )  # (N, K) the logits up to a shift of all, which is no matter
        weight = 1 - share * (1 - self.kappa)
        return weight * plain + (1 - weight) * self.cross_entropy(worst, y)

    def passes(self, epoch: int) -> int:
        return 3 if self.moved(epoch) else 1

    def score(
        self, model: Classifier, x: Tensor, y: Tensor, rng: torch.Generator, each: Each | None = None
    ) -> dict[str, float]:
        """The share of right images, and of those that the bounds prove at the full eps, which decides."""
        proven = 0
        with torch.no_grad():
            for images, labels in zip(x.split(PART), y.split(PART), strict=True):
                lead = margins(model, *around(images, self.eps), labels)
                proven += int(lead.scatter(1, labels[:, None], torch.inf).gt(0).all(1).sum())
        return {"clean": accuracy(model, x, y, rng, each=each), "certified": proven / len(y), "score": proven / len(y)}


@RECIPES.register(
    "ibp-cifar10",
    title="Interval bounds, CIFAR-10",
    paper="arXiv:1810.12715",
    group="certified",
    summary="CIFAR-10: trained on the worst that its logits could be, proven in Linf at 2/255.",
)
@dataclass(frozen=True)
class IntervalBoundsCifar10(IntervalBounds, epochs=30, eps=2 / 255, channels="32-64", hidden=256):
    dataset: ClassVar[str] = "cifar10"
    augment: ClassVar[bool] = True
