"""Datasets as tensors: the whole set where it can be found, else the sample that comes with the package."""

from __future__ import annotations

import functools
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from explorer.core import DataUnavailable, InvalidValue
from explorer.data import parquet
from explorer.data.folders import data_folders
from explorer.data.parquet import Corrupt
from explorer.data.specs import Dataset, check_split, dataset

Source = Literal["auto", "sample", "full"]
SOURCES: tuple[str, ...] = get_args(Source)
SAMPLE = Path(__file__).parent / "sample"


@dataclass(frozen=True)
class _Place:
    """Where a split was found. `stamp` (sizes and times) makes the in-process cache notice a replaced file."""

    name: str
    split: str
    layout: Literal["sample", "parquet"]
    root: Path
    files: tuple[Path, ...]
    stamp: tuple[tuple[int, int], ...]


@dataclass(frozen=True, eq=False)
class _Table:
    pixels: Tensor  # (N,C,H,W) uint8
    labels: Tensor  # (N,) int64
    index: Tensor  # (N,) int64
    source: str


def raw(name: str, split: str, source: str = "auto") -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """Everything found: pixels (N,C,H,W) uint8, labels (N,) int64, class names.

    Kept in memory and handed to every caller: read it, never write to it. Raises as `load` does.
    """
    table = _table(name, split, source)
    return table.pixels, table.labels, dataset(name).classes


def _table(name: str, split: str, source: str) -> _Table:
    spec = dataset(name)
    check_split(split)
    if source not in SOURCES:
        raise InvalidValue(f"source must be one of {', '.join(SOURCES)}; got {source!r}.")
    place = None if source == "sample" else _find_full(spec, split)
    if place is None:
        place = _find_sample(spec, split, source)
    with _reading:
        return _read(place)


_reading = threading.Lock()  # two sessions that ask at once decode once


def _find_full(spec: Dataset, split: str) -> _Place | None:
    for root in data_folders():
        try:
            files = parquet.shards(root / spec.name, split)
        except Corrupt as problem:
            raise _unusable(spec, split, problem) from problem
        if files:
            return _Place(spec.name, split, "parquet", root, files, _stamp(files))
    return None


def _find_sample(spec: Dataset, split: str, source: str) -> _Place:
    file = SAMPLE / f"{spec.name}-{split}.parquet"
    if source == "full" or not file.is_file():
        what = f"The full {split} set of {spec.title} is not on this computer"
        raise DataUnavailable(
            f"{what}: run `python -m explorer data download {spec.name}`, or set EXPLORER_DATA to a folder that holds it."
        )
    return _Place(spec.name, split, "sample", SAMPLE, (file,), _stamp((file,)))


def _stamp(files: tuple[Path, ...]) -> tuple[tuple[int, int], ...]:
    return tuple((stat.st_size, stat.st_mtime_ns) for stat in (file.stat() for file in files))


@functools.lru_cache(maxsize=8)
def _read(place: _Place) -> _Table:
    spec = dataset(place.name)
    try:
        pixels, labels, index = parquet.read(place.files, spec)
        if place.layout != "sample":
            _check_counts(spec, place.split, labels)
    except Corrupt as problem:
        raise _unusable(spec, place.split, problem) from problem
    source = "bundled sample" if place.layout == "sample" else f"full {place.split} set ({place.layout})"
    return _Table(torch.from_numpy(pixels), torch.from_numpy(labels), torch.from_numpy(index), source)


def _check_counts(spec: Dataset, split: str, labels: np.ndarray) -> None:
    """Both datasets have the same number of images of every class; anything else is a damaged copy."""
    if len(labels) != spec.rows[split]:
        raise Corrupt(f"it has {len(labels):,} images instead of {spec.rows[split]:,}")
    if len(set(np.bincount(labels, minlength=len(spec.classes)))) != 1:
        raise Corrupt("its classes are not equally many, so labels are damaged")


def _unusable(spec: Dataset, split: str, problem: Corrupt) -> DataUnavailable:
    return DataUnavailable(
        f"The {split} set of {spec.title} is incomplete or damaged because {problem}: "
        f"delete it and run `python -m explorer data download {spec.name}`, or copy it to EXPLORER_DATA again."
    )
