"""The images of a run: those trained on and those held out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from explorer.core import seeded
from explorer.training.augment import Augmented, Unchanged

HELD_OUT = 1000  # training images never trained on, the same for every recipe and seed


@dataclass(frozen=True, eq=False)
class TrainingImages:
    """N images to train on, M held out, all on the run's device."""

    trained: Augmented | Unchanged  # of (N,C,H,W) uint8
    labels: Tensor  # (N,) int64
    held_x: Tensor  # (M,C,H,W) float32 in [0,1]
    held_y: Tensor  # (M,) int64


def split(
    pixels: Tensor, labels: Tensor, limit: int | None, device: torch.device, augment: bool = True
) -> TrainingImages:
    """A training set (pixels uint8) in two; `limit`: only that many images to train on, and a quarter of that held out."""
    order = torch.randperm(len(labels), generator=seeded(0))  # the split never changes
    held, used = order[:HELD_OUT], order[HELD_OUT:]
    if limit is not None:
        held, used = held[: max(limit // 4, 1)], used[:limit]
    return TrainingImages(
        (Augmented if augment else Unchanged)(pixels[used].to(device)),
        labels[used].to(device),
        (pixels[held].float() / 255).to(device),
        labels[held].to(device),
    )
