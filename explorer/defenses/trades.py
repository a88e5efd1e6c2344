"""TRADES (Zhang et al., arXiv:1901.08573): accuracy on the picture, and agreement with itself all around it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from explorer.core import Classifier, eval_mode, param, sample_batch, use_generator
from explorer.defenses import RECIPES
from explorer.defenses._finetuned import FineTuned
from explorer.defenses.adversarial import RobustRecipe
from explorer.defenses.inner_attacks import input_vjp, projected_ascent

STARTS = ("uniform", "normal")
NORMAL = 0.001  # standard deviation of the authors' start, in the pixel range


@RECIPES.register(
    "trades",
    title="TRADES, Linf",
    paper="arXiv:1901.08573",
    group="adversarial training",
    summary="Right on the picture, and of one mind with itself around it: two wishes, weighed against each other by beta.",
)
@dataclass(frozen=True)
class Trades(FineTuned, RobustRecipe, epochs=2):
    """Cross-entropy at x plus beta * KL(f(x) || f(x')), x' the point of the ball where that KL is largest.

    The authors' setting is ten steps of 0.007, from normal noise, through all of a long training:
    `--set inner_steps=10 --set inner_start=normal --set start= --set epochs=76 --set lr=0.1 --set label_smoothing=0 --set ema=0`.
    differs: fine-tuned from an adversarially trained network, few steps of 2 eps / steps, from a uniform point of the ball
    (around x itself the KL is flat, and so few steps would not leave it).
    differs: the training pass sees x and x' as one batch, so that both share their batch statistics.
    """

    formula: ClassVar[str] = (
        r"\min_\theta\ \mathbb{E}_{(x,y)} \Big[ L\big(f_\theta(x), y\big) + \beta \max_{\|\delta\|_\infty \le \varepsilon} "
        r"\mathrm{KL}\big(f_\theta(x)\,\|\,f_\theta(x + \delta)\big) \Big]"
    )
    explanation: ClassVar[str] = (
        r"Two wishes in one sum. The first: be right on the picture $x$ itself. The second, weighted by $\beta$: give all "
        r"around it the same answer as at $x$, right or wrong. The attack inside the training therefore needs no label: it looks "
        r"for the change $\delta$ that moves the probabilities most. A larger $\beta$ buys robustness with clean accuracy."
    )

    beta: float = param(6.0, "beta", lo=0.0, hi=100.0, help="Weight of the agreement; the authors take 6.")
    inner_steps: int = param(
        2, "inner steps", lo=1, hi=50,
        help="Steps that look for the largest disagreement: 2 keep the run short, the authors take 10.",
    )  # fmt: skip
    inner_start: str = param(
        "uniform",
        "inner start",
        choices=STARTS,
        help="Where they begin: uniform in the ball, or normal noise of 0.001.",
    )

    def passes(self, epoch: int) -> int:
        return 2 + self.inner_steps

    def training_inputs(self, model: Classifier, x: Tensor, y: Tensor, rng: torch.Generator, epoch: int = 0) -> Tensor:
        with torch.no_grad(), eval_mode(model), use_generator(rng):
            clean = model(x).float().softmax(1)  # (N, K)

        def apart(logits: Tensor) -> Tensor:
            """The derivative of KL(clean || softmax(logits)), scaled to a largest entry of 1: its direction is all."""
            rise = logits.softmax(1) - clean
            return rise / rise.abs().amax(1, keepdim=True).clamp(min=torch.finfo(rise.dtype).tiny)

        region = self.ball.around(x)
        if self.inner_start == "uniform":
            start = region.sample(rng)
        else:
            noise = sample_batch(lambda shape: torch.randn(shape, generator=rng, device=rng.device), x.shape)
            start = region.project(x + NORMAL * noise.to(x.device))
        return projected_ascent(
            start, region, self.ball, self.inner_steps, 2.0 / self.inner_steps,
            lambda at: input_vjp(model, at, apart, rng),
        )  # fmt: skip

    def loss(self, model: Classifier, x: Tensor, y: Tensor, rng: torch.Generator, epoch: int = 0) -> Tensor:
        other = self.training_inputs(model, x, y, rng, epoch)
        with use_generator(rng):
            clean, moved = model(torch.cat((x, other))).float().chunk(2)  # (N, K) each
        return self.cross_entropy(clean, y) + self.beta * divergence(clean, moved)


def divergence(clean: Tensor, moved: Tensor) -> Tensor:
    """Mean over the images of KL(softmax(clean) || softmax(moved)), of logits (N,K); a scalar."""
    return F.kl_div(moved.log_softmax(1), clean.log_softmax(1), log_target=True, reduction="batchmean")
