"""SI-NI-FGSM, scale invariance (Lin et al., arXiv:1908.06281, section 3.2), in Linf and L2."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from explorer.attacks import ATTACKS
from explorer.attacks.gradient import Evaluation, Network, forward, relative, value_and_grad
from explorer.attacks.ni_fgsm import NIFGSM
from explorer.core import Goal, Region, param


@ATTACKS.register(
    "si-ni-fgsm",
    title="SI-NI-FGSM",
    paper="arXiv:1908.06281",
    group="iterated",
    summary="NI-FGSM whose slope is the mean over darker and darker copies of the picture (transfer).",
)
@dataclass(frozen=True)
class SINIFGSM(NIFGSM):
    """NI-FGSM along 1/m * sum over i of the gradient of L(S_i(x)), S_i(x) = x / 2^i, i = 0 ... m - 1 (eq. 10; algorithm 1).

    m + 1 forward and m backward passes an update: the copies at the point ahead, and a look at x itself.
    differs: as NI-FGSM does; a copy whose gradient is exactly zero or not finite is left out.
    """

    formula: ClassVar[str] = (
        r"\bar g_t = \tfrac 1m \textstyle\sum_{i=0}^{m-1} \nabla_x L\big((x_t + \alpha\mu g_t) / 2^i\big),\quad "
        r"g_{t+1} = \mu\, g_t + \bar g_t / \lVert \bar g_t\rVert_1"
    )
    explanation: ClassVar[str] = (
        r"A network mostly names the same class when the whole picture is darker. So each of these darker copies is as good as "
        r"another network: ask all $m$ of them for their slope, and follow the mean. What works on all copies works on others' "
        r"networks more often."
    )

    scales: int = param(5, "scales", lo=1, hi=10, help="Copies, each half as bright as the one before (m).")

    @property
    def expected_passes(self) -> int:
        return self.restarts * ((2 * self.scales + 1) * self.steps + 1) * self.draws

    def gradient(
        self, model: Network, x: Tensor, goal: Goal, region: Region, rng: torch.Generator, state: dict[str, Tensor]
    ) -> Evaluation:
        """The model at x, and the mean gradient of the copies of the point ahead."""
        there, here = self.ahead(x, region, state), forward(model, x, goal, self.loss, self.draws, rng)
        copies = [self._copy(model, there, i, goal, rng) for i in range(self.scales)]
        lost = torch.stack([at.degenerate for at in copies], 1)
        scales = torch.stack([at.log_scale(goal, self.loss) for at in copies], 1).masked_fill(lost, -math.inf)
        total = torch.zeros_like(x)  # gradients come up to a factor, which counts where they are added
        for at, share, gone in zip(copies, relative(scales, 1).unbind(1), lost.unbind(1), strict=True):
            total = total + (at.gradient * share.view(-1, 1, 1, 1)).masked_fill(gone.view(-1, 1, 1, 1), 0)
        passes = self.scales * self.draws
        return replace(here, grad=total, forwards=here.forwards + passes, backwards=passes)

    def _copy(self, model: Network, there: Tensor, i: int, goal: Goal, rng: torch.Generator) -> Evaluation:
        return value_and_grad(lambda pixels: model(pixels / 2**i), there, goal, self.loss, self.draws, rng)
