"""VMI-FGSM, variance tuning (Wang & He, arXiv:2103.15571), in Linf and L2."""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from explorer.attacks import ATTACKS
from explorer.attacks.gradient import Evaluation, Network, value_and_grad
from explorer.attacks.mifgsm import MIFGSM
from explorer.core import Goal, Region, param
from explorer.core.dense import LinfRegion


@ATTACKS.register(
    "vmi-fgsm",
    title="VMI-FGSM",
    paper="arXiv:2103.15571",
    group="iterated",
    summary="MI-FGSM that corrects each gradient by how the slope varies around the point: strong in transfer, and dear.",
)
@dataclass(frozen=True)
class VMIFGSM(MIFGSM):
    """g <- mu * g + (grad + v) / ||grad + v||_1, then as MI-FGSM; v is the variance of the gradient at the step before:
    the mean gradient of `samples` points around it, each value within +-beta * eps, less the gradient there (algorithm 1).

    `samples` + 1 forward and backward passes an update.
    differs: as MI-FGSM does. In L2, too, the points around lie in a cube, of the half width beta * eps / sqrt(d).
    """

    formula: ClassVar[str] = (
        r"g_{t+1} = \mu\, g_t + \frac{\nabla_x L(x_t) + v_t}{\lVert \nabla_x L(x_t) + v_t\rVert_1},\quad "
        r"v_{t+1} = \tfrac 1N \textstyle\sum_i \nabla_x L(x_t + r_i) - \nabla_x L(x_t)"
    )
    explanation: ClassVar[str] = (
        r"A single slope says much about this model and this point, and little about others. So look at the slopes at $N$ "
        r"random points around as well: how much their mean differs from the slope itself, $v_t$, corrects the next step. "
        r"What is left is what a whole neighbourhood has in common, and other models more often have it, too."
    )
    presets = {
        "weak": {"steps": 5, "samples": 3},
        "standard": {},
        "strong": {"steps": 50, "rel_step": 0.05, "restarts": 2},
    }

    samples: int = param(20, "samples", lo=1, hi=100, help="Points around, at each step (N).")
    beta: float = param(
        1.5, "how far around", lo=0.0, hi=10.0, step=0.25, unit="x eps", help="Half the width of the cube."
    )

    @property
    def expected_passes(self) -> int:
        return self.restarts * (2 * self.steps * (self.samples + 1) + 1) * self.draws

    def gradient(
        self, model: Network, x: Tensor, goal: Goal, region: Region, rng: torch.Generator, state: dict[str, Tensor]
    ) -> Evaluation:
        """The model at x, with the gradient there and the variance of the step before."""
        at = value_and_grad(model, x, goal, self.loss, self.draws, rng)
        width = self.beta * region.size * (1 if isinstance(region, LinfRegion) else x[0].numel() ** -0.5)
        total, forwards, backwards = torch.zeros_like(x), at.forwards, at.backwards
        scale = at.log_scale(goal, self.loss)  # gradients come up to a factor, which counts where they are added
        for _ in range(self.samples):
            noise = torch.rand(x.shape, generator=rng, device=rng.device, dtype=x.dtype).to(x.device)
            around = value_and_grad(model, x + width * (2 * noise - 1), goal, self.loss, self.draws, rng)
            total, forwards, backwards = (
                total + _times(around.log_scale(goal, self.loss) - scale) * around.gradient,
                forwards + around.forwards,
                backwards + around.backwards,
            )
        tuned = at.gradient
        if "v" in state:
            tuned = tuned + _times(state["scale"] - scale) * state["v"]
        state["v"], state["scale"] = total / self.samples - at.gradient, scale
        return replace(at, grad=tuned, forwards=forwards, backwards=backwards)


def _times(log_factor: Tensor) -> Tensor:
    """(N,1,1,1) the factor, from (N,) its logarithm; 1 where there is none, since a slope is flat."""
    return log_factor.clamp(-30, 30).exp().nan_to_num(1.0).view(-1, 1, 1, 1)
