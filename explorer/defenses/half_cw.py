"""Half of each batch attacked by PGD, half by Carlini and Wagner's objective (arXiv:1706.06083; arXiv:1608.04644)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from explorer.core import USUAL_EPS, Ball, Classifier, Goal, param, sample_batch
from explorer.defenses import RECIPES
from explorer.defenses._finetuned import FineTuned
from explorer.defenses.adversarial import RobustRecipe
from explorer.defenses.inner_attacks import input_gradient, input_vjp, projected_ascent


@dataclass(frozen=True)
class Halved(RobustRecipe):
    """Every other image of a batch is a PGD one, the rest are C&W ones; cross-entropy on all.

    A C&W image goes down ||d||^2 + c * max(0, kappa - margin), margin the best other logit minus the label's.
    differs: few steps of given lengths inside an L2 ball, with one c, in place of Adam on a tanh and a search for c, which
    take a thousand passes an image.
    """

    formula: ClassVar[str] = (
        r"\min_\theta\ \tfrac12\,\mathbb{E}\,\max_{\|\delta\|_\infty \le \varepsilon} L\big(f_\theta(x + \delta), y\big) "
        r"+ \tfrac12\,\mathbb{E}\,L\big(f_\theta(x + d), y\big),\quad "
        r"d \approx \arg\min_d\ \|d\|_2^2 + c\,\max\big(0,\ \kappa + z_y - \max_{j \ne y} z_j\big)"
    )
    explanation: ClassVar[str] = (
        r"One half of each batch is attacked by PGD, which makes the loss as large as a small change of every pixel can. The "
        r"other half meets the objective of Carlini and Wagner: a change $d$ as short as possible that lets some wrong class lead "
        r"by $\kappa$. Those pictures lie just beyond the boundary of the decision, not as deep inside the wrong class as possible."
    )

    inner_steps: int = param(2, "PGD steps", lo=1, hi=50, help="Steps of PGD: 2 keep the run short; 7 to 10 are usual.")
    cw_steps: int = param(3, "C&W steps", lo=1, hi=100, help="Steps of C&W: 3 keep the run short; 20 come closer.")
    eps_l2: float = param(
        USUAL_EPS["l2"], "L2 eps", lo=1e-3, hi=10.0, help="The C&W change is no longer than this, as a length."
    )
    c: float = param(1.0, "c", lo=1e-3, hi=1000.0, help="Weight of the margin against the squared length.")
    kappa: float = param(0.0, "confidence", lo=0.0, hi=100.0, help="By how much the wrong class must lead, in logits.")

    def passes(self, epoch: int) -> int:
        return 1 + (self.inner_steps + self.cw_steps + 1) // 2

    def training_inputs(self, model: Classifier, x: Tensor, y: Tensor, rng: torch.Generator, epoch: int = 0) -> Tensor:
        region = self.ball.around(x)
        start = region.sample(rng)  # for all images: what one draws depends on no other
        cw = odd(x)
        pgd = projected_ascent(
            start[~cw], region.rows(~cw), self.ball, self.inner_steps, 2.0 / self.inner_steps,
            lambda at: input_gradient(model, at, y[~cw], rng),
        )  # fmt: skip
        inputs = x.clone()
        inputs[~cw] = pgd
        if bool(cw.any()):
            inputs[cw] = self.cw_images(model, x[cw], y[cw], rng)
        return inputs

    def cw_images(self, model: Classifier, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
        """(N,C,H,W) after `cw_steps` steps down the objective from x: the first as long as `eps_l2`, each next half as long.

        So an image that the first step carries far beyond the boundary comes back toward it.
        """
        ball, goal = Ball("l2", self.eps_l2), Goal.untargeted(y)
        region, at = ball.around(x), x
        for step in range(self.cw_steps):
            down = ball.steepest(-self.slope(model, at, x, goal, rng))
            at = region.project(at + self.eps_l2 / 2**step * down)
        return at

    def slope(self, model: Classifier, at: Tensor, x: Tensor, goal: Goal, rng: torch.Generator) -> Tensor:
        """(N,C,H,W): the gradient of the objective at `at`."""

        def logit_grad(logits: Tensor) -> Tensor:
            short = goal.margin(logits) < self.kappa
            return self.c * goal.logit_grad(logits, "margin") * short[:, None]

        return 2 * (at - x) - input_vjp(model, at, logit_grad, rng)


def odd(x: Tensor) -> Tensor:
    """(N,) bool: every second image of the whole batch, however many processes share it."""
    return (sample_batch(lambda shape: torch.arange(shape[0]), x.shape[:1]) % 2 == 1).to(x.device)


@RECIPES.register(
    "half-cw",
    title="Half PGD, half C&W",
    paper="arXiv:1706.06083; arXiv:1608.04644",
    group="adversarial training",
    summary="One half of each batch is attacked by PGD in Linf, the other by C&W in L2: a little against either.",
)
@dataclass(frozen=True)
class HalfCW(FineTuned, Halved):
    """From a Linf-trained network."""

    smoke = {"epochs": 1, "width": 8, "inner_steps": 1, "cw_steps": 1, "selection_steps": 2, "start": ""}
