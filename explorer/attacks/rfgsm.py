"""FGSM with a random start (R+FGSM; Tramer et al., arXiv:1705.07204)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from explorer.attacks import ATTACKS
from explorer.attacks._ascent import check_norm
from explorer.attacks._climb import climb
from explorer.core import LOSSES, Ball, Goal, Hyper, Region, Step, param


@ATTACKS.register(
    "rfgsm",
    title="FGSM with random start",
    paper="arXiv:1705.07204, R+FGSM",
    group="single step",
    summary="A random step, then one along the gradient: for models whose slope right at the image misleads.",
)
@dataclass(frozen=True)
class RFGSM(Hyper):
    """x' = x0 + alpha * sign(N(0, I)), then x' + (eps - alpha) * sign(gradient of the loss at x'); alpha = rel_start * eps.

    This is the paper's own variant: a random corner of a smaller box, and the rest of the budget for the gradient step
    (not a uniform start followed by a step longer than what is left, as in "fast" adversarial training).
    Yields 2 steps a restart: the random start and the end.
    differs: x' is clipped to [0, 1] before the model sees it; an L2 form (unit-length directions instead of signs);
    restarts; a dead gradient gives way to a random direction.
    """

    budget: ClassVar[str] = "fixed"
    norms: ClassVar[tuple[str, ...]] = ("linf", "l2")
    formula: ClassVar[str] = (
        r"x' = x + \alpha\,\mathrm{sign}\big(\mathcal N(0, I)\big),\quad "
        r"x_{adv} = x' + (\varepsilon - \alpha)\,\mathrm{sign}\big(\nabla_{x'} L(x', y)\big)"
    )
    explanation: ClassVar[str] = (
        r"Spend a part $\alpha$ of the budget on a blind step in a random direction, ask the model there which way its "
        r"loss grows, and spend the rest on one step that way. Models trained against FGSM often have a slope right at "
        r"the picture that points nowhere useful; a little aside it tells more."
    )
    presets = {"weak": {"rel_start": 0.8}, "standard": {}, "strong": {"rel_start": 0.25, "restarts": 10}}

    rel_start: float = param(
        0.5, "random step", lo=0.0, hi=0.95, unit="x eps", step=0.05, help="Share of eps that the random step takes."
    )
    restarts: int = param(1, "restarts", lo=1, hi=100, help="Independent tries from new random steps; the best is kept.")
    draws: int = param(
        1, "draws per step", lo=1, hi=512, help="Gradients averaged over this many passes of a stochastic model (EOT)."
    )
    loss: str = param(
        "ce", "loss", choices=LOSSES, help="What is pushed up: cross-entropy, or the margin between the best two logits."
    )

    def walk(self, model: nn.Module, x0: Tensor, goal: Goal, ball: Ball, rng: torch.Generator) -> Iterator[Step]:
        check_norm(self, ball)
        alpha = self.rel_start * ball.eps

        def start(region: Region, rng: torch.Generator) -> Tensor:
            shape, dtype = region.x0.shape, region.x0.dtype
            noise = torch.randn(shape, generator=rng, device=rng.device, dtype=dtype).to(region.x0.device)
            return region.project(region.x0 + alpha * ball.steepest(noise))

        return climb(
            model,
            x0,
            goal,
            ball,
            rng,
            steps=1,
            alpha=ball.eps - alpha,
            loss=self.loss,
            draws=self.draws,
            random_start=True,
            restarts=self.restarts,
            start=start,
        )
