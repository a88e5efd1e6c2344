"""The base class of all generators: settings, fitting to labelled images, drawing images of given classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from explorer.core import Hyper, InvalidValue, param
from explorer.data import dataset, raw
from explorer.training.data import split

Progress = Callable[[int, int], None]  # done, of how many


@dataclass(frozen=True, eq=False)
class Real:
    """Real images of one dataset, on the CPU."""

    pixels: Tensor  # (N,C,H,W) uint8
    labels: Tensor  # (N,) int64
    dataset: str

    def __len__(self) -> int:
        return len(self.labels)

    def first(self, n: int) -> Real:
        """The first n of them."""
        return Real(self.pixels[:n], self.labels[:n], self.dataset)

    @property
    def classes(self) -> int:
        return len(dataset(self.dataset).classes)


def halves(name: str) -> tuple[Real, Real]:
    """A dataset's training images, those held out for scores aside, in two halves.

    Generators are fitted to the first; a classifier that is given up to so many real images (`limit`) is trained on the first of
    these. The other half is what `real` draws from. Raises as `data.raw` does.
    """
    pixels, labels, _ = raw(name, "train")
    images = split(pixels, labels, None, torch.device("cpu"), augment=False)
    own = images.trained.pixels[torch.arange(len(images.labels))]  # (N,C,H,W), in the order of every run
    half = len(own) // 2
    return Real(own[:half], images.labels[:half], name), Real(own[half:], images.labels[half:], name)


@dataclass(frozen=True)
class Generator(Hyper):
    """How a generator is fitted, and how it draws. What it has learned is tensors by name, which the store keeps."""

    smoke: ClassVar[Mapping[str, Any]] = {}  # overrides of a fit that only shows that it works
    other_half: ClassVar[bool] = False  # given the half that classifiers do not see

    seed: int = param(0, "seed", lo=0, hi=2**31 - 1, help="Seeds the weights and every draw of the fit.")

    def fit(self, real: Real, device: torch.device, work: Path, progress: Progress) -> dict[str, Tensor]:
        """Learn from real images; `work` is a folder for what must outlive a kill. Returns what was learned, on the CPU."""
        raise NotImplementedError

    def draw(
        self, learned: Mapping[str, Tensor], labels: Tensor, shape: tuple[int, ...], rng: torch.Generator
    ) -> Tensor:
        """(N,C,H,W) float32 in [0,1], one image of each class in labels (N,); on the device of `rng`. `shape` is (C,H,W)."""
        raise NotImplementedError


def balanced_labels(n: int, classes: int) -> Tensor:
    """(n,) 0, 1, 2 ... 0, 1, 2: every prefix has as many of one class as of another. Raises InvalidValue for n below 1."""
    if n < 1:
        raise InvalidValue(f"n must be at least 1 image; got {n}.")
    return torch.arange(n) % classes
