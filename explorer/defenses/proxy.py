"""Adversarial training with a proxy distribution: synthetic images beside the real ones (Sehwag et al., arXiv:2104.09425)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from explorer.core import Classifier, param, sample_batch, use_generator
from explorer.data.samples import Samples, read_samples, samples_file
from explorer.defenses import RECIPES
from explorer.defenses._plain_conv import convolutions
from explorer.defenses._resnet import OnResNet
from explorer.defenses.adversarial import AdversarialRecipe


@dataclass(frozen=True)
class WithProxy(AdversarialRecipe):
    """gamma L(real) + (1 - gamma) L(proxy), each on N-FGSM's images; as many of the one as of the other in every update (PORT)."""

    formula: ClassVar[str] = (
        r"\min_\theta\ \gamma\, \mathbb{E}_{(x,y) \sim D}\, \ell(x, y) + (1 - \gamma)\, \mathbb{E}_{(x,y) \sim \tilde D}\, \ell(x, y),"
        r"\quad \ell(x, y) = L\big(f_\theta(x + u + \varepsilon\,\mathrm{sign}\,\nabla_x L(f_\theta(x + u), y)), y\big)"
    )
    explanation: ClassVar[str] = (
        r"Robustness needs more pictures than accuracy does. Where there are no more real ones, a generator $\tilde D$ that was "
        r"fitted to them draws some, labels included, and every update sees as many of them as of the real ones. How much "
        r"robustness that buys is bounded by how near the proxy is to the real distribution $D$: not how good its pictures look, "
        r"but how soon an adversarially trained discriminator no longer tells them apart (ARC)."
    )

    samples: str = param("", "proxy images", help="Drawn by `explorer proxy sample`; empty: none, real images alone.")
    gamma: float = param(
        0.5, "weight of the real", lo=0.0, hi=1.0, help="Of the real images' loss; the rest is the proxy's."
    )
    images: int = param(0, "real images", lo=0, hi=10_000_000, help="How many to train on; 0: all.")

    @property
    def limit(self) -> int | None:
        return self.images or None

    def proxies(self) -> Samples:
        """Raises UnknownName, InvalidValue (another dataset's), BadCheckpoint."""
        file = samples_file(self.samples)
        return _samples(self.samples, self.dataset, file, file.stat().st_mtime_ns if file.is_file() else 0)

    def loss(self, model: Classifier, x: Tensor, y: Tensor, rng: torch.Generator, epoch: int = 0) -> Tensor:
        if not self.samples:
            return super().loss(model, x, y, rng, epoch)
        proxies, n = self.proxies(), len(x)
        rows = sample_batch(
            lambda shape: torch.randint(len(proxies), tuple(shape), generator=rng, device=rng.device), (n,)
        ).cpu()
        drawn = proxies.pixels[rows].to(x.device).float() / 255
        both, labels = torch.cat((x, drawn)), torch.cat((y, proxies.labels[rows].to(y.device)))
        inputs = self.training_inputs(model, both, labels, rng, epoch)
        with use_generator(rng):
            losses = self.cross_entropy(model(inputs), labels, "none")
        return self.gamma * losses[:n].mean() + (1 - self.gamma) * losses[n:].mean()

    def made_of(self) -> dict[str, Any]:
        if not self.samples:
            return {}
        proxies = self.proxies()
        return {"proxy": {**proxies.about, "name": self.samples, "sha256": proxies.sha256}}


@lru_cache(maxsize=2)
def _samples(name: str, of: str, file: Path, stamp: int) -> Samples:
    """Once for as long as the file stays the same."""
    return read_samples(name, of)


@RECIPES.register(
    "proxy",
    title="With a proxy distribution, Linf",
    paper="arXiv:2104.09425",
    group="adversarial training",
    summary="N-FGSM on real and synthetic images, one of these for each real one: `explorer proxy` makes them.",
)
@dataclass(frozen=True)
class Proxy(OnResNet, WithProxy, epochs=12, width=16):
    """A PreAct ResNet-18; synthetic images are neither flipped nor shifted, as in the authors' code.

    differs: N-FGSM instead of PGD-10 or TRADES; gamma is used (the released code reads it and does not); the epoch is chosen
    on held-out training images instead of the test set; 12 epochs.
    """

    smoke = {"epochs": 1, "width": 8, "selection_steps": 2}


@RECIPES.register(
    "proxy-fashion",
    title="With a proxy distribution, Fashion-MNIST",
    paper="arXiv:2104.09425",
    group="Fashion-MNIST",
    summary="Fashion-MNIST: N-FGSM on real and synthetic images, a small convolutional network, as few real images as one likes.",
)
@dataclass(frozen=True)
class ProxyFashion(WithProxy, epochs=10, lr=0.05, label_smoothing=0.0, eps=0.1):
    """Two convolutions and a hidden layer, or an MLP, on plain pictures. differs: as `proxy`."""

    dataset: ClassVar[str] = "fashion_mnist"
    augment: ClassVar[bool] = False
    smoke: ClassVar[Mapping[str, Any]] = {"epochs": 1, "eps": 0.01, "selection_steps": 2}

    channels: str = param("16-32", "channels", help="Of each convolution, 4x4 with a stride of 2; empty: an MLP.")
    hidden: int = param(100, "hidden units", lo=1, hi=4096, help="Of the linear layer before the last.")

    def architecture(self) -> tuple[str, dict[str, Any]]:
        if not self.channels:
            return "mlp", {"hidden": [self.hidden]}
        return "plain-conv", {"convolutions": convolutions(self.channels), "hidden": [self.hidden]}
