"""FMN, fast minimum-norm attacks (Pintor et al., arXiv:2102.12827), in Linf, L2, L1 and L0."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from explorer.attacks import ATTACKS
from explorer.attacks._fields import draws_per_step, updates
from explorer.attacks._region import RegionAttack
from explorer.attacks.boundary import LEAST, rounding
from explorer.attacks.gradient import Recorder, forward, replace_degenerate, value_and_grad
from explorer.attacks.random_search import MARGIN
from explorer.core import Goal, Region, Step, param
from explorer.core.dense import BallRegion, L2Region

LAST_STEP, LAST_GAMMA = 0.01, 0.02  # shares of alpha and gamma that are left at the last step
NEXT_TO_NONE = 1e-12  # the least eps: in L1 there is no projection onto a ball of radius 0
DUAL = {"linf": 1, "l2": 2, "l1": math.inf, "l0": math.inf}


@ATTACKS.register(
    "fmn",
    title="FMN",
    paper="arXiv:2102.12827",
    group="minimal",
    summary="Projects onto a ball that shrinks after a success and grows after a failure: quick distances in every norm.",
)
@dataclass(frozen=True)
class FMN(RegionAttack):
    """delta <- nearest to delta + alpha * g / ||g||_2 in the ball of radius eps (and [0, 1]), g the margin's slope.

    eps is, before the first success, the norm of delta and the distance to the boundary as if it were straight,
    |margin| / ||g|| in the dual norm; then eps * (1 + gamma) after a failure, and min(eps * (1 - gamma), the least norm of a
    success) after a success (algorithm 1). In L0 eps begins at one pixel and moves by one at least, and before the first
    success doubles. alpha and gamma fall along a cosine. steps + 1 forward and `steps` backward passes a draw.
    differs: alpha is at most the L2 length of what the ball allows; the paper's is 1, whatever the distance.
    differs: values at 0 or 1 that would go beyond are left out of g, but in L0; the projection is onto ball and box at once.
    differs: the distance to a boundary is taken 1 + gamma times and a little more, else a straight one is never crossed.
    differs: a zero or not finite gradient gives way to a random direction.
    """

    budget = "minimal"
    threats: ClassVar[tuple[str, ...]] = ("l2", "linf", "l1", "l0")
    loss = MARGIN
    formula: ClassVar[str] = (
        r"\delta \leftarrow \Pi_\varepsilon\big[\delta + \alpha\, g / \lVert g\rVert_2\big],\quad "
        r"\varepsilon \leftarrow (1 \mp \gamma)\,\varepsilon"
    )
    explanation: ClassVar[str] = (
        r"Follow the slope $g$ of the margin, and let $\Pi$ pull the change $\delta$ back into a ball whose radius "
        r"$\varepsilon$ is found on the way: before the first success it is as large as straight boundaries would need; "
        r"afterwards a share $\gamma$ smaller whenever the model is fooled, as much larger whenever it is not. Steps and "
        r"shares shrink, so that the points settle on the boundary where it is nearest. It works in every norm."
    )
    presets = {"weak": {"steps": 30}, "standard": {}, "strong": {"steps": 1000}}

    steps: int = updates(100)
    step_size: float = param(
        1.0,
        "first step",
        lo=0.001,
        hi=10.0,
        step=0.1,
        help="L2 length of the first update at most; it falls to a hundredth.",
    )
    gamma: float = param(
        0.05,
        "change of eps",
        lo=0.001,
        hi=0.5,
        step=0.01,
        help="By what share eps shrinks or grows; it falls to a fiftieth.",
    )
    draws: int = draws_per_step()

    def ascend(self, model: nn.Module, goal: Goal, region: Region, rng: torch.Generator) -> Iterator[Step]:
        assert isinstance(region, BallRegion)
        recorder, x0, norm = Recorder(self, goal, region, self.steps), region.x0, region.norm
        x, best = x0, torch.full_like(x0[:, 0, 0, 0], math.inf)  # (N,) the least norm of a success
        eps = torch.zeros_like(best)
        for k in range(self.steps):
            at = value_and_grad(model, x, goal, self.loss, self.draws, rng)
            yield recorder.step(x, at)
            share = (1 + math.cos(math.pi * k / self.steps)) / 2
            gamma = self.gamma * (LAST_GAMMA + (1 - LAST_GAMMA) * share)
            g = replace_degenerate(at.gradient, rng)
            if norm != "l0":
                g = g.masked_fill(((x <= 0) & (g < 0)) | ((x >= 1) & (g > 0)), 0)
            norm_now, margin = region.distance(x).to(eps), goal.margin(at.logits)
            success = margin > rounding(goal, at.logits)
            best = torch.where(success & (norm_now < best), norm_now, best)
            if norm == "l0":
                more, less = (eps * (1 + gamma)).floor(), (eps * (1 - gamma)).floor()
                more, less = torch.maximum(more, eps + 1), torch.minimum(less, eps - 1)
                more = torch.where(best.isinf(), torch.maximum(2 * eps, more), more)
            else:
                need = margin.abs() + 2 * rounding(goal, at.logits)
                ahead = need / g.flatten(1).norm(DUAL[norm], dim=1) + LEAST
                straight = (norm_now + ahead.nan_to_num(0.0, posinf=0.0)) * (1 + gamma)
                more, less = torch.where(best.isinf(), straight, eps * (1 + gamma)), eps * (1 - gamma)
            eps = torch.where(success, torch.minimum(less, best), torch.where(margin.isfinite(), more, eps)).clamp(
                min=NEXT_TO_NONE
            )
            alpha = self.step_size * (LAST_STEP + (1 - LAST_STEP) * share) * reach(eps, x0, norm).clamp(max=1)
            ahead = x + alpha.view(-1, 1, 1, 1) * L2Region.steepest(g)
            x = type(region)(x0, eps.double()).nearest(ahead)
        yield recorder.step(x, forward(model, x, goal, self.loss, self.draws, rng))


def reach(eps: Tensor, x0: Tensor, norm: str) -> Tensor:
    """(N,) the L2 length of the longest change in the ball of radius eps (N,)."""
    if norm == "linf":
        return eps * math.sqrt(x0[0].numel())
    return (eps * x0.shape[1]).sqrt() if norm == "l0" else eps
