"""Probabilistic PCA of each class (Tipping and Bishop, J. R. Stat. Soc. B 61, 1999): a Gaussian of few directions, the bad proxy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from explorer.core import InvalidValue, param
from explorer.proxies import GENERATORS
from explorer.proxies.generator import Generator, Progress, Real


@GENERATORS.register(
    "ppca",
    title="Class-conditional probabilistic PCA",
    paper="Tipping and Bishop 1999",
    summary="A Gaussian for each class, of so many directions and noise: fitted in seconds, and far from real images.",
)
@dataclass(frozen=True)
class PPCA(Generator):
    """x = mu + W z + sigma e with z, e standard normal (eq. 2), at the maximum of the likelihood (eqs. 7 and 8).

    differs: the images are cut to [0,1].
    """

    components: int = param(150, "components", lo=1, hi=3071, help="Directions of each class's Gaussian.")

    def fit(self, real: Real, device: torch.device, work: Path, progress: Progress) -> dict[str, Tensor]:
        """`mean` (K,D), `axes` (K,D,q) and `noise` (K,), the standard deviation in every other direction."""
        x = real.pixels.flatten(1).to(device, torch.float32) / 255  # (N,D)
        fitted = []
        for k in range(real.classes):
            of_class = x[(real.labels == k).to(device)]
            if len(of_class) < 2 or self.components > min(len(of_class) - 1, x.shape[1] - 1):
                raise InvalidValue(
                    f"components must be fewer than a class's images and pixels, here {len(of_class):,} and "
                    f"{x.shape[1]:,}; got {self.components}."
                )
            fitted.append(principal(of_class, self.components))
            progress(k + 1, real.classes)
        mean, axes, noise = (torch.stack(part).cpu() for part in zip(*fitted, strict=True))
        return {"mean": mean, "axes": axes, "noise": noise}

    def draw(
        self, learned: Mapping[str, Tensor], labels: Tensor, shape: tuple[int, ...], rng: torch.Generator
    ) -> Tensor:
        mean, axes, noise = (learned[name].to(rng.device) for name in ("mean", "axes", "noise"))
        x = torch.empty(len(labels), mean.shape[1], device=rng.device)
        for k in labels.unique():
            rows = (labels == k).nonzero().flatten().to(rng.device)
            z = torch.randn(len(rows), axes.shape[2], generator=rng, device=rng.device)
            e = torch.randn(len(rows), mean.shape[1], generator=rng, device=rng.device)
            x[rows] = mean[k] + z @ axes[k].T + noise[k] * e
        return x.clamp(0, 1).view(-1, *shape)


def principal(x: Tensor, components: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (D,), W (D,q) = U (L - sigma^2)^(1/2) and sigma, of images x (N,D): the maximum-likelihood fit.

    The eigenvectors are those of the smaller of covariance (D,D) and Gram matrix (N,N), in float64.
    """
    mean, centred = x.double().mean(0), x.double() - x.double().mean(0)
    n, d = centred.shape
    if d <= n:
        values, axes = torch.linalg.eigh(centred.T @ centred / n)
        values, axes = values[-components:], axes[:, -components:]
    else:
        values, rows = torch.linalg.eigh(centred @ centred.T / n)
        values, rows = values[-components:], rows[:, -components:]
        axes = centred.T @ rows / (values * n).clamp_min(1e-12).sqrt()
    left = centred.square().sum() / n - values.sum()  # the variance that no direction holds
    variance = left.clamp_min(0) / (d - components)
    return mean.float(), (axes * (values - variance).clamp_min(0).sqrt()).float(), variance.sqrt().float()
