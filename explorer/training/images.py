"""The images of a run: those trained on and those held out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from explorer.core import seeded
from explorer.data import Arriving
from explorer.training.augment import Augmented, Unchanged

HELD_OUT = 1000  # training images never trained on, the same for every recipe and seed


@dataclass(frozen=True, eq=False)
class TrainingImages:
    """N images to train on, M held out, all on the run's device."""

    trained: Augmented | Unchanged  # of (N,C,H,W) uint8
    labels: Tensor  # (N,) int64
    held_x: HeldOut  # (M,C,H,W) float32 in [0,1]
    held_y: Tensor  # (M,) int64


class HeldOut:
    """The images held out, (M,C,H,W) float32 in [0,1] on the run's device; decoded once they are asked for.

    A run watches a few of them from its start on, and needs the others at the end of its first epoch.
    """

    def __init__(self, pixels: Tensor | Arriving, rows: Tensor, device: torch.device):
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


class Coming:
    """Some rows of arriving pixels; on the run's device once all of them are there.

    The first batch is decoded alone, so that the first update comes soon; from the second on a thread decodes the rest.
    """

    def __init__(self, arriving: Arriving, rows: Tensor, device: torch.device):
        self._arriving: Arriving | None = arriving
        self._rows, self._device, self._begun = rows, device, False

    def __getitem__(self, rows: Tensor) -> Tensor:
        """(B,C,H,W) uint8 on the device, of the images at `rows` (B,)."""
        if self._arriving is not None:
            whole = self._arriving.whole
            if whole is None:
                if self._begun:
                    self._arriving.decode_all()
                self._begun = True
                return self._arriving[self._rows[rows.cpu()]].to(self._device)
            self._pixels, self._arriving = whole[self._rows].to(self._device), None
        return self._pixels[rows]


def split(
    pixels: Tensor | Arriving, labels: Tensor, limit: int | None, device: torch.device, augment: bool = True
) -> TrainingImages:
    """A training set (pixels uint8) in two; `limit`: only that many images to train on, and a quarter of that held out.

    Of pixels that are still to arrive, only those needed at once are waited for.
    """
    order = torch.randperm(len(labels), generator=seeded(0))  # the split never changes
    held, used = order[:HELD_OUT], order[HELD_OUT:]
    if limit is not None:
        held, used = held[: max(limit // 4, 1)], used[:limit]
    if isinstance(pixels, Arriving) and limit is None:
        trained = Coming(pixels, used, device)
    else:
        trained = pixels[used].to(device)
    return TrainingImages(
        (Augmented if augment else Unchanged)(trained), labels[used].to(device), HeldOut(pixels, held, device), labels[held].to(device)
    )
