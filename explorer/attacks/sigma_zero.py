"""sigma-zero (Cinà et al., arXiv:2402.01879): few pixels, found by gradients of a smooth L0 norm and a threshold that adapts."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from explorer.attacks import ATTACKS
from explorer.attacks._fields import draws_per_step, updates
from explorer.attacks._region import RegionAttack
from explorer.attacks.boundary import rounding
from explorer.attacks.gradient import Recorder, forward, replace_degenerate, value_and_grad
from explorer.attacks.random_search import MARGIN
from explorer.core import Goal, Region, Step, param

SIGMA = 1e-3  # of the smooth L0 norm
LAST_STEP = 0.1  # share of eta that is left at the last step
BETAS, TINY = (0.9, 0.999), 1e-8  # Adam's own constants


@ATTACKS.register(
    "sigma-zero",
    title="sigma-zero",
    paper="arXiv:2402.01879",
    group="minimal",
    summary="Looks for the fewest pixels: changes that stay below a threshold, which adapts, are taken back at every step.",
)
@dataclass(frozen=True)
class SigmaZero(RegionAttack):
    """delta <- clip(delta - eta * Adam(g / ||g||_inf)), then pixels whose change is below tau go back to the image.

    g is the slope of max(0, -margin) + 1/d * sum over the pixels of s / (s + 0.001), s the squared change of a pixel. tau rises by
    t * eta after a success and falls by as much after a failure, within [0, 1]; eta falls to a tenth along a cosine (algorithm
    1 and the authors' code). steps + 1 forward and `steps` backward passes a draw.
    differs: a pixel counts once, whatever its number of channels, in the smooth norm and under the threshold.
    differs: a zero or not finite slope of the margin gives way to a random direction, where the image is not fooled.
    """

    budget = "minimal"
    threats: ClassVar[tuple[str, ...]] = ("l0",)
    loss = MARGIN
    formula: ClassVar[str] = (
        r"\min_\delta\ \max(0, -m(x+\delta)) + \tfrac 1d \textstyle\sum_i \frac{\delta_i^2}{\delta_i^2+\sigma},\quad "
        r"\delta_i \leftarrow 0 \text{ if } |\delta_i| < \tau"
    )
    explanation: ClassVar[str] = (
        r"The number of changed pixels has no slope, so a smooth stand-in takes its place: each pixel counts "
        r"$\delta_i^2 / (\delta_i^2 + \sigma)$, nearly 1 once it is changed at all. Steps go down that sum and, as long as the "
        r"model is not fooled, up the margin $m$. After each step all small changes are taken back: those below $\tau$, "
        r"which rises while the model is fooled and falls while it is not."
    )
    presets = {"weak": {"steps": 50}, "standard": {}, "strong": {"steps": 1000}}

    steps: int = updates(200)
    step_size: float = param(1.0, "step size", lo=0.01, hi=1.0, step=0.05, help="Adam's step eta, in pixel units.")
    threshold: float = param(
        0.3, "first threshold", lo=0.0, hi=1.0, step=0.05, help="tau at the beginning, in pixel units."
    )
    adapt: float = param(0.01, "change of the threshold", lo=0.0, hi=1.0, step=0.01, unit="x step size", help="t.")
    draws: int = draws_per_step()

    def ascend(self, model: nn.Module, goal: Goal, region: Region, rng: torch.Generator) -> Iterator[Step]:
        recorder, x0 = Recorder(self, goal, region, self.steps), region.x0
        x, mean, square = x0, torch.zeros_like(x0), torch.zeros_like(x0)
        tau = torch.full_like(x0[:, :1, :1, :1], self.threshold)
        for k in range(self.steps):
            at = value_and_grad(model, x, goal, self.loss, self.draws, rng)
            yield recorder.step(x, at)
            success = (goal.margin(at.logits) > rounding(goal, at.logits)).view_as(tau)
            still = success | ~goal.margin(at.logits).isfinite().view_as(tau)  # or without a number for an answer
            slope = torch.where(still, 0.0, -replace_degenerate(at.gradient, rng)) + few(x - x0)
            slope = slope / slope.abs().amax((1, 2, 3), keepdim=True).clamp(min=TINY)
            mean, square = mean.lerp(slope, 1 - BETAS[0]), square.lerp(slope.square(), 1 - BETAS[1])
            eta = self.step_size * (LAST_STEP + (1 - LAST_STEP) * (1 + math.cos(math.pi * k / self.steps)) / 2)
            way = mean / (1 - BETAS[0] ** (k + 1)) / ((square / (1 - BETAS[1] ** (k + 1))).sqrt() + TINY)
            x = (x - eta * way).clamp(0, 1)
            tau = (tau + torch.where(success, eta, -eta) * self.adapt).clamp(0, 1)
            x = torch.where((x - x0).abs().amax(1, keepdim=True) < tau, x0, x)
        yield recorder.step(x, forward(model, x, goal, self.loss, self.draws, rng))


def few(delta: Tensor) -> Tensor:
    """The slope of the mean over the pixels of s / (s + SIGMA), s the sum of delta ** 2 (N,C,H,W) over the channels."""
    squared = delta.square().sum(1, keepdim=True)
    return 2 * delta * SIGMA / (squared + SIGMA).square() / squared[0].numel()
