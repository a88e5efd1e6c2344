"""Norm balls as threat models: all images within eps of the original in Linf, L2, L1 or L0, and within [0, 1]."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from explorer.core.errors import InvalidValue
from explorer.core.regions import BallRegion, L2Region, LinfRegion, Norm
from explorer.core.sparse import L0Region, L1Region
from explorer.core.threat import Eps, ThreatModel, check_eps, in_float64

NORMS: tuple[Norm, ...] = get_args(Norm)
# Where nobody says otherwise: what papers on CIFAR-10 test (L1: arXiv:2103.01208; L0: pixels, of 1024).
USUAL_EPS = {"linf": 8 / 255, "l2": 0.5, "l1": 12.0, "l0": 10.0}
# The whole pixel range; farther than any image here can go.
EPS_LIMIT = {"linf": 1.0, "l2": 100.0, "l1": 10_000.0, "l0": 10_000.0}
EPS_LEAST = 1e-5  # below this, float32 pixels near 1 cannot represent the perturbation
_REGIONS: dict[str, type[BallRegion]] = {
    region.norm: region for region in (LinfRegion, L2Region, L1Region, L0Region)
}


@dataclass(frozen=True)
class Ball(ThreatModel):
    """{x : ||x - x0|| <= eps, 0 <= x <= 1}, in pixel units (eps = 8/255, not 8); in L0, eps pixels may change at all.

    eps is a number or a tensor (N,). Projections give the nearest point of ball and box, exactly, rounding included.
    differs: in L2 `project` shrinks the change to length eps and then clips to [0, 1], as is usual in attacks; where
    pixels are clipped that lies inside, but not nearest. `Region.nearest` is the exact projection there, too.
    """

    norm: Norm
    eps: Eps

    def __post_init__(self) -> None:
        if self.norm not in NORMS:
            raise InvalidValue(f"norm must be one of {', '.join(NORMS)}; got {self.norm!r}.")
        least = 1 if self.norm == "l0" else EPS_LEAST
        check_eps(self.norm, self.eps, least, EPS_LIMIT[self.norm], whole=self.norm == "l0")

    @property
    def name(self) -> str:
        return self.norm

    def around(self, x0: Tensor) -> BallRegion:
        return _REGIONS[self.norm](x0, self.eps)

    def project(self, x: Tensor, x0: Tensor) -> Tensor:
        """Into the region around x0, see `Region.project`."""
        return self.around(x0).project(x)

    def sample(self, x0: Tensor, rng: torch.Generator) -> Tensor:
        """Uniform in the ball (L2: radius u^(1/d)), then clipped to [0, 1]. L0: eps random pixels, each of any colour."""
        return self.around(x0).sample(rng)

    def steepest(self, grad: Tensor) -> Tensor:
        """The unit-norm direction of steepest ascent: sign(g) for Linf, g/||g|| for L2. Zero stays zero.

        L1: all at the value of largest slope. L0: the signs at the pixel of largest slope, summed over channels.
        """
        return _REGIONS[self.norm].steepest(grad)

    def distance(self, x: Tensor, x0: Tensor) -> Tensor:
        """(N,) the norm of x - x0, in float64 so that it can be compared with eps (on the CPU if x is on MPS)."""
        return _REGIONS[self.norm].length(x, in_float64(x0))


def Linf(eps: Eps) -> Ball:
    """No pixel value changes by more than eps."""
    return Ball("linf", eps)


def L2(eps: Eps) -> Ball:
    """The change's Euclidean length is at most eps."""
    return Ball("l2", eps)


def L1(eps: Eps) -> Ball:
    """All values together change by at most eps."""
    return Ball("l1", eps)


def L0(eps: Eps) -> Ball:
    """At most eps pixels change, in all channels, by anything."""
    return Ball("l0", eps)
