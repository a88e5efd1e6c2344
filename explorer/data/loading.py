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
from explorer.core.rng import derived_seed
from explorer.data import archives, bundled, decoded, parquet, photos
from explorer.data.folders import data_folders
from explorer.data.lazy import LazyPixels
from explorer.data.parquet import Corrupt
from explorer.data.specs import PHOTOS, Dataset, check_split, dataset

Source = Literal["auto", "sample", "full"]
SOURCES: tuple[str, ...] = get_args(Source)
SEED_LIMIT = 2**63 - 1
CHOICE = 7  # stream of randomness: which pictures
# Of an added dataset the pages show so many test images, evenly from all classes; fewer if they took more memory than that.
SAMPLE_IMAGES, SAMPLE_BYTES = 2000, 200_000_000

Layout = Literal["sample", "parquet", "torchvision", "photographs", "added"]


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
    top: int = 1  # as of the `Dataset`

    def __len__(self) -> int:
        return len(self.y)


def how_chosen(images: int, n: int | None, seed: int = 0) -> str:
    """In words, as cards hold it, which images `load` took that was asked for n and gave so many (`verifying` reads it)."""
    return f"all {images:,}" if n is None else f"{images:,}, evenly from all classes, drawn with seed {seed}"


def load(name: str, split: str = "test", n: int | None = None, seed: int = 0, source: str = "auto") -> Images:
    """`n` images of a dataset, evenly from all classes (counts differ by at most one); None: all, in their own order.

    The choice depends on the data, `n` and `seed` alone, and a larger `n` begins with the images of a smaller one.
    `source`: "auto" takes the full set where there is one, else the bundled sample; "sample" and "full" insist.
    Raises UnknownName (dataset, split), InvalidValue (n, seed, source), DataUnavailable (not here, or damaged).

    Examples:
        >>> from explorer.data import load
        >>> images = load("cifar10", n=20, source="sample")
        >>> images.x.shape, images.x.dtype, images.source
        (torch.Size([20, 3, 32, 32]), torch.float32, 'bundled sample')
        >>> images.y.bincount().tolist()
        [2, 2, 2, 2, 2, 2, 2, 2, 2, 2]
        >>> images.classes[6]
        'frog'
    """
    spec = dataset(name)
    most = spec.rows.get(check_split(split))
    if n is not None and most is not None and not (_whole(n) and 1 <= n <= most):
        raise InvalidValue(f"n must be a whole number in [1, {most}], or None for all; got {n!r}.")
    if not (_whole(seed) and 0 <= seed <= SEED_LIMIT):
        raise InvalidValue(f"seed must be a whole number in [0, 2^63); got {seed!r}.")
    table = _table(name, split, source)
    if n is not None and n > len(table.labels):
        raise DataUnavailable(
            f"The {table.source} of {spec.title} holds {len(table.labels):,} images, fewer than the {n:,} asked for: "
            f"ask for fewer, run `python -m explorer data download {name}`, or set EXPLORER_DATA to the full set."
        )
    rows = slice(None) if n is None else balanced(table.labels, n, seed)
    x = table.pixels[rows].to(torch.float32) / 255
    index = table.index[rows].clone()
    return Images(x, table.labels[rows].clone(), spec.classes, name, split, index, table.source, spec.top)


def check(name: str, split: str) -> None:
    """Raises as `raw` does where a split is not on this computer; reads nothing of it."""
    _find(dataset(name), check_split(split), "auto")


def files_of(name: str, split: str) -> tuple[str, tuple[Path, ...]]:
    """How a full split lies on this computer ("parquet", "torchvision"), and in which files. Raises as `load` does."""
    place = _find(dataset(name), check_split(split), "full")
    return place.layout, place.files


def raw(name: str, split: str, source: str = "auto") -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """Everything found: pixels (N,C,H,W) uint8, labels (N,) int64, class names.

    Kept in memory and handed to every caller: read it, never write to it. Raises as `load` does.
    """
    table = _table(name, split, source)
    return table.pixels, table.labels, dataset(name).classes


def chosen_rows(name: str, shuffle: int, count: int) -> tuple[int, ...]:
    """Rows of the bundled sample of a dataset, drawn with the seed `shuffle`. More pictures begin with the same ones."""
    total = len(raw(name, "test", "sample")[1])
    return tuple(torch.randperm(total, generator=seeded(derived_seed(shuffle, CHOICE)))[:count].tolist())


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
    if spec.folder is not None or spec is PHOTOS:
        return _find_own(spec, split, source)
    place = None if source == "sample" else _find_full(spec, split)
    return _find_sample(spec, split, source) if place is None else place


def _find_own(spec: Dataset, split: str, source: str) -> _Place:
    """The photographs, or an added dataset; of both there is one place."""
    if spec.folder is None:
        if split != "test":
            raise DataUnavailable(f"{spec.title} are {spec.rows['test']} test images: there is no {split} set of them.")
        return _place(spec, split, "photographs", photos.FOLDER, photos.files())
    if source == "sample" and split != "test":
        raise DataUnavailable(f"The sample of {spec.title} has test images only.")
    file = spec.folder / f"{split}.safetensors"
    if not file.is_file():
        raise DataUnavailable(f"{file} of the dataset {spec.name} is missing: remove its folder and add it again.")
    return _place(spec, split, "sample" if source == "sample" else "added", spec.folder, (file,))


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
    if spec.folder is not None:
        return _read_added(place, spec)
    try:
        if place.layout == "photographs":
            pixels, labels = map(torch.from_numpy, photos.read(spec))
            return _Table(pixels, labels, torch.arange(len(labels)), "bundled photographs")
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


def _read_added(place: _Place, spec: Dataset) -> _Table:
    """All of a split, mapped from its file; of the sample a copy of its rows."""
    found = decoded.read(place.files[0])
    if found is None or found[0].shape != (spec.rows[place.split], *spec.shape) or len(found[1]) != len(found[0]):
        raise _unusable(spec, place.split, place.layout, Corrupt(f"{place.files[0].name} does not fit its card"))
    pixels, labels = found
    if place.layout == "added":
        return _Table(pixels, labels, torch.arange(len(labels)), f"full {place.split} set (added)")
    room = max(len(spec.classes), SAMPLE_BYTES // pixels[0].nbytes)
    rows = balanced(labels, min(len(labels), SAMPLE_IMAGES, room), seed=0)
    return _Table(pixels[rows], labels[rows], rows, "sample of the test set")


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
    layout = layout if spec.folder is None else "added"
    remedy = {
        "sample": "install the project again",
        "photographs": "install the project again",
        "added": "remove its folder and add it again",
        "parquet": f"copy it again, or remove it and {again}",
        "torchvision": f"{again}, which replaces damaged files",
    }[layout]
    return DataUnavailable(f"The {split} set of {spec.title} is incomplete or damaged because {problem}: {remedy}.")
