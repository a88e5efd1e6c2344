"""Adversarial training with spectrally normalised convolutions and noise on the attacked images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from explorer.core import Classifier, param, use_generator
from explorer.defenses import RECIPES
from explorer.defenses._finetuned import FineTuned
from explorer.defenses.adversarial import AdversarialRecipe
from explorer.models.noise import InputNoise


@RECIPES.register(
    "spectral-twin",
    title="Twin of spectral normalization, Linf",
    paper="arXiv:1804.04368",
    group="adversarial training",
    summary="Trained as the spectrally normalised network, but without its bound: what the bound does, the two show together.",
)
@dataclass(frozen=True)
class SpectralTwin(FineTuned, AdversarialRecipe, inner_steps=2):
    """Gaussian noise is added to the attacked images, in training only; fine-tuned for 3 epochs with 2 inner steps as long as eps."""

    formula: ClassVar[str] = (
        r"\min_\theta\ \mathbb{E}_{(x,y)} \max_{\|\delta\|_\infty \le \varepsilon} \mathbb{E}_{\nu\sim\mathcal{N}(0,\sigma^2 I)}\, "
        r"L\big(f_\theta(x + \delta + \nu), y\big)"
    )
    explanation: ClassVar[str] = (
        r"The same training from the same weights as spectral normalization's, on attacked pictures under a little Gaussian noise $\nu$, "
        r"with convolutions as they are. Whether a bound on them helps, and in which norm, is the difference between the two networks "
        r"on the same pictures."
    )

    noise: float = param(
        0.05,
        "noise",
        lo=0.0,
        hi=1.0,
        unit="pixel range",
        step=0.01,
        help="Standard deviation of the noise in training.",
    )

    def training_inputs(self, model: Classifier, x: Tensor, y: Tensor, rng: torch.Generator, epoch: int = 0) -> Tensor:
        attacked = super().training_inputs(model, x, y, rng, epoch)
        with use_generator(rng):
            return InputNoise(self.noise)(attacked)


@RECIPES.register(
    "spectral",
    title="Spectral normalization, Linf",
    paper="arXiv:1811.07457; arXiv:1804.04368",
    group="adversarial training",
    summary="Adversarially trained under noise, with no convolution enlarging any image more than a bound.",
)
@dataclass(frozen=True)
class Spectral(SpectralTwin):
    """Every convolution is divided by max(1, norm / bound); Gaussian noise is added to the attacked images, in training only.

    The norm is that of the convolution as a map of images; `torch.nn.utils.spectral_norm` takes that of the kernel as a
    matrix, which is up to 3 times smaller for a 3x3 kernel. A long training is
    `--set start= --set epochs=30 --set lr=0.2 --set inner_steps=5`.
    differs: fine-tuned for 3 epochs with 2 inner steps, each as long as eps; batch norm and the last layer stay as they
    are, so no bound of the whole network's slope follows.
    """

    formula: ClassVar[str] = (
        r"\min_\theta\ \mathbb{E}_{(x,y)} \max_{\|\delta\|_\infty \le \varepsilon} \mathbb{E}_{\nu\sim\mathcal{N}(0,\sigma^2 I)}\, "
        r"L\big(f_\theta(x + \delta + \nu), y\big),\quad W_k \to W_k \Big/ \max\!\Big(1, \frac{\|W_k\|}{\beta}\Big)"
    )
    explanation: ClassVar[str] = (
        r"A layer that enlarges no difference between two images much passes on little of an attack. So each convolution $W_k$ is "
        r"divided by whatever its norm, the most by which it enlarges any image, exceeds the bound $\beta$. It is trained on attacked "
        r"pictures under a little Gaussian noise $\nu$. At test time there is no noise. Batch norm may still enlarge what the "
        r"convolutions do not, so this promises nothing about the network as a whole."
    )
    bound: float = param(1.5, "bound", lo=0.1, hi=100.0, help="Largest norm of a convolution (beta).")

    def architecture(self) -> tuple[str, dict[str, Any]]:
        name, arguments = super().architecture()
        return name, arguments | {"bound": self.bound}
