"""Random noise as large as the attacks may be (a check that Carlini et al., arXiv:1902.06705, ask of every evaluation)."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from explorer.attacks import ATTACKS
from explorer.attacks.gradient import gaussian
from explorer.attacks.random_search import SearchAttack
from explorer.core import Region, param
from explorer.core.regions import LinfRegion


@dataclass(frozen=True)
class _Noise(SearchAttack):
    presets = {"weak": {"tries": 1}, "standard": {}, "strong": {"tries": 1000}}

    tries: int = param(20, "tries", lo=1, hi=10_000, help="How many random points are looked at; the best is kept.")
    draws: int = param(
        1, "draws per try", lo=1, hi=512, help="Outputs averaged over this many passes of a stochastic model (EOT)."
    )

    @property
    def count(self) -> int:
        return self.tries

    def propose(self, region: Region, x: Tensor, tried: int, rng: torch.Generator) -> Tensor:
        return self.start(region, rng)


@ATTACKS.register(
    "uniform-noise",
    title="Uniform noise",
    paper="arXiv:1902.06705 (as a check)",
    group="baseline",
    summary="Random points of the ball: how much of an attack's success mere noise of the same size would have.",
)
@dataclass(frozen=True)
class UniformNoise(_Noise):
    """The best of `tries` points drawn uniformly from the ball (L2: radius eps * u^(1/d)), then clipped to [0, 1].

    Best by the margin of the goal; each step is the best point so far. cost: one forward pass a try and draw, until the
    goal is reached.
    """

    formula: ClassVar[str] = (
        r"x' = \mathrm{clip}_{[0,1]}(x + \delta), \quad "
        r"\delta \sim \mathcal U\{\lVert\delta\rVert \le \varepsilon\}"
    )
    explanation: ClassVar[str] = (
        r"Add noise drawn evenly from all changes that are no larger than $\varepsilon$, look whether the model is fooled, "
        r"and draw again. What noise fools is not robust at all; what only an attack fools shows that the attack finds "
        r"directions that chance does not."
    )

    def start(self, region: Region, rng: torch.Generator) -> Tensor:
        return region.sample(rng)


@ATTACKS.register(
    "gaussian-noise",
    title="Gaussian noise",
    paper="arXiv:1902.06705 (as a check)",
    group="baseline",
    summary="Bell-shaped noise of the same size: the kind that cameras make and smoothed models were trained on.",
)
@dataclass(frozen=True)
class GaussianNoise(_Noise):
    """The best of `tries` points x0 + sigma * N(0, I), projected into the ball and clipped to [0, 1].

    sigma is such that, before the projection, the mean square of the noise is that of uniform noise in the same ball:
    eps / sqrt(3) in Linf, eps / sqrt(d + 2) in L2 with d values an image. Best by the margin of the goal; each step is
    the best point so far. cost: one forward pass a try and draw, until the goal is reached.
    """

    formula: ClassVar[str] = (
        r"x' = \Pi\,(x + \sigma\,\mathcal N(0, I)), \quad "
        r"\sigma = \varepsilon/\sqrt 3 \ (L_\infty), \ \ \varepsilon/\sqrt{d+2} \ (L_2)"
    )
    explanation: ClassVar[str] = (
        r"Add bell-shaped noise that is on average as strong as uniform noise in the ball, pull what is too large back "
        r"into the ball ($\Pi$), look whether the model is fooled, and draw again. It says how the model stands chance, "
        r"not how it stands an adversary."
    )

    def start(self, region: Region, rng: torch.Generator) -> Tensor:
        size = region.x0.shape[1:].numel()
        sigma = region.size / math.sqrt(3 if isinstance(region, LinfRegion) else size + 2)
        return region.project(region.x0 + sigma * gaussian(region.x0, rng))
