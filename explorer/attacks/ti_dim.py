"""TI-DIM, translation invariance (Dong et al., arXiv:1904.02884), in Linf and L2."""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from explorer.attacks import ATTACKS
from explorer.attacks.difgsm import MDIFGSM
from explorer.core import param

SPREADS = 3.0  # standard deviations of the kernel that fit into half of its side, as in the authors' code


@ATTACKS.register(
    "ti-dim",
    title="TI-DIM",
    paper="arXiv:1904.02884",
    group="iterated",
    summary="M-DI²-FGSM along a blurred gradient, as if all shifted copies of the picture were attacked at once (transfer).",
)
@dataclass(frozen=True)
class TIDIM(MDIFGSM):
    """M-DI2-FGSM whose gradient is convolved with a Gaussian kernel W, which stands for the sum of the gradients of all shifted
    copies, as networks hardly mind shifts (eq. 6 and 7; with diverse inputs and momentum: TI-DIM).

    differs: as M-DI2-FGSM does; a kernel of 5 x 5 for pictures of 32 x 32, where the paper's is 15 x 15 for 299 x 299. At the
    edge the gradient outside counts as 0, as in the authors' code.
    """

    formula: ClassVar[str] = (
        r"g_{t+1} = \mu\, g_t + \frac{W * \nabla_x L(T(x_t))}{\lVert W * \nabla_x L(T(x_t))\rVert_1},\quad "
        r"x_{t+1} = \Pi\,\big[\,x_t + \alpha\,\mathrm{sign}(g_{t+1})\big]"
    )
    explanation: ClassVar[str] = (
        r"A picture moved by a pixel or two is the same to a network, but not its slopes. To be strong on all moved copies, add up "
        r"their slopes, each moved back: that is nearly the picture's own slope, blurred by $W$. The change becomes smoother, "
        r"and hangs less on where this one network looks."
    )

    kernel: int = param(
        5, "kernel size", lo=1, hi=31, step=2, unit="pixels", help="Side of the blur W; 1 is none. Odd."
    )

    def direction(self, gradient: Tensor, state: dict[str, Tensor]) -> Tensor:
        """The momentum of the blurred gradients."""
        return super().direction(blurred(gradient, self.kernel | 1), state)


def blurred(x: Tensor, side: int) -> Tensor:
    """x (N,C,H,W) convolved with a Gaussian of side x side (odd), whose weights add up to 1; side 1 changes nothing."""
    if side == 1:
        return x
    along = torch.linspace(-SPREADS, SPREADS, side, device=x.device, dtype=x.dtype)
    weights = (-along.square() / 2).exp()
    weights = (weights / weights.sum()).view(1, 1, -1, 1).expand(x.shape[1], 1, -1, 1)
    rows = F.conv2d(x, weights, padding=(side // 2, 0), groups=x.shape[1])
    return F.conv2d(rows, weights.mT, padding=(0, side // 2), groups=x.shape[1])
