"""The bundled sample: per dataset one sheet of test images as lossless WebP, and a JSON file with what they are.

One picture of 2,000 tiles is smaller and decodes ten times faster than 2,000 small pictures.
`python -m explorer.data.build_sample` draws it again from the full test sets.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
from PIL import Image

from explorer.data.parquet import Corrupt
from explorer.data.specs import Dataset

FOLDER = Path(__file__).parent / "sample"
COLUMNS = 50  # tiles in a row of the sheet


def files(name: str, folder: Path) -> tuple[Path, Path]:
    """The sheet and the description of one dataset's sample."""
    return folder / f"{name}-test.webp", folder / f"{name}-test.json"


def read(spec: Dataset, folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels (N,C,H,W) uint8, labels (N,) int64, index (N,) int64 (row in the full test set); raises Corrupt."""
    sheet, description = files(spec.name, folder)
    channels, height, width = spec.shape
    try:
        about = json.loads(description.read_text("utf-8"))
        with Image.open(sheet, formats=["WEBP"]) as image:
            rgb = np.asarray(image.convert("RGB"))
        tiles = rgb.reshape(-1, height, COLUMNS, width, 3).transpose(0, 2, 4, 1, 3)  # (rows, columns, 3, H, W)
        pixels = np.ascontiguousarray(tiles.reshape(-1, 3, height, width)[:, :channels])
        labels, index = np.array(about["labels"], np.int64), np.array(about["index"], np.int64)
        intact = digest(pixels, labels, index) == about["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Corrupt(f"{sheet.name} or {description.name} cannot be read") from error
    if not intact:
        raise Corrupt(f"{sheet.name} does not match the checksum in {description.name}")
    return pixels, labels, index


def write(spec: Dataset, folder: Path, pixels: np.ndarray, labels: np.ndarray, index: np.ndarray) -> None:
    """Store a sample that `read` gives back exactly. The number of images must be a multiple of COLUMNS."""
    _, _, height, width = pixels.shape
    rgb = np.broadcast_to(pixels, (len(pixels), 3, height, width))
    tiles = rgb.reshape(-1, COLUMNS, 3, height, width).transpose(0, 3, 1, 4, 2)  # (rows, H, columns, W, 3)
    picture = Image.fromarray(np.ascontiguousarray(tiles.reshape(-1, COLUMNS * width, 3)))
    about = {
        "dataset": spec.name,
        "split": "test",
        "sha256": digest(pixels, labels, index),
        "labels": labels.tolist(),
        "index": index.tolist(),
    }
    sheet, description = files(spec.name, folder)
    folder.mkdir(parents=True, exist_ok=True)
    picture.save(sheet, "WEBP", lossless=True, quality=100, method=6)
    description.write_text(json.dumps(about) + "\n", "utf-8")


def digest(pixels: np.ndarray, labels: np.ndarray, index: np.ndarray) -> str:
    """sha256 over the bytes of pixels (uint8), labels and index (both little-endian int64)."""
    whole = hashlib.sha256(np.ascontiguousarray(pixels).data)
    for column in (labels, index):
        whole.update(np.ascontiguousarray(column, dtype="<i8").data)
    return whole.hexdigest()
