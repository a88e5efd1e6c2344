"""Training under Gaussian noise, the base of a smoothed classifier, and consistency regularisation on top of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from explorer.core import Classifier, param, sample_batch
from explorer.defenses import RECIPES
from explorer.defenses._resnet import OnResNet
from explorer.defenses.recipe import Each, accuracy, probabilities

SCORED_COPIES = 8  # noisy copies of each held-out image by which the epoch is chosen


@dataclass(frozen=True)
class Noisy(OnResNet, epochs=20, label_smoothing=0.0, width=16):
    """Cross-entropy on x + N(0, sigma^2), noise added to pixels and never clipped (Cohen et al., arXiv:1902.02918).

    With `copies` m > 1 and `consistency` lambda > 0 also consistency regularisation (Jeong and Shin, arXiv:2006.04062):
    + lambda * mean_i KL(F || F_i) + eta * H(F), F_i the probabilities of the i-th noisy copy, F their mean.
    """

    formula: ClassVar[str] = (
        r"\min_\theta\ \mathbb{E}_{(x,y)}\, \mathbb{E}_{\nu\sim\mathcal{N}(0,\sigma^2 I)}\, L\big(f_\theta(x + \nu), y\big)"
    )
    explanation: ClassVar[str] = (
        r"Every picture is shown under fresh Gaussian noise $\nu$ of standard deviation $\sigma$, so the network learns to see "
        r"through it. On its own that is a weak defence; but the majority vote of such a network over many noisy copies can be "
        r"*certified*: within a radius that is computed for each picture, no L2 change turns the vote."
    )

    sigma: float = param(
        0.25, "sigma", lo=0.01, hi=2.0, unit="pixel range", step=0.01, help="Noise's standard deviation."
    )
    copies: int = param(1, "noisy copies", lo=1, hi=16, help="Noisy copies of each image in a batch (m).")
    consistency: float = param(
        0.0, "consistency", lo=0.0, hi=100.0, help="Weight of the copies' agreement (lambda); 0: plain noise training."
    )
    entropy: float = param(
        0.5, "entropy weight", lo=0.0, hi=10.0, help="Weight of the mean prediction's entropy (eta)."
    )

    def noisy(self, x: Tensor, rng: torch.Generator) -> Tensor:
        noise = sample_batch(lambda shape: torch.randn(shape, generator=rng, device=rng.device), x.shape)
        return x + self.sigma * noise.to(x.device)

    def training_inputs(self, model: Classifier, x: Tensor, y: Tensor, rng: torch.Generator, epoch: int = 0) -> Tensor:
        return self.noisy(x, rng)

    def loss(self, model: Classifier, x: Tensor, y: Tensor, rng: torch.Generator, epoch: int = 0) -> Tensor:
        copies = x.repeat(self.copies, 1, 1, 1)  # (m*N, C, H, W), copy by copy
        logits = model(self.training_inputs(model, copies, y, rng, epoch)).float()  # (m*N, K)
        plain = self.cross_entropy(logits, y.repeat(self.copies))
        if self.consistency == 0:
            return plain
        return plain + disagreement(logits.unflatten(0, (self.copies, -1)), self.consistency, self.entropy).mean()

    def score(
        self, model: Classifier, x: Tensor, y: Tensor, rng: torch.Generator, each: Each | None = None
    ) -> dict[str, float]:
        """The epoch is chosen by the mean soft radius: accuracy under noise alone would pass over what makes votes clear."""
        hits, votes = [], torch.zeros((), device=x.device)
        for _ in range(SCORED_COPIES):
            p = probabilities(model, self.noisy(x, rng), rng)
            hits.append((p.argmax(1) == y).float().mean().item())
            votes = votes + p / SCORED_COPIES
        radius = soft_radius(votes, y, self.sigma).mean().item()
        return {"clean": accuracy(model, x, y, rng, each=each), "noisy": sum(hits) / len(hits), "score": radius}


def soft_radius(votes: Tensor, y: Tensor, sigma: float) -> Tensor:
    """sigma / 2 * (Phi^-1(p_y) - Phi^-1(max of the others)), 0 where that is negative: per image (N,), in pixel units.

    `votes`: (N,K) mean probabilities over noisy copies (the soft radius of Zhai et al., arXiv:2001.02378). Nothing is certified by it.
    """
    others = votes.scatter(1, y[:, None], 0.0).amax(1)
    own = votes.gather(1, y[:, None]).squeeze(1)
    first, second = (torch.special.ndtri(p.double().clamp(1e-6, 1 - 1e-6)) for p in (own, others))
    return (sigma / 2 * (first - second)).clamp(min=0)


def disagreement(logits: Tensor, consistency: float, entropy: float) -> Tensor:
    """lambda * mean_i KL(F || F_i) + eta * H(F) per image (N,), of the logits (m,N,K) of m noisy copies.

    arXiv:2006.04062; F is the mean of the copies' probabilities F_i.
    """
    each = logits.log_softmax(-1)  # (m, N, K)
    mean = each.exp().mean(0)  # (N, K)
    log_mean = each.logsumexp(0) - math.log(len(logits))
    apart = (mean * (log_mean - each)).sum(-1).mean(0)  # (N,)
    return consistency * apart - entropy * (mean * log_mean).sum(-1)


@RECIPES.register(
    "gaussian-0.25",
    title="Gaussian noise, sigma 0.25",
    paper="arXiv:1902.02918",
    group="smoothing",
    summary="Trained under Gaussian noise, so that its majority vote over noisy copies can be certified in L2.",
)
@dataclass(frozen=True)
class Gaussian025(Noisy):
    pass


@RECIPES.register(
    "gaussian-0.5",
    title="Gaussian noise, sigma 0.5",
    paper="arXiv:1902.02918",
    group="smoothing",
    summary="Noise training under more noise: more of the noisy images are right than after consistency regularisation.",
)
@dataclass(frozen=True)
class Gaussian050(Noisy, epochs=10, lr=0.1, warmup=0.15, sigma=0.5, width=32, start="cifar10/gaussian-0.25-wide"):
    pass


@RECIPES.register(
    "gaussian-1.0",
    title="Gaussian noise, sigma 1.0",
    paper="arXiv:1902.02918",
    group="smoothing",
    summary="Noise training under very much noise: a person hardly sees what is on the noisy images.",
)
@dataclass(frozen=True)
class Gaussian100(Gaussian050, epochs=7, sigma=1.0, start="cifar10/gaussian-0.5"):
    pass


@dataclass(frozen=True)
class Consistent(Noisy, lr=0.15, warmup=0.15, copies=2):
    """Two noisy copies; from the weights of a network trained under less noise."""

    formula: ClassVar[str] = (
        r"\min_\theta\ \mathbb{E}\Big[ \tfrac{1}{m}\sum_i L(F_i, y) + \lambda\, \tfrac{1}{m}\sum_i \mathrm{KL}(F\,\|\,F_i) "
        r"+ \eta\, H(F) \Big],\quad F_i = f_\theta(x + \nu_i)"
    )
    explanation: ClassVar[str] = (
        r"As with plain noise, but of every picture there are $m$ noisy copies, and their answers $F_i$ must agree with their mean "
        r"$F$ (weight $\lambda$) and be decided (entropy $H$, weight $\eta$). Copies that agree make a clearer majority vote, and "
        r"that certifies a larger radius."
    )


@RECIPES.register(
    "smoothed-0.25",
    title="Smoothed, sigma 0.25",
    paper="arXiv:1902.02918; arXiv:2006.04062",
    group="smoothing",
    summary="Noise training with consistency regularisation: noisy copies must agree, which raises certified radii.",
)
@dataclass(frozen=True)
class Smoothed025(Consistent, epochs=28, consistency=10.0, start="cifar10/gaussian-0.25"):
    pass


@RECIPES.register(
    "smoothed-0.5",
    title="Smoothed, sigma 0.5",
    paper="arXiv:1902.02918; arXiv:2006.04062",
    group="smoothing",
    summary="Under more noise: larger radii can be certified, for fewer images.",
)
@dataclass(frozen=True)
class Smoothed050(Consistent, epochs=24, sigma=0.5, consistency=6.0, start="cifar10/gaussian-0.25"):
    pass


@RECIPES.register(
    "smoothed-1.0",
    title="Smoothed, sigma 1.0",
    paper="arXiv:1902.02918; arXiv:2006.04062",
    group="smoothing",
    summary="Under very much noise: the largest radii, for the fewest images.",
)
@dataclass(frozen=True)
class Smoothed100(Consistent, epochs=24, sigma=1.0, consistency=6.0, start="cifar10/smoothed-0.5"):
    pass
