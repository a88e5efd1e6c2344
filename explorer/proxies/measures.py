"""How far a proxy is from real images: Frechet distance, label accuracy, and ARC, the area under the robust discrimination curve."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from explorer.core import Ball, Classifier, InvalidValue, UnknownName, seeded
from explorer.core.rng import derived_seed
from explorer.data import dataset
from explorer.defenses.inner_attacks import pgd_images, quick_pgd, robust_mask
from explorer.defenses.recipe import accuracy, one_cycle
from explorer.models import ARCHITECTURES
from explorer.models.untrained import initial_weights
from explorer.proxies.generator import Real
from explorer.training.optim import Adam

GRID = (
    0.0,
    0.01,
    0.02,
    0.035,
    0.05,
    0.075,
    0.1,
    0.2,
    0.3,
)  # Linf, of ARC: fine where discriminators still see something
NETWORKS = ("mlp", "plain-conv")  # of discriminators: architectures, as they are by default
BATCH = 500
MIX, SPLIT, ATTACK = 1, 2, 3  # streams of derived seeds


def frechet(first: Tensor, second: Tensor) -> float:
    """Squared Frechet distance of the Gaussians with the mean and covariance of features (N,D), (M,D); Heusel et al., arXiv:1706.08500.

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), in float64. Raises InvalidValue for fewer than two images.
    """
    if min(len(first), len(second)) < 2:
        raise InvalidValue(
            f"a Frechet distance needs at least 2 images on each side; got {len(first)} and {len(second)}."
        )
    (m1, c1), (m2, c2) = moments(first), moments(second)
    values, axes = torch.linalg.eigh(c1)
    root = axes * values.clamp_min(0).sqrt() @ axes.T
    shared = torch.linalg.eigvalsh(root @ c2 @ root).clamp_min(0).sqrt().sum()  # tr (C1 C2)^(1/2)
    return float((m1 - m2).square().sum() + c1.trace() + c2.trace() - 2 * shared)


def moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (D,) and covariance (D,D) of features (N,D), float64."""
    features = features.double()
    return features.mean(0), torch.cov(features.T).reshape(features.shape[1], features.shape[1])


def features_of(model: Classifier, images: Real) -> Tensor:
    """(N,D) what the last layer of a deterministic model sees, on the CPU."""
    with torch.no_grad():
        return torch.cat([model.features(_floats(part).to(model.device)).cpu() for part in images.pixels.split(BATCH)])


def label_accuracy(model: Classifier, images: Real) -> float:
    """Share of images that the model finds to be of the class that they were drawn for."""
    device = model.device
    return accuracy(model, _floats(images.pixels).to(device), images.labels.to(device), seeded(0, device), BATCH)


@dataclass(frozen=True)
class Discriminators:
    """How the discriminators of ARC are made: small networks, adversarially trained at each eps of a grid."""

    grid: tuple[float, ...] = GRID
    network: str = "plain-conv"  # one of NETWORKS
    updates: int = 250
    batch: int = 128
    lr: float = 2e-3
    inner_steps: int = 4  # of PGD, before each update
    attack_steps: int = 20  # of PGD, on the images held out

    def __post_init__(self) -> None:
        if self.network not in NETWORKS:
            raise UnknownName("discriminator", self.network, NETWORKS)
        rising = all(a < b for a, b in pairwise(self.grid))
        if len(self.grid) < 2 or not rising or self.grid[0] != 0 or not math.isfinite(self.grid[-1]):
            raise InvalidValue(
                f"eps must begin at 0 and rise, two values at least; got {', '.join(map(str, self.grid))}."
            )
        if self.grid[-1] > 1:
            raise InvalidValue(f"eps must be at most 1, the pixel range; got {self.grid[-1]}.")


@dataclass(frozen=True)
class Arc:
    """One robust discrimination curve and the area under it."""

    eps: tuple[float, ...]
    accuracies: tuple[float, ...]  # under attack, on the images held out; 1/2 is chance
    n: int  # images held out

    @property
    def area(self) -> float:
        """Of accuracy minus 1/2, cut at 0, by the trapezoidal rule; at most (largest eps) / 2."""
        above = [max(one - 0.5, 0.0) for one in self.accuracies]
        return sum((b - a) * (u + v) / 2 for (a, b), (u, v) in zip(pairwise(self.eps), pairwise(above), strict=True))


def arc(
    real: Real, proxy: Real, seed: int, how: Discriminators = Discriminators(), tell: Callable[[], None] = lambda: None
) -> Arc:
    """The area under the robust discrimination curve (Sehwag et al., arXiv:2104.09425, section 3.2) of as many images of either.

    At each Linf eps a discriminator real/synthetic is trained by PGD on three quarters, and attacked on the last quarter.
    0: nothing tells them apart. `tell` is called after each eps.
    differs: plain PGD instead of AutoAttack; a small network. Raises InvalidValue for fewer than 8 images.
    """
    n = min(len(real), len(proxy))
    if n < 8:
        raise InvalidValue(f"ARC needs at least 8 images of either kind; got {len(real)} and {len(proxy)}.")
    order = torch.randperm(n, generator=seeded(derived_seed(seed, SPLIT)))
    x = torch.cat([_floats(one.pixels[order]) for one in (real, proxy)])
    y = torch.arange(2).repeat_interleave(n)
    held = torch.arange(2 * n) % n >= n - n // 4
    accuracies = []
    for place, eps in enumerate(how.grid):
        model = discriminator(real.dataset, x[~held], y[~held], eps, derived_seed(seed, MIX, place), how)
        rng = seeded(derived_seed(seed, ATTACK, place))
        if eps == 0:
            right = accuracy(model, x[held], y[held], rng)
        else:
            attack = quick_pgd(how.attack_steps)
            right = float(robust_mask(attack, model, x[held], y[held], Ball("linf", eps), rng).float().mean())
        accuracies.append(right)
        tell()
    return Arc(tuple(how.grid), tuple(accuracies), int(held.sum()))


def discriminator(name: str, x: Tensor, y: Tensor, eps: float, seed: int, how: Discriminators) -> Classifier:
    """A network of two classes, adversarially trained (Madry et al.) in Linf eps on images x (N,C,H,W), y (N,) 0 or 1."""
    spec, rng = dataset(name), seeded(seed)
    with initial_weights(seed):
        model = ARCHITECTURES[how.network](spec.mean, spec.std, spec.shape, 2)
    optimizer = Adam([(list(model.parameters()), 0.0)], 0.9)
    model.train()
    for update in range(how.updates):
        rows = torch.randint(len(y), (how.batch,), generator=rng)
        inputs, labels = x[rows], y[rows]
        if eps:
            steps = how.inner_steps
            inputs = pgd_images(model, inputs, labels, Ball("linf", eps), steps, 2.0 / steps, rng)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(inputs), labels).backward()
        optimizer.step(one_cycle(update, how.updates, how.lr, 0.1))
    return model.freeze()


Interval = tuple[float, float | None, float | None]  # mean, low, high


def over_seeds(values: Sequence[float]) -> Interval:
    """Mean, and the ends of Student's 95 % interval; a single value has no ends."""
    from scipy.special import stdtrit

    n, mean = len(values), math.fsum(values) / len(values)
    if n == 1:
        return mean, None, None
    spread = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1) / n)
    half = float(stdtrit(n - 1, 0.975)) * spread
    return mean, mean - half, mean + half


def _floats(pixels: Tensor) -> Tensor:
    return pixels.float() / 255
