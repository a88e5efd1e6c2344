"""The bundled photographs: twelve pictures under free licences, cropped and resized as an upload is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from explorer.data.decoder import fit
from explorer.data.parquet import Corrupt
from explorer.data.specs import Dataset

FOLDER = Path(__file__).parent / "sample" / "photos"
ABOUT = FOLDER / "photos.json"  # of each its file, class, source and licence


def files() -> tuple[Path, ...]:
    """What the photographs are read from."""
    return (ABOUT, *sorted(FOLDER.glob("*.webp")))


def read(spec: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (N,C,H,W) uint8 and labels (N,) int64, in the order of their description; raises Corrupt."""
    _, height, width = spec.shape
    try:
        rows = json.loads(ABOUT.read_text("utf-8"))
        pixels = [_fitted(FOLDER / row["file"], width, height) for row in rows]
        labels = np.array([row["label"] for row in rows], np.int64)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Corrupt(f"a file in {FOLDER} cannot be read") from error
    return np.stack(pixels).transpose(0, 3, 1, 2), labels


def _fitted(file: Path, width: int, height: int) -> np.ndarray:
    """(H,W,3): the largest centred part of the network's proportions, resized to them."""
    with Image.open(file, formats=["WEBP"]) as image:
        return np.asarray(fit(image.convert("RGB"), width, height))
