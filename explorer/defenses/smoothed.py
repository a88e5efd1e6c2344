"""Training under Gaussian noise, the base of a smoothed classifier (Cohen et al., arXiv:1902.02918)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from explorer.core import Classifier, param
from explorer.defenses import RECIPES
from explorer.defenses._recipe import Recipe, accuracy


@RECIPES.register(
    "smoothed-0.25",
    title="Gaussian noise, sigma 0.25",
    paper="arXiv:1902.02918",
    summary="Trained under Gaussian noise, so that its majority vote over noisy copies can be certified in L2.",
)
@dataclass(frozen=True)
class Smoothed025(Recipe):
    """Cross-entropy on x + N(0, sigma^2), noise added to pixels and never clipped."""

    smoke = {"epochs": 1, "width": 8}

    epochs: int = param(20, "epochs", lo=1, hi=1000, help="Passes over the training images.")
    sigma: float = param(
        0.25, "sigma", lo=0.01, hi=2.0, unit="pixel range", step=0.01, help="Noise's standard deviation."
    )
    label_smoothing: float = param(0.0, "label smoothing", lo=0.0, hi=0.5, help="Share of the label spread evenly.")
    width: int = param(16, "width", lo=4, hi=128, unit="channels", help="Channels of the first stage.")

    def architecture(self) -> tuple[str, dict[str, Any]]:
        return "preact-resnet18", {"width": self.width}

    def noisy(self, x: Tensor, rng: torch.Generator) -> Tensor:
        return x + self.sigma * torch.randn(x.shape, generator=rng, device=rng.device).to(x.device)

    def loss(self, model: Classifier, x: Tensor, y: Tensor, rng: torch.Generator, epoch: int = 0) -> Tensor:
        return self.cross_entropy(model(self.noisy(x, rng)), y)

    def score(self, model: Classifier, x: Tensor, y: Tensor, rng: torch.Generator) -> dict[str, float]:
        noisy = accuracy(model, self.noisy(x, rng), y, rng)
        return {"clean": accuracy(model, x, y, rng), "noisy": noisy, "score": noisy}
