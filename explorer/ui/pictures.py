"""Pixels as PNG: enlarged by whole factors, never blurred."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image


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


def to_url(pixels: np.ndarray) -> str:
    """A data URL of the picture at its own size."""
    return "data:image/png;base64," + base64.b64encode(to_png(pixels)).decode()
