"""Norm balls as threat models: all images within eps of the original in Linf, L2, L1 or L0, and within [0, 1]."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from explorer.core.ball_region import INSIDE, BallRegion, difference
from explorer.core.errors import InvalidValue
from explorer.core.sparse import L0Region, L1Region
from explorer.core.threat import Eps, ThreatModel, check_eps, in_float64

Norm = Literal["linf", "l2", "l1", "l0"]
NORMS: tuple[Norm, ...] = get_args(Norm)
# Where nobody says otherwise: what papers on CIFAR-10 test (L1: arXiv:2103.01208; L0: pixels, of 1024).
USUAL_EPS = {"linf": 8 / 255, "l2": 0.5, "l1": 12.0, "l0": 10.0}
# The whole pixel range; farther than any image here can go.
EPS_LIMIT = {"linf": 1.0, "l2": 100.0, "l1": 10_000.0, "l0": 10_000.0}
EPS_LEAST = 1e-5  # below this, float32 pixels near 1 cannot represent the perturbation


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
        return REGIONS[self.norm](x0, self.eps)

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
        return REGIONS[self.norm].steepest(grad)

    def distance(self, x: Tensor, x0: Tensor) -> Tensor:
        """(N,) the norm of x - x0, in float64 so that it can be compared with eps (on the CPU if x is on MPS)."""
        return REGIONS[self.norm].length(x, in_float64(x0))


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


class LinfRegion(BallRegion):
    norm = "linf"

    def __init__(self, x0: Tensor, eps: Eps):
        super().__init__(x0, eps)
        exact, eps64 = self.exact, self._size64
        low, high = (exact - eps64).clamp(min=0).to(x0.dtype), (exact + eps64).clamp(max=1).to(x0.dtype)
        # The cast may round outward by one ulp: step back inside, so that |x - x0| <= eps holds exactly.
        centre = exact.to(x0.dtype)
        self.low = torch.where(exact - low.double() > eps64, torch.nextafter(low, centre), low).to(x0.device)
        self.high = torch.where(high.double() - exact > eps64, torch.nextafter(high, centre), high).to(x0.device)

    @staticmethod
    def length(x: Tensor, exact: Tensor) -> Tensor:
        return difference(x, exact).abs().amax(1)

    @staticmethod
    def steepest(grad: Tensor) -> Tensor:
        return grad.sign()

    def project(self, point: Tensor) -> Tensor:
        return point.clamp(self.low, self.high)

    def sample(self, rng: torch.Generator) -> Tensor:
        noise = self._draw(torch.rand, self.x0.shape, rng)
        return self.project(self.x0 + (2 * noise - 1) * self.size)


class L2Region(BallRegion):
    norm = "l2"

    def __init__(self, x0: Tensor, eps: Eps):
        super().__init__(x0, eps)
        # Rounding x0 + delta to float32 moves each pixel by at most 2^-25, rounding delta * shrink its length by a
        # factor of at most 1 + 2^-23: keep that much away from the surface.
        eps64, lost = self._size64, math.sqrt(x0.shape[1:].numel()) * 2.0**-25
        self.radius: Eps
        if isinstance(eps64, Tensor):
            self.radius = torch.maximum((eps64 - lost) * (1 - 2.0**-22), 0.5 * eps64)
        else:
            self.radius = max((eps64 - lost) * (1 - 2.0**-22), 0.5 * eps64)

    @staticmethod
    def length(x: Tensor, exact: Tensor) -> Tensor:
        length: Tensor = torch.linalg.vector_norm(difference(x, exact), dim=1)
        return length

    @staticmethod
    def steepest(grad: Tensor) -> Tensor:
        largest = grad.abs().amax((1, 2, 3), keepdim=True)
        grad = grad / torch.where(largest > 0, largest, torch.ones_like(largest))  # squares must not under- or overflow
        length: Tensor = torch.linalg.vector_norm(grad, dim=(1, 2, 3), keepdim=True)
        return grad / torch.where(length > 0, length, torch.ones_like(length))

    def project(self, point: Tensor) -> Tensor:
        delta = point - self.x0
        # in float32 the length may be short by 1e-5
        length = torch.linalg.vector_norm(in_float64(delta), dim=(1, 2, 3), keepdim=True)
        shrink = (self.radius / length).clamp(max=1).to(delta)  # length 0 gives inf, clamped to 1
        return (self.x0 + delta * shrink).clamp(0, 1)  # clipping moves every pixel toward x0: still in the ball

    def nearest(self, x: Tensor) -> Tensor:
        """x0 + clip(s * change) with the largest share s <= 1 at which the clipped change is no longer than eps."""
        change = self._change(x)
        size, room = change.abs().flatten(1), self._room(change).flatten(1)
        ends = (room / size).nan_to_num(nan=math.inf)  # (N,D) the share at which each value meets the box
        ends, order = ends.sort(1)
        filled = room.gather(1, order).square().cumsum(1)  # squared length of what is clipped up to here
        free = size.gather(1, order).square().flip(1).cumsum(1).flip(1)  # and of what is free before here, at share 1
        before = torch.cat([torch.zeros_like(filled[:, :1]), filled[:, :-1]], 1)
        squared = (self._each_eps * INSIDE).square()
        share = ((squared - before) / free).clamp(min=0).sqrt().nan_to_num(nan=math.inf)
        fits = share <= ends
        piece = fits.int().argmax(1, keepdim=True)  # the first in which the length comes to eps
        share = torch.where(fits.any(1, keepdim=True), share.gather(1, piece), 1).clamp(max=1).view(-1, 1, 1, 1)
        return self._moved(change.sign() * torch.minimum(share * change.abs(), self._room(change)))

    def sample(self, rng: torch.Generator) -> Tensor:
        shape = self.x0.shape
        direction = self._draw(torch.randn, shape, rng)
        direction = direction / direction.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        u = self._draw(torch.rand, shape[:1], rng)
        scale = self.radius.flatten().to(u) if isinstance(self.radius, Tensor) else self.radius
        radius = scale * u ** (1 / shape[1:].numel())
        return self.project(self.x0 + direction * radius.view(-1, 1, 1, 1))


REGIONS: dict[str, type[BallRegion]] = {region.norm: region for region in (LinfRegion, L2Region, L1Region, L0Region)}
