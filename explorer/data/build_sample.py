"""Draw the bundled sample from the full test sets: `python -m explorer.data.build_sample [FOLDER]`.

200 images of every class, chosen by `balanced` with seed 0, as lossless WebP; the same full set gives the same pixels,
labels and order. FOLDER defaults to the sample's own place in the package.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from explorer.data import parquet
from explorer.data.loading import SAMPLE, balanced, raw
from explorer.data.specs import DATASETS

PER_CLASS = 200
SEED = 0


def build(name: str, folder: Path = SAMPLE) -> Path:
    """Write `<name>-test.parquet` into `folder`; raises DataUnavailable without the full test set."""
    spec = DATASETS[name]
    pixels, labels, _ = raw(name, "test", source="full")
    rows = balanced(labels, PER_CLASS * len(spec.classes), SEED)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}-test.parquet"
    parquet.write(file, [webp(image) for image in pixels[rows].numpy()], labels[rows].numpy(), spec, rows.numpy())
    return file


def webp(pixels: np.ndarray) -> bytes:
    """(C,H,W) uint8 as lossless WebP, grey as three equal channels."""
    buffer = io.BytesIO()
    rgb = np.broadcast_to(pixels, (3, *pixels.shape[1:])).transpose(1, 2, 0)
    Image.fromarray(np.ascontiguousarray(rgb)).save(buffer, "WEBP", lossless=True, quality=100, method=6, exact=True)
    return buffer.getvalue()


if __name__ == "__main__":
    for dataset_name in DATASETS:
        build(dataset_name, *map(Path, sys.argv[1:2]))
