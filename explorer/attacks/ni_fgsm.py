"""NI-FGSM, Nesterov's accelerated gradient in MI-FGSM (Lin et al., arXiv:1908.06281), in Linf and L2."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from explorer.attacks import ATTACKS
from explorer.attacks.gradient import Evaluation, Network, forward, value_and_grad
from explorer.attacks.mifgsm import MIFGSM
from explorer.core import Goal, Region
from explorer.core.dense import LinfRegion


@ATTACKS.register(
    "ni-fgsm",
    title="NI-FGSM",
    paper="arXiv:1908.06281",
    group="iterated",
    summary="MI-FGSM that looks ahead to where its momentum leads before it asks for the slope (transfer).",
)
@dataclass(frozen=True)
class NIFGSM(MIFGSM):
    """MI-FGSM whose gradient is taken at x + alpha * mu * g (eq. 6), g the momentum so far; eq. 7 and 8 as there.

    An update takes two forward passes: at the point ahead, and at x itself, which is what the step reports.
    differs: as MI-FGSM does. In L2 the look ahead is alpha * mu times the unit vector along g.
    """

    formula: ClassVar[str] = (
        r"g_{t+1} = \mu\, g_t + \frac{\nabla_x L(x_t + \alpha\mu g_t)}{\lVert \nabla_x L(x_t + \alpha\mu g_t)\rVert_1},\quad "
        r"x_{t+1} = \Pi\,\big[\,x_t + \alpha\,\mathrm{sign}(g_{t+1})\big]"
    )
    explanation: ClassVar[str] = (
        r"Momentum will carry the next step along $g_t$ anyway. So go there first, and ask for the slope at that point: it "
        r"corrects the momentum before the step is made rather than after it. Made for images that also fool other models."
    )

    @property
    def expected_passes(self) -> int:
        return self.restarts * (3 * self.steps + 1) * self.draws

    def gradient(
        self, model: Network, x: Tensor, goal: Goal, region: Region, rng: torch.Generator, state: dict[str, Tensor]
    ) -> Evaluation:
        """The model at x, and the gradient at the point ahead."""
        here, there = forward(model, x, goal, self.loss, self.draws, rng), self.ahead(x, region, state)
        return here.with_gradient(value_and_grad(model, there, goal, self.loss, self.draws, rng))

    def ahead(self, x: Tensor, region: Region, state: dict[str, Tensor]) -> Tensor:
        """x + alpha * mu * g, where the momentum so far leads."""
        if "g" not in state:
            return x
        way = state["g"] if isinstance(region, LinfRegion) else region.steepest(state["g"])
        return x + self.step_size(region.size) * self.momentum * way
