"""Stochastic local winner-takes-all network, adversarially trained (Panousis et al., arXiv:2112.02671)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, cast

import torch
from torch import Tensor

from explorer.core import Classifier, param, use_generator
from explorer.defenses import RECIPES
from explorer.defenses.adversarial import AdversarialRecipe


class Competing(Protocol):
    """What an architecture with winners answers of its last training pass."""

    def kl(self) -> Tensor: ...


@dataclass(frozen=True)
class Winners(AdversarialRecipe, epochs=12, label_smoothing=0.0):
    """Cross-entropy on attacked images plus the winners' KL to the uniform distribution, for any network of such units."""

    formula: ClassVar[str] = (
        r"\min_\theta\ \mathbb{E}\Big[ L\big(f_{\theta,\xi}(x + \delta), y\big) "
        r"+ \lambda \sum_{\text{layers}} \overline{\mathrm{KL}}\big(q(\xi)\,\|\,\tfrac{1}{U}\big) \Big]"
    )
    explanation: ClassVar[str] = (
        r"The units of each layer compete in small blocks of $U$; the winner $\xi$ is drawn at random, likelier the larger a "
        r"unit's answer, and only it passes its value on. The network is trained on attacked pictures $x+\delta$; the second "
        r"term (weight $\lambda$; the mean over a layer's blocks) keeps the draws from becoming certain. Its answers stay random "
        r"at test time, so an attack must average over many draws before it says anything about it."
    )

    units: int = param(2, "units per block", lo=2, hi=8, help="Units that compete; one of them wins.")
    temperature: float = param(0.67, "temperature", lo=0.05, hi=5.0, help="Softness of the winner during training.")
    kl_weight: float = param(1e-3, "KL weight", lo=0.0, hi=1.0, help="Weight of KL(winner's distribution || uniform).")

    def loss(self, model: Classifier, x: Tensor, y: Tensor, rng: torch.Generator, epoch: int = 0) -> Tensor:
        adversarial = self.training_inputs(model, x, y, rng, epoch)
        with use_generator(rng):
            cross_entropy = self.cross_entropy(model(adversarial), y)
        return cross_entropy + self.kl_weight * cast("Competing", model).kl()


@RECIPES.register(
    "lwta",
    title="Stochastic LWTA, Linf",
    paper="arXiv:2112.02671",
    group="random networks",
    summary="In every pair of units one random winner passes on: random at test time, adversarially trained.",
)
@dataclass(frozen=True)
class Lwta(Winners):
    """On a PreAct ResNet-18.

    differs: a PreAct ResNet-18 instead of the paper's WideResNet-34, one noisy step (N-FGSM) instead of PGD-10.
    """

    smoke = {"epochs": 1, "width": 8}

    width: int = param(16, "width", lo=4, hi=128, unit="channels", help="Channels of the first stage.")

    def architecture(self) -> tuple[str, dict[str, Any]]:
        return "preact-resnet18", {"width": self.width, "units": self.units, "temperature": self.temperature}


@RECIPES.register(
    "lwta-wrn",
    title="Stochastic LWTA, WRN-34",
    paper="arXiv:2112.02671",
    group="random networks",
    summary="The paper's own network, a WideResNet-34 of such units, adversarially trained.",
)
@dataclass(frozen=True)
class LwtaWideResNet(Winners):
    """On the paper's WideResNet-34, with its widths 1 and 2 among those to choose.

    differs: one noisy step (N-FGSM) instead of PGD-10; 12 epochs on one cycle.
    """

    smoke = {"epochs": 1, "depth": 10}

    depth: int = param(34, "depth", lo=10, hi=100, help="Layers: 6n + 4.")
    widen: int = param(1, "widening", lo=1, hi=10, help="Factor of the channels 16, 32 and 64.")

    def architecture(self) -> tuple[str, dict[str, Any]]:
        return "wide-resnet", {
            "depth": self.depth,
            "widen": self.widen,
            "units": self.units,
            "temperature": self.temperature,
        }
