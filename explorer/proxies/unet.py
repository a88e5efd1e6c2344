"""A small class-conditional U-Net (Ronneberger et al., arXiv:1505.04597) that gives a velocity for each pixel."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GROUPS = 8  # of group norm
PATCH = 2  # pixels a side that are one place of the network
FREQUENCIES = 32  # pairs of sine and cosine that tell the time


class UNet(nn.Module):
    """Pixels (N,C,H,W) around 0, times t (N,) in [0,1] and classes y (N,), K for "no class", to a velocity (N,C,H,W).

    Two levels (width, twice the width) on squares of PATCH x PATCH pixels, one residual block each way, and attention
    at the lower level.
    """

    def __init__(self, channels: int, classes: int, width: int = 32):
        super().__init__()
        told, inner = 4 * width, channels * PATCH * PATCH
        self.of_time = nn.Sequential(nn.Linear(2 * FREQUENCIES, told), nn.SiLU(), nn.Linear(told, told))
        self.of_class = nn.Embedding(classes + 1, told)
        self.first = nn.Conv2d(inner, width, 3, padding=1)
        self.down = Block(width, width, told)
        self.halve = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.low = Block(2 * width, 2 * width, told)
        self.attend = Attention(2 * width)
        self.middle = Block(2 * width, 2 * width, told)
        self.up = Block(3 * width, width, told)
        self.norm = nn.GroupNorm(GROUPS, width)
        self.last = nn.Conv2d(width, inner, 3, padding=1)
        for parameter in self.last.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        told = F.silu(self.of_time(waves(t)) + self.of_class(y))  # (N, 4 width)
        high = self.down(self.first(F.pixel_unshuffle(x, PATCH)), told)
        low = self.middle(self.attend(self.low(self.halve(high), told)), told)
        low = F.interpolate(low, size=high.shape[-2:])
        out = self.up(torch.cat((low, high), 1), told)
        return F.pixel_shuffle(self.last(F.silu(self.norm(out))), PATCH)


class Block(nn.Module):
    """Two convolutions around a shift and a scale that follow from time and class, and a shortcut."""

    def __init__(self, inputs: int, outputs: int, told: int):
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, inputs)
        self.one = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.told = nn.Linear(told, 2 * outputs)
        self.again = nn.GroupNorm(GROUPS, outputs)
        self.two = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.short = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        scale, shift = self.told(told)[:, :, None, None].chunk(2, 1)
        h = self.one(F.silu(self.norm(x)))
        h = self.two(F.silu(self.again(h) * (1 + scale) + shift))
        return self.short(x) + h


class Attention(nn.Module):
    """One head of self-attention over all places."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).flatten(2).transpose(1, 2).chunk(3, 2)  # (N, H*W, channels) each
        seen = F.scaled_dot_product_attention(q, k, v)
        return x + self.out(seen.transpose(1, 2).reshape(x.shape))


def waves(t: Tensor) -> Tensor:
    """(N, 2 FREQUENCIES) sines and cosines of times t (N,), from slow to fast."""
    rates = torch.exp(torch.linspace(0, math.log(1000.0), FREQUENCIES, device=t.device))
    angles = t[:, None] * rates
    return torch.cat((angles.sin(), angles.cos()), 1)
