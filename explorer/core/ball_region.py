"""A norm ball around given images, cut to [0, 1]: what the regions of all four norms share."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from explorer.core.threat import Region

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
