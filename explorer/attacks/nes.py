"""NES, gradients estimated from scores alone (Ilyas et al., arXiv:1804.08598), followed as PGD does, in Linf and L2."""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from explorer.attacks import ATTACKS
from explorer.attacks.gradient import Evaluation, Network, forward, gaussian
from explorer.attacks.pgd import PGD
from explorer.core import Goal, Region, param

AT_ONCE = 128  # images in one forward pass of the estimate, if there are no more in the batch


@ATTACKS.register(
    "nes",
    title="NES",
    paper="arXiv:1804.08598",
    group="black-box",
    summary="Estimates the gradient from the model's scores at random points around, and follows it as PGD does.",
)
@dataclass(frozen=True)
class NES(PGD, rel_step=0.25, random_start=False, loss="margin"):
    """PGD along g = 1 / n * sum over i of L(x + sigma u_i) u_i, u_i Gaussian and in pairs +u, -u (section 2.2, eq. 3).

    `samples` forward passes for an estimate, one for the look at x, no backward pass.
    differs: the loss is `loss`, the margin unless asked otherwise, where the paper takes the class's probability, whose
    differences float32 loses where a model is very sure; no momentum, no falling step size.
    differs: where all scores are equal or not finite the direction is random (Step.degenerate).
    """

    formula: ClassVar[str] = (
        r"\hat g = \frac{1}{n\sigma} \sum_{i=1}^{n/2} \big[L(x + \sigma u_i) - L(x - \sigma u_i)\big]\, u_i,\quad "
        r"x_{t+1} = \Pi\,[x_t + \alpha\, d(\hat g)]"
    )
    explanation: ClassVar[str] = (
        r"Without the model's gradient its slope can still be felt: take a small random step $\sigma u$ and its opposite, ask for "
        r"the loss at both, and add up the directions, each by how much the loss differs. The sum points uphill on average; then "
        r"it is PGD. Where it succeeds and PGD does not, the gradients were hidden."
    )
    bfloat16 = False  # differences of scores: 64 fooled of 96 in place of 68 (cifar10/lenet, Linf 8/255, seed 0)
    presets = {
        "weak": {"steps": 10, "samples": 20},
        "standard": {},
        "strong": {"steps": 100, "samples": 100, "rel_step": 0.1},
    }

    samples: int = param(50, "samples", lo=2, hi=1000, help="Points asked about for one estimate (n); pairs, so even.")
    sigma: float = param(0.001, "how far", lo=1e-5, hi=1.0, step=0.001, help="Standard deviation of the random steps.")

    @property
    def expected_passes(self) -> int:
        return self.restarts * (self.steps * (2 * (self.samples // 2) + 1) + 1) * self.draws

    def gradient(
        self, model: Network, x: Tensor, goal: Goal, region: Region, rng: torch.Generator, state: dict[str, Tensor]
    ) -> Evaluation:
        """The model at x, and the estimate there; no gradient of the model's is asked for."""
        here = forward(model, x, goal, self.loss, self.draws, rng)
        estimate = torch.zeros_like(x)
        many = max(AT_ONCE // len(x), 1)
        for k in range(0, self.samples // 2, many):
            m = min(many, self.samples // 2 - k)
            near = x.repeat_interleave(m, dim=0)
            u = gaussian(near, rng)
            ahead, behind = (
                forward(model, near + sign * self.sigma * u, goal.repeated(m), self.loss, self.draws, rng).loss
                for sign in (1, -1)
            )
            weighed = (ahead - behind).view(-1, 1, 1, 1) * u
            estimate = estimate + weighed.view(len(x), m, *x.shape[1:]).sum(1)
        return replace(here, grad=estimate, forwards=here.forwards * (2 * (self.samples // 2) + 1))
