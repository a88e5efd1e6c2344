"""L1 and L0 balls: few pixels change. Their exact projections onto the ball and [0, 1]."""

from __future__ import annotations

import torch
from torch import Tensor

from explorer.core.regions import INSIDE, BallRegion, difference


class L1Region(BallRegion):
    norm = "l1"

    @staticmethod
    def length(x: Tensor, exact: Tensor) -> Tensor:
        return difference(x, exact).abs().sum(1)

    @staticmethod
    def steepest(grad: Tensor) -> Tensor:
        first = torch.zeros_like(grad.flatten(1), dtype=torch.bool)
        first.scatter_(1, grad.flatten(1).abs().argmax(1, keepdim=True), True)
        return grad.sign() * first.view_as(grad)

    def project(self, point: Tensor) -> Tensor:
        """Soft threshold and clip, at the one threshold that spends eps (Croce and Hein, arXiv:2103.01208, section 2).

        To project onto the ball first and to clip then is something else: it wastes what is clipped.
        """
        change = self._change(point)
        size, room = change.abs().flatten(1), self._room(change).flatten(1)
        eps = self._each_eps
        kept = torch.minimum((size - threshold(size, room, eps)).clamp(min=0), room)
        total = kept.sum(1, keepdim=True)
        kept = kept * (INSIDE * eps / total).clamp(max=1)  # of a change without any, eps / 0 is clamped to 1
        return self._moved(change.sign() * kept.view_as(change))

    def sample(self, rng: torch.Generator) -> Tensor:
        """Uniform in the ball: D + 1 exponentials, divided by their sum, of which the last is left out."""
        size = -self._draw(torch.rand, self.x0.shape, rng).neg().log1p()
        rest = -self._draw(torch.rand, self.x0.shape[:1], rng).neg().log1p()
        signs = self._draw(torch.rand, self.x0.shape, rng).sub(0.5).sign()
        total = (size.flatten(1).sum(1) + rest).view(-1, 1, 1, 1)
        return self.project(self.x0 + self.size * signs * size / total)


def threshold(size: Tensor, room: Tensor, eps: Tensor) -> Tensor:
    """(N,1) the least t >= 0 at which sum_i min(max(size_i - t, 0), room_i) is at most eps (N,1); size, room (N,D) >= 0.

    The sum is piecewise straight in t: falling t, value i begins to count at size_i and is full at size_i - room_i.
    """
    turns, order = torch.cat([size, (size - room).clamp(min=0)], 1).sort(1, descending=True)
    counts = torch.cat([torch.ones_like(size), -torch.ones_like(size)], 1).gather(1, order).cumsum(1)
    gaps = turns - torch.cat([turns[:, 1:], torch.zeros_like(turns[:, :1])], 1)
    spent = (counts * gaps).cumsum(1)  # (N,2D) the sum at the lower end of each piece
    reached = spent >= eps
    piece = reached.int().argmax(1, keepdim=True)  # the first that spends eps
    upper, count, beyond = (v.gather(1, piece) for v in (turns, counts, spent - counts * gaps))
    return torch.where(reached.any(1, keepdim=True), upper - (eps - beyond) / count.clamp(min=1), 0).clamp(min=0)


class L0Region(BallRegion):
    norm = "l0"

    @staticmethod
    def length(x: Tensor, exact: Tensor) -> Tensor:
        return (x.to(exact.device) != exact).any(1).flatten(1).sum(1).double()

    @staticmethod
    def steepest(grad: Tensor) -> Tensor:
        first = torch.zeros_like(grad[:, :1].flatten(1), dtype=torch.bool)
        first.scatter_(1, grad.abs().sum(1).flatten(1).argmax(1, keepdim=True), True)
        return grad.sign() * first.view_as(grad[:, :1])

    def project(self, point: Tensor) -> Tensor:
        """Keep the eps pixels, over channels, whose change gains most once it is clipped: exactly the nearest point."""
        clipped, exact = point.clamp(0, 1), point.to(self.exact)
        gain = ((exact - self.exact).square() - (exact - clipped.to(exact)).square()).sum(1)  # (N,H,W)
        return torch.where(self._largest(gain).to(point.device), clipped, self.x0)

    def sample(self, rng: torch.Generator) -> Tensor:
        where = self._largest(self._draw(torch.rand, self.x0[:, 0].shape, rng))
        return torch.where(where, self._draw(torch.rand, self.x0.shape, rng), self.x0)

    def _largest(self, values: Tensor) -> Tensor:
        """(N,1,H,W) bool: the eps pixels of each image with the largest values (N,H,W), of equals the first."""
        ranks = values.flatten(1).argsort(dim=1, descending=True, stable=True).argsort(dim=1).view_as(values)[:, None]
        return ranks < (self.eps.to(values.device).view(-1, 1, 1, 1) if isinstance(self.eps, Tensor) else self.eps)
