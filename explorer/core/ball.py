"""Norm balls as threat models: all images within eps of the original in Linf, L2, L1 or L0, and within [0, 1]."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from explorer.core.dense import BallRegion, L2Region, LinfRegion
from explorer.core.errors import InvalidValue
from explorer.core.sparse import L0Region, L1Region
from explorer.core.threat import Eps, ThreatModel, check_eps, in_float64

Norm = Literal["linf", "l2", "l1", "l0"]
NORMS: tuple[Norm, ...] = get_args(Norm)
NORM_NAMES = {"linf": "L∞", "l2": "L2", "l1": "L1", "l0": "L0"}  # for people
# Where nobody says otherwise: what papers on CIFAR-10 test (L1: arXiv:2103.01208; L0: pixels, of 1024).
USUAL_EPS = {"linf": 8 / 255, "l2": 0.5, "l1": 12.0, "l0": 10.0}
# The whole pixel range; farther than any image here can go.
EPS_LIMIT = {"linf": 1.0, "l2": 100.0, "l1": 10_000.0, "l0": 10_000.0}
# The same of all threat models, transformations included; their eps is a share of their own limits, or a severity.
TRANSFORMATIONS = ("rotation", "corruption")
THREAT_NAMES = NORM_NAMES | {"rotation": "rotation and shift", "corruption": "corruption of severity"}
THREAT_EPS = USUAL_EPS | {"rotation": 1.0, "corruption": 3.0}
THREAT_LIMIT = EPS_LIMIT | {"rotation": 1.0, "corruption": 5.0}
WHOLE = ("l0", "corruption")  # whose eps is a whole number
EPS_LEAST = 1e-5  # below this, float32 pixels near 1 cannot represent the perturbation


def least_eps(norm: str) -> float:
    """The least eps that makes sense: one pixel in L0, severity 1, else what float32 can tell from nothing."""
    return 1.0 if norm in WHOLE else EPS_LEAST


def as_norm(name: object) -> Norm:
    """The norm of this name; raises InvalidValue for any other name."""
    for norm in NORMS:
        if norm == name:
            return norm
    raise InvalidValue(f"norm must be one of {', '.join(NORMS)}; got {name!r}.")


@dataclass(frozen=True)
class Ball(ThreatModel):
    """{x : ||x - x0|| <= eps, 0 <= x <= 1}, in pixel units (eps = 8/255, not 8); in L0, eps pixels may change at all.

    eps is a number or a tensor (N,). Projections give the nearest point of ball and box, exactly, rounding included.
    differs: in L2 `project` shrinks the change to length eps and then clips to [0, 1], as is usual in attacks; where
    pixels are clipped that lies inside, but not nearest. `BallRegion.nearest` is the exact projection there, too.

    Examples:
        >>> import torch
        >>> from explorer.core import Ball
        >>> x0 = torch.tensor([0.0, 0.5, 0.99]).view(1, 1, 1, 3)
        >>> Ball("linf", 0.125).project(x0 + 1, x0)
        tensor([[[[0.1250, 0.6250, 1.0000]]]])
        >>> Ball("l0", 1).distance(x0.flip(3), x0)
        tensor([2.], dtype=torch.float64)
        >>> Ball("linf", 8)
        Traceback (most recent call last):
            ...
        explorer.core.errors.InvalidValue: eps must lie in [1e-05, 1] in pixel units; got 8. Did you mean 8/255?
    """

    norm: Norm
    eps: Eps

    def __post_init__(self) -> None:
        as_norm(self.norm)
        check_eps(self.norm, self.eps, least_eps(self.norm), EPS_LIMIT[self.norm], whole=self.norm == "l0")

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


_REGIONS: dict[str, type[BallRegion]] = {r.norm: r for r in (LinfRegion, L2Region, L1Region, L0Region)}
