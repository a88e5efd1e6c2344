"""PNG pictures of pixels: enlarged by whole factors, never blurred; a signed change amplified around grey."""

from __future__ import annotations

import io
import math

import numpy as np
from PIL import Image

MANTISSAS = (8.0, 6.0, 5.0, 4.0, 3.0, 2.5, 2.0, 1.5, 1.2, 1.0)


def to_image(pixels: np.ndarray, factor: int = 1) -> Image.Image:
    """A picture of pixels (C,H,W) float [0,1] or uint8, each pixel drawn as a square of `factor`."""
    if pixels.dtype != np.uint8:
        pixels = np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8)
    hwc = pixels[0] if pixels.shape[0] == 1 else np.moveaxis(pixels, 0, -1)
    image = Image.fromarray(hwc)
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)


def to_png(pixels: np.ndarray, factor: int = 1) -> bytes:
    buffer = io.BytesIO()
    to_image(pixels, factor).save(buffer, "PNG")
    return buffer.getvalue()


def reduced(pixels: np.ndarray, most: int) -> np.ndarray:
    """Pictures (N,C,H,W) with at most `most` pixels a side, of the same type: means of squares. Small ones as they are."""
    k = -(-max(pixels.shape[2:]) // most)
    if k == 1:
        return pixels
    n, channels, height, width = (*pixels.shape[:2], *(side // k for side in pixels.shape[2:]))
    blocks = pixels[:, :, : height * k, : width * k].reshape(n, channels, height, k, width, k)
    means = blocks.mean((3, 5), dtype=np.float32)
    return np.rint(means).astype(np.uint8) if pixels.dtype == np.uint8 else means


def amplification(largest: float) -> float | None:
    """The factor that a change is shown with: 0.5 / largest, rounded down to a clean number, so that nothing clips.

    `largest` is the largest absolute change of any pixel, in [0, 1]. None if nothing changed.
    """
    if not largest > 0:
        return None
    exact = 0.5 / largest * (1 + 1e-6)  # float32 pixels: 0.1 may arrive as 0.10000001
    power = 10.0 ** math.floor(math.log10(exact))
    mantissa = next(m for m in MANTISSAS if m <= exact / power)
    return float(f"{mantissa * power:.6g}")


def amplified(change: np.ndarray) -> tuple[np.ndarray, float | None]:
    """A change (C,H,W) drawn around grey (0.5, "unchanged"), and its `amplification`."""
    factor = amplification(float(np.abs(change).max()))
    return 0.5 + (factor or 1.0) * change, factor
