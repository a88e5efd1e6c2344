"""Regions of norm balls; those of Linf and L2, where every pixel changes a little (of L1 and L0: `sparse`)."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from explorer.core.threat import Eps, Region, in_float64

INSIDE = 1 - 2.0**-40  # of eps: what is computed in float64 may be rounded


class BallRegion(Region):
    """A ball around given images, cut to [0, 1]."""

    norm: ClassVar[str]

    @staticmethod
    def length(x: Tensor, exact: Tensor) -> Tensor:
        """(N,) float64: the norm of x - exact, where `exact` is in float64 already, so that the difference is, too."""
        raise NotImplementedError

    @staticmethod
    def steepest(grad: Tensor) -> Tensor:
        raise NotImplementedError

    def distance(self, point: Tensor) -> Tensor:
        return self.length(point, self.exact)

    def contains(self, point: Tensor) -> Tensor:
        return super().contains(point) & ((point >= 0) & (point <= 1)).flatten(1).all(1)

    def nearest(self, x: Tensor) -> Tensor:
        """The exact projection onto ball and box."""
        return self.project(x)

    def _change(self, x: Tensor) -> Tensor:
        """(N,C,H,W) float64 x - x0."""
        return x.to(self.exact) - self.exact

    def _room(self, change: Tensor) -> Tensor:
        """(N,C,H,W) float64 how far each value may go in the direction of its change."""
        return torch.where(change > 0, 1 - self.exact, self.exact)

    def _moved(self, change: Tensor) -> Tensor:
        """x0 + change (float64), rounded toward x0."""
        x = (self.exact + change).to(self.x0.dtype)
        outward = (x.double() - self.exact).abs() > change.abs()
        return torch.where(outward, torch.nextafter(x, self.exact.to(x.dtype)), x).to(self.x0.device)


def difference(x: Tensor, exact: Tensor) -> Tensor:
    """(N,D) float64 x - exact."""
    return ((x if x.device == exact.device else x.cpu()) - exact).flatten(1)


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
        shrink: Tensor = (self.radius / length).clamp(max=1).to(delta)  # length 0 gives inf, clamped to 1
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
