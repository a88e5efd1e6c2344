"""FGSM with a random start (R+FGSM; Tramer et al., arXiv:1705.07204)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from explorer.attacks import ATTACKS
from explorer.attacks.gradient import gaussian
from explorer.attacks.pgd import PGD
from explorer.core import Region, fixed, param


@ATTACKS.register(
    "rfgsm",
    title="FGSM with random start",
    paper="arXiv:1705.07204, R+FGSM",
    group="single step",
    summary="A random step, then one along the gradient: for models whose slope right at the image misleads.",
)
@dataclass(frozen=True)
class RFGSM(PGD, steps=fixed(1), rel_step=fixed(1.0), random_start=fixed(True)):
    """x' = x0 + alpha * sign(N(0, I)), then x' + (eps - alpha) * sign(gradient of the loss at x'); alpha = rel_start * eps.

    This is the paper's own variant: a random corner of a smaller box, and the rest of the budget for the gradient step
    (not a uniform start followed by a step longer than what is left, as in "fast" adversarial training).
    differs: x' is clipped to [0, 1] before the model sees it; an L2 form (unit-length directions instead of signs);
    restarts; a degenerate gradient gives way to a random direction.
    """

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

    def start(self, region: Region, rng: torch.Generator) -> Tensor:
        corner = region.steepest(gaussian(region.x0, rng))
        return region.project(region.x0 + self.rel_start * region.size * corner)

    def step_size(self, eps: float | Tensor) -> float | Tensor:
        return eps - self.rel_start * eps
