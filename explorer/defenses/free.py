"""Adversarial training for free (Shafahi et al., arXiv:1904.12843): one backward pass moves weights and perturbation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from explorer.core import Classifier, param, use_generator
from explorer.defenses import RECIPES
from explorer.defenses._finetuned import FineTuned
from explorer.defenses.adversarial import RobustRecipe
from explorer.defenses.inner_attacks import input_gradient, projected_ascent


@RECIPES.register(
    "free",
    title="Free adversarial training, Linf",
    paper="arXiv:1904.12843",
    group="adversarial training",
    summary="Every batch comes several times in a row; each backward pass improves the weights and the attack at once.",
)
@dataclass(frozen=True)
class Free(FineTuned, RobustRecipe, lr=0.05, start="cifar10/baseline"):
    """Each batch is replayed `replays` times; the perturbation lives on from update to update and from batch to batch.

    From the baseline's weights. The setting of arXiv:2001.03994 for CIFAR-10, from scratch:
    `--set start= --set replays=8 --set epochs=10 --set width=64 --set lr=0.04 --set label_smoothing=0 --set ema=0`.
    """

    formula: ClassVar[str] = (
        r"g_\theta, g_\delta = \nabla_{\theta,\delta}\, L\big(f_\theta(x + \delta), y\big):\quad "
        r"\theta \leftarrow \theta - \eta\, g_\theta,\quad "
        r"\delta \leftarrow \mathrm{clip}_{[-\varepsilon, \varepsilon]}\big(\delta + \varepsilon\,\mathrm{sign}\, g_\delta\big)"
    )
    explanation: ClassVar[str] = (
        r"A backward pass through the network yields the slope by its weights $\theta$, and, for nothing, the slope by the picture. "
        r"So each pass is used twice: it moves the weights downhill and the perturbation $\delta$ uphill. To give $\delta$ the time "
        r"to become strong, each batch comes $m$ times in a row; the next batch begins with the $\delta$ of the one before. One epoch "
        r"costs as much as $m$ of ordinary training."
    )
    smoke = {"epochs": 1, "width": 8, "replays": 2, "selection_steps": 2, "start": ""}

    replays: int = param(  # type: ignore[misc]  # of each recipe, here of each run
        4, "replays", lo=1, hi=50, help="Times in a row that each batch comes (m): 4 keep the run short."
    )

    @property
    def single_step(self) -> bool:
        return True

    def buffers(self, shape: tuple[int, ...]) -> dict[str, Tensor]:
        return {"delta": torch.zeros(shape)}

    def loss(
        self,
        model: Classifier,
        x: Tensor,
        y: Tensor,
        rng: torch.Generator,
        epoch: int = 0,
        buffers: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Its backward pass also moves buffers["delta"] (N,C,H,W), in place; without one the perturbation is 0."""
        delta = torch.zeros_like(x) if buffers is None else buffers["delta"]
        leaf = delta.clone().requires_grad_(True)

        def climb(gradient: Tensor) -> None:
            delta.add_(self.eps * gradient.sign()).clamp_(-self.eps, self.eps)

        leaf.register_hook(climb)
        with use_generator(rng):
            return self.cross_entropy(model((x + leaf).clamp(0, 1)), y)

    def training_inputs(self, model: Classifier, x: Tensor, y: Tensor, rng: torch.Generator, epoch: int = 0) -> Tensor:
        """What m replays make of x with fixed weights, in eval mode: training's own images change with the weights."""
        region = self.ball.around(x)
        return projected_ascent(x, region, self.ball, self.replays, 1.0, lambda at: input_gradient(model, at, y, rng))
