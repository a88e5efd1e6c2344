"""Sound randomized smoothing in floating point: discrete Gaussian noise on the grid of 8-bit pixels, drawn exactly.

Voracek & Hein, "Sound Randomized Smoothing in Floating-Point Arithmetic", ICLR 2023 (arXiv:2207.07209). Adding float
noise to float pixels rounds, and which sums can come out depends on the picture: a network could read it off, and its
certificate would be false. Here the network that is certified begins by rounding its input to multiples of 1/255 and
clipping it to [-k, k+1], k = max(1, floor(6 sigma)). For an 8-bit picture the rounded sum is then the picture plus
noise rounded to the grid, whose probabilities are known exactly, and which is drawn from 60 random bits by comparing
whole numbers. Nothing is lost by the clipping: noise beyond k+1 ends at the same value as noise of k+1.

The error analysis. Cell i of the grid gets floor(2^60 p_i) of the 2^60 whole numbers, never more than its share
p_i = Phi((2i+1)/(510 sigma)) - Phi((2i-1)/(510 sigma)). The few numbers left over, at most two a cell, belong to none:
a picture that meets one votes for no class and still counts in n. So each class's chance to be voted for is at most the
true one, and the lower bound holds. Phi is computed in decimal arithmetic of 50 digits by a series of positive terms;
its error, below 1e-38, is far less than the margin of 1e-12 / 2^60 that is taken off each share.

What is assumed: that the generator's bits are fair coins (they are pseudorandom), and that the network gives one and the
same class to the same pixels, whatever else is in its batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Context, Decimal, localcontext
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from explorer.core import InvalidValue

LEVELS = 255  # steps of the grid in one unit of pixel value
BITS = 60  # of each random number
TOP = 16  # of them, which alone decide nearly every cell
VOID = np.iinfo(np.int16).max  # in place of a cell: the number belongs to none
DIGITS = 50
FARTHEST = 13  # standard deviations, beyond which the tail (below 1e-38) is nothing beside the margin
MARGIN = Decimal("1e-12")  # of one of the 2^60 numbers
SLACK = 1e-9  # taken off a sound certificate's bound: far above any error of scipy's quantiles


@dataclass(frozen=True, eq=False)
class Grid:
    """The noise of one sigma on the grid, in steps of 1/255: cell i is step i - `reach`."""

    sigma: float
    k: int  # pixels are clipped to [-k, k+1]
    edges: np.ndarray  # (2 reach + 1,) uint64: cell i has the numbers edges[i-1] <= u < edges[i]
    table: np.ndarray  # (2^16,) int32: the cell by the top bits; -1 where they do not decide

    @property
    def reach(self) -> int:
        """The most steps that the noise can go."""
        return LEVELS * (self.k + 1)

    def steps(self, numbers: np.ndarray) -> np.ndarray:
        """Noise in steps of 1/255, int32 in [-reach, reach] or VOID, from whole numbers in [0, 2^60)."""
        cells = self.table[(numbers >> np.uint64(BITS - TOP)).astype(np.intp)]
        unclear = cells < 0
        cells[unclear] = np.searchsorted(self.edges, numbers[unclear], side="right")
        return np.where(cells < len(self.edges), cells - self.reach, VOID)

    def draw(self, rng: np.random.Generator, out: np.ndarray) -> None:
        """Fill the int16 array with noise."""
        out[...] = self.steps(rng.integers(0, 2**BITS, out.shape, dtype=np.uint64))

    def noisy(self, levels: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels (b,C,H,W) float32, each m/255 with a whole m, and which of the b pictures are void, (b,) bool.

        levels (C,H,W) and steps (b,C,H,W) are int16 on one device.
        """
        void = (steps == VOID).flatten(1).any(1)
        whole = (levels.int() + steps).clamp_(-LEVELS * self.k, LEVELS * (self.k + 1))
        return whole.float() / LEVELS, void


def levels_of(x: Tensor) -> Tensor:
    """The picture's 8-bit levels, int16; raises InvalidValue if a pixel is no multiple of 1/255."""
    levels = (x.float() * LEVELS).round()
    if not torch.equal(levels / LEVELS, x.float()):
        raise InvalidValue(
            "a sound certificate needs an 8-bit picture, every pixel a multiple of 1/255: round it, or certify it without."
        )
    return levels.to(torch.int16)


@lru_cache(maxsize=16)
def grid(sigma: float) -> Grid:
    """The noise of this sigma (pixel units); takes 0.1 s for 0.25 and seconds for 10, once."""
    k = max(1, math.floor(6 * sigma))
    counts = _counts(sigma, LEVELS * (k + 1))
    edges = np.cumsum(np.array(counts, np.uint64), dtype=np.uint64)
    first = np.arange(2**TOP, dtype=np.uint64) << np.uint64(BITS - TOP)
    last = first | np.uint64(2 ** (BITS - TOP) - 1)
    lowest, highest = (np.searchsorted(edges, ends, side="right").astype(np.int32) for ends in (first, last))
    return Grid(sigma, k, edges, np.where(lowest == highest, lowest, -1).astype(np.int32))


def _counts(sigma: float, reach: int) -> list[int]:
    """How many of the 2^60 numbers each of the 2 reach + 1 cells gets, never more than its share."""
    with localcontext(Context(prec=DIGITS)):
        width = Decimal(2 * LEVELS) * Decimal(sigma)
        tails = [upper_tail(Decimal(2 * i - 1) / width) for i in range(1, reach + 1)]
        shares = [
            1 - 2 * tails[0],
            *(here - there for here, there in zip(tails, [*tails[1:], Decimal(0)], strict=True)),
        ]
        half = [max(0, int((share * 2**BITS - MARGIN).to_integral_value(ROUND_FLOOR))) for share in shares]
    return [*half[:0:-1], *half]


def upper_tail(z: Decimal) -> Decimal:
    """1 - Phi(z) for z >= 0 with an absolute error below 1e-38, in the current context (50 digits).

    1/2 - phi(z) * (z + z^3/3 + z^5/(3 5) + z^7/(3 5 7) + ...): all terms positive, so that nothing cancels in the sum.
    """
    if z >= FARTHEST:
        return Decimal(0)
    square, term, total, odd = z * z, z, z, 1
    while term > total.scaleb(-DIGITS):
        odd += 2
        term = term * square / odd
        total += term
    return Decimal("0.5") - (-square / 2).exp() / (2 * PI).sqrt() * total


PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459")
