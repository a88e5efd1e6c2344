"""From stored pixels to a batch: flips and crops, drawn from a given generator, or the pixels as they are."""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from explorer.core import sample_batch

PAD = 4


class Stored(Protocol):
    """Pixels that are asked for by rows (B,): (B,C,H,W) uint8. A tensor of them is one."""

    def __getitem__(self, rows: Tensor, /) -> Tensor: ...


class Unchanged:
    """The stored pixels (N,C,H,W) uint8 as they are, as float32 [0,1] batches."""

    def __init__(self, pixels: Stored):
        self.pixels = pixels

    def batch(self, rows: Tensor, rng: torch.Generator) -> Tensor:
        """(B,C,H,W) of the images at `rows` (B,)."""
        return self.pixels[rows].float() / 255


class Augmented:
    """Random crops (zero padding 4) and horizontal flips of pixels (N,C,H,W) uint8, as float32 [0,1] batches."""

    def __init__(self, pixels: Stored):
        self.pixels = pixels

    def batch(self, rows: Tensor, rng: torch.Generator) -> Tensor:
        """(B,C,H,W) of the images at `rows` (B,)."""
        pixels = self.pixels[rows]  # (B,C,H,W)
        height, width = pixels.shape[-2:]
        windows = F.pad(pixels, (PAD,) * 4).unfold(2, height, 1).unfold(3, width, 1)  # (B,C,9,9,H,W)
        shifts = sample_batch(lambda n: torch.randint(0, 2 * PAD + 1, (*n, 2), generator=rng, device=rng.device), rows.shape)
        dy, dx = shifts.to(rows.device).unbind(1)
        x = windows[torch.arange(len(rows), device=rows.device), :, dy, dx]
        flip = sample_batch(lambda n: torch.rand(n, generator=rng, device=rng.device), rows.shape).to(rows.device) < 0.5
        return torch.where(flip.view(-1, 1, 1, 1), x.flip(-1), x).float() / 255
