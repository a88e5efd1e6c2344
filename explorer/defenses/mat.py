"""Mixed adversarial training against two norms at once (Araujo et al., arXiv:1903.10219): MAT-Rand and MAT-Max."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from explorer.core import Classifier, param, sample_batch, use_generator
from explorer.defenses import RECIPES
from explorer.defenses._finetuned import FineTuned
from explorer.defenses._norms import InBothNorms, SeveralNorms


@dataclass(frozen=True)
class MixedMax(InBothNorms):
    """Every image is attacked in both norms, and the larger of its two losses counts."""

    formula: ClassVar[str] = (
        r"\min_\theta\ \mathbb{E}_{(x,y)} \Big[ \max_{p \in \{2,\infty\}}\ \max_{\|\delta\|_p \le \varepsilon_p} "
        r"L\big(f_\theta(x + \delta), y\big) \Big]"
    )
    explanation: ClassVar[str] = (
        r"A network trained against many tiny changes (L∞, at most $\varepsilon_\infty$ per pixel) need not stand few larger ones "
        r"(L2, length $\varepsilon_2$). So every picture is attacked twice, once in each norm, and the network learns from the attack "
        r"that did it more harm: its loss is the larger of the two, picture by picture. Each update costs twice as much."
    )

    def combine(self, losses: Tensor) -> Tensor:
        return losses.amax(0)


@dataclass(frozen=True)
class MixedRand(SeveralNorms):
    """Every image, or every batch, draws the norm in which it is attacked."""

    formula: ClassVar[str] = (
        r"\min_\theta\ \mathbb{E}_{(x,y)} \Big[ \mathbb{E}_{p \sim \mathcal{U}(\{2,\infty\})}\ \max_{\|\delta\|_p \le \varepsilon_p} "
        r"L\big(f_\theta(x + \delta), y\big) \Big]"
    )
    explanation: ClassVar[str] = (
        r"For each picture a coin decides in which norm it is attacked: in L∞ (at most $\varepsilon_\infty$ per pixel) or in L2 (a "
        r"change of length $\varepsilon_2$). The network meets both kinds of attack at the price of one. It learns from the "
        r"average of both; MAT-Max, twice as dear, learns from the worse."
    )

    norm_drawn: str = param(
        "per image", "norm drawn", choices=("per image", "per batch"), help="Whether a whole batch shares its norm."
    )

    def passes(self, epoch: int) -> int:
        return 1 + self.inner_steps

    def in_l2(self, x: Tensor, rng: torch.Generator) -> Tensor:
        """(N,) bool: which of the images x (N,C,H,W) the coin sends to L2."""
        if self.norm_drawn == "per batch":
            return (torch.rand(1, generator=rng, device=rng.device) < 0.5).to(x.device).expand(len(x))
        return sample_batch(lambda n: torch.rand(n, generator=rng, device=rng.device), (len(x),)).to(x.device) < 0.5

    def training_inputs(self, model: Classifier, x: Tensor, y: Tensor, rng: torch.Generator, epoch: int = 0) -> Tensor:
        return self.attacked(model, x, y, self.in_l2(x, rng), rng)

    def loss(self, model: Classifier, x: Tensor, y: Tensor, rng: torch.Generator, epoch: int = 0) -> Tensor:
        attacked = self.training_inputs(model, x, y, rng, epoch)
        with use_generator(rng):
            return self.cross_entropy(model(attacked), y)


@RECIPES.register(
    "mat-max",
    title="MAT-Max, Linf and L2",
    paper="arXiv:1903.10219",
    group="several norms",
    summary="Attacked in Linf and in L2 before every update; learns from the worse of the two, picture by picture.",
)
@dataclass(frozen=True)
class MatMax(FineTuned, MixedMax, epochs=2):
    """From a Linf-trained network; Linf 8/255 and L2 0.5.

    A long training from scratch is `--set start= --set epochs=30 --set lr=0.2 --set inner_steps=5`.
    differs: fine-tuned for 2 epochs with 2 inner steps, each as long as eps.
    """


@RECIPES.register(
    "mat-rand",
    title="MAT-Rand, Linf and L2",
    paper="arXiv:1903.10219",
    group="several norms",
    summary="Every picture draws the norm it is attacked in, Linf or L2: both at the price of one.",
)
@dataclass(frozen=True)
class MatRand(FineTuned, MixedRand):
    """From a Linf-trained network; Linf 8/255 and L2 0.5.

    A long training from scratch is `--set start= --set epochs=30 --set lr=0.2 --set inner_steps=5`.
    differs: fine-tuned for 3 epochs with 2 inner steps, each as long as eps; the norm is drawn for every image instead
    of for every batch (`norm_drawn`), which has the same mean and less noise.
    """
