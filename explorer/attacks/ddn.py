"""DDN, decoupled direction and norm (Rony et al., arXiv:1811.09600), a minimal attack in L2."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from explorer.attacks import ATTACKS
from explorer.attacks._fields import draws_per_step, updates
from explorer.attacks._region import RegionAttack
from explorer.attacks.boundary import rounding
from explorer.attacks.gradient import Recorder, forward, replace_degenerate, value_and_grad
from explorer.core import Goal, Region, Step, param
from explorer.core.dense import L2Region

LAST_STEP = 0.01  # alpha falls from 1 to this


@ATTACKS.register(
    "ddn",
    title="DDN",
    paper="arXiv:1811.09600",
    group="minimal",
    summary="Follows the gradient on a sphere that shrinks after a success and grows after a failure: quick L2 distances.",
)
@dataclass(frozen=True)
class DDN(RegionAttack):
    """delta <- delta + alpha * g / ||g||_2, then x = clip(x0 + eps * delta / ||delta||_2), where eps is multiplied by
    1 - gamma if the point before was a success and by 1 + gamma if it was not.

    g is the gradient of the cross-entropy (algorithm 1); alpha falls from 1 to 0.01 along a cosine, in units of eps.
    steps + 1 forward and `steps` backward passes a draw.
    differs: the first eps is how far the likeliest wrong class's boundary is if it is straight, seen at the image, and the
    first g is that boundary's slope; the paper begins with eps = 1, whatever the image, and so do its steps alpha.
    differs: no rounding to 8 bits on the way; a zero or not finite gradient gives way to a random direction.
    """

    budget = "minimal"
    threats: ClassVar[tuple[str, ...]] = ("l2",)
    formula: ClassVar[str] = (
        r"\varepsilon \leftarrow (1 \mp \gamma)\,\varepsilon,\quad x = x_0 + \varepsilon\,\delta / \lVert\delta\rVert_2"
    )
    explanation: ClassVar[str] = (
        r"Two questions, asked apart: in which direction $\delta$, and how far $\varepsilon$. The direction follows the slope "
        r"of the loss as in PGD. The distance follows the answer: fooled, then come a share $\gamma$ nearer; not fooled, "
        r"then go as much farther. So the points cross the boundary again and again while the direction turns to where "
        r"the boundary is nearest. There is no penalty to weigh, and no eps to choose."
    )
    presets = {"weak": {"steps": 30}, "standard": {}, "strong": {"steps": 1000}}

    steps: int = updates(100)
    gamma: float = param(
        0.05, "change of the norm", lo=0.001, hi=0.5, step=0.01, help="By what share eps shrinks or grows at each step."
    )
    draws: int = draws_per_step()

    def ascend(self, model: nn.Module, goal: Goal, region: Region, rng: torch.Generator) -> Iterator[Step]:
        recorder, x0 = Recorder(self, goal, region, self.steps), region.x0
        x, delta, eps = x0, torch.zeros_like(x0), torch.zeros_like(x0[:, 0, 0, 0])
        for k in range(self.steps):
            at = value_and_grad(model, x, goal, self.loss if k else "margin", self.draws, rng)
            margin = goal.margin(at.logits)
            if k == 0:
                far = (margin.abs() / at.gradient.flatten(1).norm(dim=1)).nan_to_num(1.0, posinf=1.0)
                eps = torch.where(margin.isfinite(), far, 0.0)  # an image without a number for an answer stays
            yield recorder.step(x, at)
            success = margin > rounding(goal, at.logits)
            eps = eps * torch.where(success, 1 - self.gamma, 1 + self.gamma)
            alpha = LAST_STEP + (1 - LAST_STEP) * (1 + math.cos(math.pi * k / self.steps)) / 2
            direction = L2Region.steepest(replace_degenerate(at.gradient, rng))
            delta = delta + alpha * eps.view(-1, 1, 1, 1) * direction
            x = (x0 + eps.view(-1, 1, 1, 1) * L2Region.steepest(delta)).clamp(0, 1)
            delta = x - x0
        yield recorder.step(x, forward(model, x, goal, self.loss, self.draws, rng))
