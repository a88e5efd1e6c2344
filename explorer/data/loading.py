"""Datasets as tensors: the whole set where it can be found, else the sample that comes with the package."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from explorer.core import DataUnavailable, InvalidValue, seeded
from explorer.data import archives, bundled, decoded, parquet
from explorer.data.folders import data_folders
from explorer.data.lazy import LazyPixels
from explorer.data.parquet import Corrupt
from explorer.data.specs import Dataset, check_split, dataset

Source = Literal["auto", "sample", "full"]
SOURCES: tuple[str, ...] = get_args(Source)
SEED_LIMIT = 2**63 - 1

Layout = Literal["sample", "parquet", "torchvision"]


@dataclass(frozen=True, eq=False)
class Images:
    """Labelled images and where they came from."""

    x: Tensor  # (N,C,H,W) float32 in [0,1]
    y: Tensor  # (N,) int64
    classes: tuple[str, ...]
    name: str
    split: str
    index: Tensor  # (N,) int64: row in the full split (for the bundled sample, in the one it was drawn from)
    source: str  # "bundled sample", or "full test set (parquet)" and the like

    def __len__(self) -> int:
        return len(self.y)


def load(name: str, split: str = "test", n: int | None = None, seed: int = 0, source: str = "auto") -> Images:
    """`n` images of a dataset, evenly from all classes (counts differ by at most one); None: all, in their own order.

    The choice depends on the data, `n` and `seed` alone, and a larger `n` begins with the images of a smaller one.
    `source`: "auto" takes the full set where there is one, else the bundled sample; "sample" and "full" insist.
    Raises UnknownName (dataset, split), InvalidValue (n, seed, source), DataUnavailable (not here, or damaged).
    """
    spec = dataset(name)
    if n is not None and not (_whole(n) and 1 <= n <= spec.rows[check_split(split)]):
        raise InvalidValue(f"n must be a whole number in [1, {spec.rows[split]}], or None for all; got {n!r}.")
    if not (_whole(seed) and 0 <= seed <= SEED_LIMIT):
        raise InvalidValue(f"seed must be a whole number in [0, 2^63); got {seed!r}.")
    table = _table(name, split, source)
    if n is not None and n > len(table.labels):
        raise DataUnavailable(
            f"The bundled sample of {spec.title} holds {len(table.labels):,} images, fewer than the {n:,} asked for: "
            f"ask for fewer, run `python -m explorer data download {name}`, or set EXPLORER_DATA to the full set."
        )
    rows = slice(None) if n is None else balanced(table.labels, n, seed)
    x = table.pixels[rows].to(torch.float32) / 255
    return Images(x, table.labels[rows].clone(), spec.classes, name, split, table.index[rows].clone(), table.source)


def check(name: str, split: str) -> None:
    """Raises as `raw` does where a split is not on this computer; reads nothing of it."""
    spec = dataset(name)
    if _find_full(spec, check_split(split)) is None:
        _find_sample(spec, split, "auto")


def raw(name: str, split: str, source: str = "auto") -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """Everything found: pixels (N,C,H,W) uint8, labels (N,) int64, class names.

    Kept in memory and handed to every caller: read it, never write to it. Raises as `load` does.
    """
    table = _table(name, split, source)
    return table.pixels, table.labels, dataset(name).classes


@contextmanager
def as_needed(name: str, split: str) -> Iterator[tuple[Tensor | LazyPixels, Tensor]]:
    """Pixels and labels as `raw` gives them; pixels that nobody has decoded on this computer yet are decoded lazily.

    Raises as `load` does; for a picture that cannot be decoded, where its pixels are asked for.
    """
    place = _find(dataset(name), check_split(split), "auto")
    lazy = None if place.layout != "parquet" or _kept(place) is not None else _lazy_parquet(place)
    if lazy is None:
        yield raw(name, split)[:2]
        return
    try:
        yield lazy
    finally:
        lazy[0].close()


def balanced(labels: Tensor, n: int, seed: int) -> Tensor:
    """(n,) rows drawn at random without replacement, so that every prefix has as many of one class as of another."""
    order = torch.randperm(len(labels), generator=seeded(seed))
    shuffled = labels[order]
    rank = torch.empty_like(order)  # how many of the same class come before, in the shuffled order
    for label in shuffled.unique():
        same = shuffled == label
        rank[same] = torch.arange(int(same.sum()))
    return order[rank.argsort(stable=True)][:n]


def _whole(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


@dataclass(frozen=True)
class _Place:
    """Where a split was found. `stamp` (sizes and times) makes the in-process cache notice a replaced file."""

    name: str
    split: str
    layout: Layout
    root: Path
    files: tuple[Path, ...]
    stamp: tuple[tuple[int, int], ...]


@dataclass(frozen=True, eq=False)
class _Table:
    pixels: Tensor  # (N,C,H,W) uint8
    labels: Tensor  # (N,) int64
    index: Tensor  # (N,) int64
    source: str


def _table(name: str, split: str, source: str) -> _Table:
    spec = dataset(name)
    check_split(split)
    if source not in SOURCES:
        raise InvalidValue(f"source must be one of {', '.join(SOURCES)}; got {source!r}.")
    place = _find(spec, split, source)
    with _reading:
        return _read(place)


_reading = threading.Lock()  # two sessions that ask at once decode once


def _find(spec: Dataset, split: str, source: str) -> _Place:
    place = None if source == "sample" else _find_full(spec, split)
    return _find_sample(spec, split, source) if place is None else place


def _find_full(spec: Dataset, split: str) -> _Place | None:
    for root in data_folders():
        layout: Layout = "parquet"
        try:
            if files := parquet.shards(root / spec.name, split):
                return _place(spec, split, layout, root, files)
            layout = "torchvision"
            if files := archives.files(root, spec.name):
                return _place(spec, split, layout, root, files)
        except (Corrupt, OSError) as problem:
            raise _unusable(spec, split, layout, problem) from problem
    return None


def _find_sample(spec: Dataset, split: str, source: str) -> _Place:
    if source == "full" or split != "test":
        why = "the bundled sample has test images only" if source == "sample" else "it is not on this computer"
        raise DataUnavailable(
            f"The full {split} set of {spec.title} is needed and {why}: "
            f"run `python -m explorer data download {spec.name}`, or set EXPLORER_DATA to a folder that holds it."
        )
    files = bundled.files(spec.name, bundled.FOLDER)
    for file in files:
        if not file.is_file():
            raise DataUnavailable(f"The bundled sample {file} is missing: install the project again.")
    return _place(spec, split, "sample", bundled.FOLDER, files)


def _place(spec: Dataset, split: str, layout: Layout, root: Path, files: tuple[Path, ...]) -> _Place:
    stamp = tuple((stat.st_size, stat.st_mtime_ns) for stat in (file.stat() for file in files))
    return _Place(spec.name, split, layout, root, files, stamp)


@functools.lru_cache(maxsize=8)
def _read(place: _Place) -> _Table:
    spec = dataset(place.name)
    try:
        if place.layout == "sample":
            pixels, labels, index = map(torch.from_numpy, bundled.read(spec, place.root))
        else:
            pixels, labels = _parquet(place, spec) if place.layout == "parquet" else _archives(place, spec)
            _check_counts(spec, place.split, labels.numpy())
            index = torch.arange(len(labels))
    except Corrupt as problem:
        raise _unusable(spec, place.split, place.layout, problem) from problem
    source = "bundled sample" if place.layout == "sample" else f"full {place.split} set ({place.layout})"
    return _Table(pixels, labels, index, source)


def _parquet(place: _Place, spec: Dataset) -> tuple[Tensor, Tensor]:
    """Decoded once on this computer; the next process finds the pixels."""
    kept = _kept(place)
    if kept is not None:
        return kept
    pixels, labels = map(torch.from_numpy, parquet.read(place.files, spec))
    if len(labels) == spec.rows[place.split]:
        decoded.write(_decoded_file(place), pixels, labels)
    return pixels, labels


def _kept(place: _Place) -> tuple[Tensor, Tensor] | None:
    spec, kept = dataset(place.name), decoded.read(_decoded_file(place))
    fits = kept is not None and kept[0].shape == (spec.rows[place.split], *spec.shape) and kept[0].dtype == torch.uint8
    return kept if fits else None


def _decoded_file(place: _Place) -> Path:
    return decoded.file_for(place.name, place.split, place.files, place.stamp)


def _lazy_parquet(place: _Place) -> tuple[LazyPixels, Tensor]:
    spec = dataset(place.name)
    try:
        pictures = parquet.Pictures(place.files, spec)
        _check_counts(spec, place.split, pictures.labels)
    except Corrupt as problem:
        raise _unusable(spec, place.split, place.layout, problem) from problem
    labels = torch.from_numpy(pictures.labels)

    def decode(row: int) -> np.ndarray:
        try:
            return pictures.decode(row)
        except Corrupt as problem:
            raise _unusable(spec, place.split, place.layout, problem) from problem

    def keep(pixels: Tensor) -> None:
        decoded.write(_decoded_file(place), pixels, labels)

    return LazyPixels(len(labels), spec.shape, decode, keep), labels


def _archives(place: _Place, spec: Dataset) -> tuple[Tensor, Tensor]:
    pixels, labels = archives.read(place.root, spec, place.split)
    return torch.from_numpy(pixels), torch.from_numpy(labels)


def _check_counts(spec: Dataset, split: str, labels: np.ndarray) -> None:
    """Both datasets have the same number of images of every class; anything else is a damaged copy."""
    if len(labels) != spec.rows[split]:
        raise Corrupt(f"it has {len(labels):,} images instead of {spec.rows[split]:,}")
    if len(set(np.bincount(labels, minlength=len(spec.classes)).tolist())) != 1:
        raise Corrupt("its classes are not equally many, so its labels are damaged")


def _unusable(spec: Dataset, split: str, layout: Layout, problem: Exception) -> DataUnavailable:
    again = f"run `python -m explorer data download {spec.name}`"
    remedy = {
        "sample": "install the project again",
        "parquet": f"copy it again, or remove it and {again}",
        "torchvision": f"{again}, which replaces damaged files",
    }[layout]
    return DataUnavailable(f"The {split} set of {spec.title} is incomplete or damaged because {problem}: {remedy}.")
