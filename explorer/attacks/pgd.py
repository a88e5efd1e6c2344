"""Projected gradient descent (PGD; Madry et al., arXiv:1706.06083), in Linf and L2."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from explorer.attacks import ATTACKS
from explorer.attacks.gradient import GradientAttack, moved
from explorer.core import Region


@ATTACKS.register(
    "pgd",
    title="PGD",
    paper="arXiv:1706.06083",
    group="iterated",
    summary="Many small steps up the loss, each projected back into the ball: the standard white-box test.",
)
@dataclass(frozen=True)
class PGD(GradientAttack, rel_step=0.125, random_start=True):
    """x <- project(x + alpha * steepest(gradient of the loss at x)).

    differs: an image whose gradient is exactly zero or not finite takes a random step instead of none (Step.degenerate).
    """

    formula: ClassVar[str] = r"x_{t+1} = \Pi\,\big[\,x_t + \alpha\, d\big(\nabla_x L(x_t, y)\big)\big]"
    explanation: ClassVar[str] = (
        r"Start at a random point near the picture. Ask the model which way its loss grows, take a small step of length "
        r"$\alpha$ in the steepest direction $d$ (in L∞ the sign of every pixel's slope), and let $\Pi$ pull the result "
        r"back to the nearest picture that is allowed. Repeat."
    )
    presets = {
        "weak": {"steps": 5, "rel_step": 0.5},
        "standard": {"steps": 20, "rel_step": 0.125},
        "strong": {"steps": 50, "rel_step": 0.1, "restarts": 5},
    }

    def update(self, x: Tensor, direction: Tensor, region: Region, length: float | Tensor) -> Tensor:
        """x_{t+1} of the formula."""
        return region.project(moved(x, region.steepest(direction), length))
