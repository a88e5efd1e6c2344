"""Layouts of datasets from elsewhere: ImageFolder and Hugging Face's parquet; torchvision's own stand in `torchvision_layouts.py`.

Each reader gives a `Source`, whose pictures are decoded one by one, or None where a folder is not laid out so.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from explorer.core import DataUnavailable, seeded
from explorer.data.parquet import class_names

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")
ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".avif")
TEST_NAMES = ("test", "val", "valid", "validation")  # folders or files of a test split, the best first
HELD_OUT = 5  # where there is no test split, every so many-th picture of a class, drawn with seed 0, is one
SHARD = re.compile(r"-(\d+)-of-(\d+)")  # which of how many files of a split
IMAGE_COLUMNS, LABEL_COLUMNS = ("image", "img"), ("label", "fine_label", "labels")
MAX_PIXELS = 50_000_000  # of one picture of a dataset


class Unfit(Exception):
    """Why a folder cannot be added, as a whole sentence."""


@dataclass(frozen=True, eq=False)
class Split:
    """N labelled pictures. `picture(row)` decodes one, `name(row)` says where it lies; `picture` raises what Pillow raises."""

    labels: np.ndarray  # (N,) int64
    picture: Callable[[int], Image.Image]
    name: Callable[[int], str]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Source:
    """A dataset as it was found: its classes and both splits, and what is known of such data."""

    layout: str
    classes: tuple[str, ...]
    splits: Mapping[str, Split]  # "train" and "test"
    title: str = ""
    paper: str = ""
    flips: bool = True
    notes: tuple[str, ...] = ()


def image_folder(folder: Path) -> Source | None:
    """`train/<class>/*` and `test/<class>/*` (or val), as torchvision's ImageFolder; or `<class>/*` alone, split here."""
    train = folder / "train"
    test = next((folder / name for name in TEST_NAMES if (folder / name).is_dir()), None)
    if train.is_dir() and test is not None:
        classes = _class_folders(train)
        if not classes:
            return None
        if strange := sorted(set(_class_folders(test)) - set(classes)):
            raise Unfit(f"{test} has a class that {train} has not: {strange[0]}.")
        return Source("ImageFolder", classes, {"train": _files_of(train, classes), "test": _files_of(test, classes)})
    start = train if train.is_dir() else folder
    classes = _class_folders(start)
    if not classes:
        return None
    return _split_here("ImageFolder", classes, _files_of(start, classes))


def _split_here(layout: str, classes: tuple[str, ...], whole: Split) -> Source:
    """A dataset that has no test split, with one; raises Unfit."""
    test_rows = held_out(whole.labels)
    parts = {"train": np.setdiff1d(np.arange(len(whole)), test_rows), "test": test_rows}
    note = f"There was no test split: one picture in {HELD_OUT} of each class, drawn with seed 0, is one now."
    return Source(layout, classes, {name: _rows_of(whole, rows) for name, rows in parts.items()}, notes=(note,))


def held_out(labels: np.ndarray) -> np.ndarray:
    """Rows that become the test split: of each class one picture in five, at least one; raises Unfit for a class of one."""
    rows: list[int] = []
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        if len(own) < 2:
            raise Unfit(
                "A class has a single picture, and there is no test split: give each class two pictures at least."
            )
        order = np.array(_shuffled(len(own)))
        rows += own[order[: max(1, len(own) // HELD_OUT)]].tolist()
    return np.sort(np.array(rows, np.int64))


def _shuffled(count: int) -> list[int]:
    import torch

    found: list[int] = torch.randperm(count, generator=seeded(0)).tolist()
    return found


def _rows_of(split: Split, rows: np.ndarray) -> Split:
    return Split(split.labels[rows], lambda row: split.picture(int(rows[row])), lambda row: split.name(int(rows[row])))


def _class_folders(folder: Path) -> tuple[str, ...]:
    """Names of the folders that hold a picture, sorted."""
    inside = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    return tuple(name for name in inside if any(_pictures(folder / name)))


def _pictures(folder: Path) -> list[Path]:
    return sorted(
        file for file in folder.rglob("*") if file.suffix.lower() in ENDINGS and not file.name.startswith(".")
    )


def _files_of(folder: Path, classes: Sequence[str]) -> Split:
    found = [
        (file, k) for k, name in enumerate(classes) if (folder / name).is_dir() for file in _pictures(folder / name)
    ]
    files = [file for file, _ in found]
    return Split(np.array([k for _, k in found], np.int64), lambda row: opened(files[row]), lambda row: str(files[row]))


def opened(source: Path | bytes) -> Image.Image:
    """A picture, its header read; raises what Pillow raises, and ValueError for one that is far too large."""
    image = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS)
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"it has {image.width} x {image.height} pixels")
    return image


def hugging_face(folder: Path) -> Source | None:
    """Parquet files `train-*.parquet` and `test-*.parquet` (or validation), in the folder or in `data`, as `datasets` writes them.

    Without files of a test split, one is made of the training pictures.
    """
    for place in (folder, folder / "data"):
        train = sorted(place.glob("train*.parquet"))
        test: list[Path] = next(filter(None, (sorted(place.glob(f"{name}*.parquet")) for name in TEST_NAMES)), [])
        if train:
            break
    else:
        return None
    tables = {name: _shards(files) for name, files in (("train", train), ("test", test)) if files}
    names = next((names for parts in tables.values() for _, _, names in parts if names is not None), None)
    parts = {name: _joined(split) for name, split in tables.items()}
    most = 1 + max(int(split.labels.max(initial=-1)) for split in parts.values())
    classes = names or tuple(f"class {k}" for k in range(most))
    if most > len(classes) or min(int(split.labels.min(initial=0)) for split in parts.values()) < 0:
        raise Unfit(f"The parquet files in {place} have labels outside of their {len(classes)} classes.")
    if not test:
        return _split_here("Hugging Face parquet", classes, parts["train"])
    return Source("Hugging Face parquet", classes, parts)


def unread_parquet(folder: Path) -> str | None:
    """Why the parquet files in a folder are in no layout that is known, as a sentence; None where there are none."""
    found = next(iter(sorted(folder.rglob("*.parquet"))), None)
    if found is None:
        return None
    return (
        f"{folder} holds parquet files, such as {found.relative_to(folder)}, and none of a training split: they must be called "
        "train-*.parquet (and test-*.parquet, if there is a test split), in this folder or in its folder data."
    )


def _shards(files: Sequence[Path]) -> list[tuple[pa.Array, np.ndarray, tuple[str, ...] | None]]:
    """What the files of one split hold; raises Unfit, also where "-00000-of-00003" promises files that are not there."""
    numbered = [match for file in files if (match := SHARD.search(file.stem))]
    if numbered:
        total = int(numbered[0][2])
        if len(numbered) != len(files) or sorted(int(match[1]) for match in numbered) != list(range(total)):
            raise Unfit(f"{files[0].parent} holds {len(files)} parquet files where {files[0].name} promises {total:,}.")
    return [_table(file) for file in files]


def _table(file: Path) -> tuple[pa.Array, np.ndarray, tuple[str, ...] | None]:
    """The encoded pictures, the labels and the class names of one file; raises Unfit."""
    try:
        table = pq.read_table(file, page_checksum_verification=True)
        image = next((name for name in IMAGE_COLUMNS if name in table.column_names), None)
        label = next((name for name in LABEL_COLUMNS if name in table.column_names), None)
        if image is None or label is None:
            raise Unfit(f"{file} needs a column {IMAGE_COLUMNS[0]!r} and a column {LABEL_COLUMNS[0]!r}.")
        blobs = table[image].combine_chunks().field("bytes")
        if blobs.null_count:
            raise Unfit(f"{file} names {blobs.null_count:,} of its pictures by a path and does not hold them.")
        return blobs, np.asarray(table[label].to_numpy()).astype(np.int64), class_names(table.schema, label)
    except (pa.ArrowException, OSError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise Unfit(f"{file} cannot be read as parquet with pictures and labels.") from error


def _joined(parts: Sequence[tuple[pa.Array, np.ndarray, Any]]) -> Split:
    blobs = pa.chunked_array([blob for blob, _, _ in parts])
    return Split(
        np.concatenate([labels for _, labels, _ in parts]),
        lambda row: opened(blobs[row].as_py() or b""),
        lambda row: f"row {row} of the parquet files",
    )


def of_arrays(pixels: np.ndarray, labels: np.ndarray, name: str) -> Split:
    """Pictures that are arrays already, (N,H,W) or (N,H,W,3) uint8."""
    return Split(labels.astype(np.int64), lambda row: Image.fromarray(pixels[row]), lambda row: f"row {row} of {name}")


def checked(folder: Path) -> Path:
    """An absolute path; raises DataUnavailable where there is no such folder."""
    place = folder.expanduser().absolute()
    if not place.is_dir():
        raise DataUnavailable(f"{folder} is not a folder: name one that holds train/<class>/* and test/<class>/*.")
    return place
