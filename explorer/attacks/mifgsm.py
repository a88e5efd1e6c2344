"""Momentum iterative FGSM (MI-FGSM; Dong et al., arXiv:1710.06081), in Linf and L2."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from explorer.attacks import ATTACKS
from explorer.attacks.gradient import degenerate
from explorer.attacks.pgd import PGD
from explorer.core import param


@ATTACKS.register(
    "mifgsm",
    title="MI-FGSM",
    paper="arXiv:1710.06081",
    group="iterated",
    summary="Steps along a running sum of gradients: made for images that also fool other models (transfer).",
)
@dataclass(frozen=True)
class MIFGSM(PGD, steps=10, rel_step=0.0, random_start=False):
    """g <- mu * g + gradient / ||gradient||_1, x <- project(x + alpha * sign(g)); in L2, alpha * g / ||g||_2.

    differs: a zero or not finite gradient adds nothing to the momentum, which keeps its direction (the plain formula
    gives 0/0, and the image would freeze for good); mu lies in [0, 1]; restarts and draws are ours.
    """

    formula: ClassVar[str] = (
        r"g_{t+1} = \mu\, g_t + \frac{\nabla_x L(x_t, y)}{\lVert \nabla_x L(x_t, y)\rVert_1},\quad "
        r"x_{t+1} = \Pi\,\big[\,x_t + \alpha\,\mathrm{sign}(g_{t+1})\big]"
    )
    explanation: ClassVar[str] = (
        r"Take small steps up the loss as PGD does, but along a running sum of all gradients so far, in which each older "
        r"one counts $\mu$ times as much as the next. The sum forgets the zigzag and keeps what the gradients "
        r"have in common, and that is also what different models have in common."
    )
    presets = {"weak": {"steps": 5}, "standard": {}, "strong": {"steps": 50, "rel_step": 0.05, "restarts": 5}}

    momentum: float = param(
        1.0, "momentum", lo=0.0, hi=1.0, step=0.05, help="How much of the earlier gradients is kept at each step."
    )

    def direction(self, gradient: Tensor, state: dict[str, Tensor]) -> Tensor:
        """g_{t+1} of the formula."""
        state["g"] = self.momentum * state.get("g", 0) + normalized(gradient)
        return state["g"]


def normalized(gradient: Tensor) -> Tensor:
    """gradient / ||gradient||_1, times the number of values: the same direction, in float32's range. Degenerate: 0."""
    scaled = gradient / gradient.abs().amax((1, 2, 3), keepdim=True)  # else the mean could under- or overflow
    scaled = scaled / scaled.abs().mean((1, 2, 3), keepdim=True)
    return scaled.masked_fill(degenerate(gradient).view(-1, 1, 1, 1), 0)  # 0/0 would stay in the sum for good
