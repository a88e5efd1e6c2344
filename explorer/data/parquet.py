"""Images in parquet, as the Hugging Face `datasets` library lays them out.

A column `image` of {bytes, path} (WebP or PNG), a column `label` (int64), class names in the schema metadata.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from explorer.data.specs import Dataset

FORMATS = ("WEBP", "PNG")
_CHUNK = 500  # images a thread decodes at a time


class Corrupt(Exception):
    """A file is not what the layout promises; the message is the part of a sentence after "because"."""


def shards(folder: Path, split: str) -> tuple[Path, ...]:
    """The files of one split, in order; raises Corrupt when some of "-of-0000N" are missing. None found: ()."""
    found = sorted(folder.glob(f"{split}-*-of-*.parquet"))
    if not found:
        return ()
    total = found[0].stem.rpartition("-of-")[2]
    expected = [f"{split}-{k:05d}-of-{total}.parquet" for k in range(int(total))] if total.isdigit() else []
    if [file.name for file in found] != expected:
        raise Corrupt(f"{folder} holds {len(found)} of the {split} files where {found[0].name} promises {total}")
    return tuple(found)


class Pictures:
    """A split as its files hold it: N labels, and pictures to be decoded. Raises Corrupt, also where it decodes."""

    def __init__(self, files: Sequence[Path], spec: Dataset):
        self.shape = spec.shape
        self._files = tuple(files)
        blobs, labels = zip(*(_read_one(file, spec) for file in files), strict=True)
        self._blobs: tuple[pa.BinaryArray, ...] = blobs
        self.labels: np.ndarray = np.concatenate(labels)  # (N,) int64
        self._starts = np.cumsum([0, *map(len, blobs)])  # the row with which each file begins; N

    def decode(self, row: int) -> np.ndarray:
        """(C,H,W) uint8. A grey image stored as RGB (WebP has no grey mode) gives its first channel."""
        at = int(np.searchsorted(self._starts, row, side="right")) - 1
        channels, height, width = self.shape
        place = f"image {row - self._starts[at]} of {self._files[at].name}"
        blob = self._blobs[at][row - self._starts[at]].as_py()
        try:
            with Image.open(io.BytesIO(blob or b""), formats=FORMATS) as image:
                if image.size != (width, height):
                    raise Corrupt(f"{place} is {image.width}x{image.height} pixels")
                rgb = np.asarray(image if image.mode == "RGB" else image.convert("RGB"))  # (H,W,3)
        except (OSError, ValueError, SyntaxError) as error:
            raise Corrupt(f"{place} cannot be decoded ({_first_line(error)})") from error
        return rgb.transpose(2, 0, 1)[:channels]


def read(files: Sequence[Path], spec: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (N,C,H,W) uint8 and labels (N,) int64 of all files together; raises Corrupt."""
    pictures = Pictures(files, spec)
    count = len(pictures.labels)
    pixels = np.empty((count, *spec.shape), np.uint8)

    def decode(start: int) -> None:
        for row in range(start, min(start + _CHUNK, count)):
            pixels[row] = pictures.decode(row)

    with ThreadPoolExecutor(max(1, min(8, os.cpu_count() or 1))) as pool:
        list(pool.map(decode, range(0, count, _CHUNK)))  # list: lets the first error out
    return pixels, pictures.labels


def _read_one(file: Path, spec: Dataset) -> tuple[pa.BinaryArray, np.ndarray]:
    try:
        table = pq.read_table(file, page_checksum_verification=True)
        blobs = table["image"].combine_chunks().field("bytes")
        labels = np.asarray(table["label"].to_numpy())
    except (pa.ArrowException, OSError, KeyError, ValueError, AttributeError) as error:
        raise Corrupt(f"{file.name} cannot be read ({_first_line(error)})") from error
    names = class_names(table.schema)
    if names is not None and names != spec.classes:
        raise Corrupt(f"{file.name} names other classes than {spec.title}'s")
    if labels.dtype != np.int64 or not len(labels) or labels.min() < 0 or labels.max() >= len(spec.classes):
        raise Corrupt(f"{file.name} has labels that are not whole numbers from 0 to {len(spec.classes) - 1}")
    return blobs, labels


def class_names(schema: pa.Schema, column: str = "label") -> tuple[str, ...] | None:
    """Class names of the labels in `column`, from the `huggingface` metadata, None where there are none."""
    try:
        info: Any = json.loads((schema.metadata or {})[b"huggingface"])
        return tuple(info["info"]["features"][column]["names"])
    except (KeyError, TypeError, ValueError):
        return None


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:120]
