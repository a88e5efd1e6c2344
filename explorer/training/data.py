"""The images of a run: data augmentation (random crops and flips), and the split into those trained on and those held out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from explorer.core import sample_batch, seeded
from explorer.data import LazyPixels

HELD_OUT = 1000  # training images never trained on, the same for every recipe and seed; of a small set a fifth
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

    def __init__(self, pixels: Stored, flips: bool = True):
        self.pixels, self.flips = pixels, flips

    def batch(self, rows: Tensor, rng: torch.Generator) -> Tensor:
        """(B,C,H,W) of the images at `rows` (B,)."""
        pixels = self.pixels[rows]  # (B,C,H,W)
        height, width = pixels.shape[-2:]
        windows = F.pad(pixels, (PAD,) * 4).unfold(2, height, 1).unfold(3, width, 1)  # (B,C,9,9,H,W)
        shifts = sample_batch(
            lambda n: torch.randint(0, 2 * PAD + 1, (*n, 2), generator=rng, device=rng.device), rows.shape
        )
        dy, dx = shifts.to(rows.device).unbind(1)
        x = windows[torch.arange(len(rows), device=rows.device), :, dy, dx]
        flip = sample_batch(lambda n: torch.rand(n, generator=rng, device=rng.device), rows.shape).to(rows.device) < 0.5
        flip = flip & self.flips  # drawn in any case: the crops do not depend on it
        return torch.where(flip.view(-1, 1, 1, 1), x.flip(-1), x).float() / 255


@dataclass(frozen=True, eq=False)
class TrainingImages:
    """N images to train on, M held out, all on the run's device."""

    trained: Augmented | Unchanged  # of (N,C,H,W) uint8
    labels: Tensor  # (N,) int64
    held_x: HeldOut  # (M,C,H,W) float32 in [0,1]
    held_y: Tensor  # (M,) int64


class HeldOut:
    """The images held out, (M,C,H,W) float32 in [0,1] on the run's device; decoded once they are asked for.

    A run shows a few of them from its start on (`preview`), and needs the others at the end of its first epoch.
    """

    def __init__(self, pixels: Tensor | LazyPixels, rows: Tensor, device: torch.device):
        self._pixels, self._rows, self._device = pixels, rows, device

    def __getitem__(self, rows: Tensor | slice) -> Tensor:
        """(B,C,H,W) those at `rows` (B,), or in a slice."""
        found = self._rows[rows.cpu() if isinstance(rows, Tensor) else rows]
        return (self._pixels[found].float() / 255).to(self._device)

    def __len__(self) -> int:
        return len(self._rows)

    @cached_property
    def whole(self) -> Tensor:
        """All of them; kept from then on."""
        return self[:]


class LazyRows:
    """Some rows of lazily decoded pixels; on the run's device once all of them are there.

    The first batch is decoded alone, so that the first update comes soon; from the second on a thread decodes the rest.
    """

    def __init__(self, lazy: LazyPixels, rows: Tensor, device: torch.device):
        self._lazy: LazyPixels | None = lazy
        self._rows, self._device, self._begun = rows, device, False

    def __getitem__(self, rows: Tensor) -> Tensor:
        """(B,C,H,W) uint8 on the device, of the images at `rows` (B,)."""
        if self._lazy is not None:
            whole = self._lazy.whole
            if whole is None:
                if self._begun:
                    self._lazy.decode_all()
                self._begun = True
                return self._lazy[self._rows[rows.cpu()]].to(self._device)
            self._pixels, self._lazy = whole[self._rows].to(self._device), None
        return self._pixels[rows]


def held_out(images: int) -> int:
    """How many of so many training images are never trained on."""
    return min(HELD_OUT, max(images // 5, 1))


def split(
    pixels: Tensor | LazyPixels, labels: Tensor, limit: int | None, device: torch.device, augment: bool = True,
    flips: bool = True,
) -> TrainingImages:  # fmt: skip
    """A training set (pixels uint8) in two; `limit`: only that many images to train on, and a quarter of that held out.

    `flips`: whether a mirrored picture is still of its class.

    Of pixels that are still to be decoded, only those needed at once are waited for.
    """
    order = torch.randperm(len(labels), generator=seeded(0))  # the split never changes
    count = held_out(len(labels))
    held, used = order[:count], order[count:]
    if limit is not None:
        held, used = held[: max(limit // 4, 1)], used[:limit]
    trained: Tensor | LazyRows
    if isinstance(pixels, LazyPixels) and limit is None:
        trained = LazyRows(pixels, used, device)
    else:
        trained = pixels[used].to(device)
    return TrainingImages(
        Augmented(trained, flips) if augment else Unchanged(trained),
        labels[used].to(device),
        HeldOut(pixels, held, device),
        labels[held].to(device),
    )
