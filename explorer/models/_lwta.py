"""Stochastic local winner-takes-all units, in place of ReLU."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from explorer.core import InvalidValue, current_rng, sample_like


class WinnerTakesAll(nn.Module):
    """Stochastic local winner-takes-all (Panousis et al., arXiv:2112.02671).

    Channels form blocks of `units` (channel i with i + C/units, ...); in each block and position one unit wins, drawn with probability
    q = softmax(h), and only it passes its activation on.

    Training draws a relaxed winner, softmax((h + G) / temperature) with Gumbel noise G, and leaves the block
    average of KL(q || uniform) in `kl`. Evaluation draws a real winner (argmax(h + G)).
    differs: the authors keep the relaxed draw at temperature 0.01 in evaluation. Its limit, used here, has one winner
    per block, and its straight-through gradient (that of the training relaxation) does not blind an attack.

    `winners` is what evaluation does: "drawn" as above, "relaxed" the training's soft winners, or "expected" their mean
    q without any draw. The last two are other networks, for an attack to craft its images on.
    """

    def __init__(self, units: int = 2, temperature: float = 0.67):
        super().__init__()
        self.units, self.temperature = units, temperature
        self.winners: Literal["drawn", "relaxed", "expected"] = "drawn"
        self.kl: Tensor | None = None  # of the last training pass

    def forward(self, h: Tensor) -> Tensor:
        n, c, height, width = h.shape
        if c % self.units:
            raise InvalidValue(f"channels must be a multiple of the {self.units} units of a block; got {c}.")
        if self.units == 2:
            return self._pairs(h)
        blocks = h.reshape(n, self.units, c // self.units, height, width)
        if self.winners == "expected" and not self.training:
            return (blocks * torch.softmax(blocks, dim=1)).reshape(h.shape)
        noise = sample_like(blocks, lambda room: room.exponential_(generator=current_rng(h.device)))
        noisy = blocks - noise.log().to(h.dtype)  # -log of an exponential variable is Gumbel
        soft = torch.softmax(noisy / self.temperature, dim=1)
        if self.training:
            self.kl = kl_to_uniform(torch.softmax(blocks.float(), dim=1), dim=1)
        if self.training or self.winners == "relaxed":
            return (blocks * soft).reshape(h.shape)
        winner = F.one_hot(noisy.argmax(1), self.units).movedim(-1, 1).to(h.dtype)
        return (blocks * (winner + (soft - soft.detach()))).reshape(h.shape)

    def _pairs(self, h: Tensor) -> Tensor:
        """Two units a block: the difference of two Gumbel variables is logistic, so one draw serves a block."""
        first, second = h.chunk(2, dim=1)
        gap = first - second
        if self.winners == "expected" and not self.training:
            share = torch.sigmoid(gap)
            return torch.cat((first * share, second * (1 - share)), dim=1)
        u = sample_like(gap, lambda room: room.uniform_(1e-6, 1 - 1e-6, generator=current_rng(gap.device)))
        noisy = gap + torch.logit(u).to(gap.dtype)
        soft = torch.sigmoid(noisy / self.temperature)
        if self.training:
            wide = gap.float()
            # entropy of (q, 1-q) with q = sigmoid(gap): softplus(gap) - q*gap
            self.kl = math.log(2) - (F.softplus(wide) - torch.sigmoid(wide) * wide).mean()
        if self.training or self.winners == "relaxed":
            win = soft
        else:
            win = (noisy > 0).to(gap.dtype) + (soft - soft.detach())
        return torch.cat((first * win, second * (1 - win)), dim=1)


def kl_to_uniform(q: Tensor, dim: int) -> Tensor:
    """Mean over blocks of KL(q || uniform) = log U - H(q); a scalar."""
    return math.log(q.shape[dim]) + torch.xlogy(q, q).sum(dim).mean()


def activation_of(units: int, temperature: float) -> Callable[[], nn.Module]:
    """Makes the activations of a network: ReLU for `units` 0, else winner-takes-all blocks of that size."""
    return (lambda: WinnerTakesAll(units, temperature)) if units else nn.ReLU


def kl_of_last_pass(model: nn.Module) -> Tensor:
    """Sum over a network's LWTA layers of the last training pass's KL(q || uniform), a scalar."""
    return torch.stack([m.kl for m in model.modules() if isinstance(m, WinnerTakesAll) and m.kl is not None]).sum()
