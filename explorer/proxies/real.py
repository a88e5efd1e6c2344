"""Real images, the control of every proxy: those of the training set that no classifier here is trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from explorer.core import InvalidValue
from explorer.proxies import GENERATORS
from explorer.proxies.generator import Generator, Progress, Real


@GENERATORS.register(
    "real",
    title="Other real images",
    summary="The control: the other half of the real images, so that it is no proxy at all.",
)
@dataclass(frozen=True)
class OtherReal(Generator):
    """Draws without replacement, class by class, so at most as many of a class as there are."""

    other_half: ClassVar[bool] = True

    def fit(self, real: Real, device: torch.device, work: Path, progress: Progress) -> dict[str, Tensor]:
        """The pictures themselves: `pixels` (N,C,H,W) uint8, `labels` (N,)."""
        return {"pixels": real.pixels, "labels": real.labels}

    def draw(
        self, learned: Mapping[str, Tensor], labels: Tensor, shape: tuple[int, ...], rng: torch.Generator
    ) -> Tensor:
        rows = torch.empty(len(labels), dtype=torch.int64)
        for k in labels.unique():
            wanted, there = (labels == k).nonzero().flatten(), (learned["labels"] == k).nonzero().flatten()
            if len(wanted) > len(there):
                raise InvalidValue(
                    f"n asks for {len(wanted):,} real images of class {int(k)}; there are {len(there):,}."
                )
            order = torch.randperm(len(there), generator=rng, device=rng.device).cpu()
            rows[wanted] = there[order[: len(wanted)]]
        return learned["pixels"][rows].to(rng.device).float() / 255
