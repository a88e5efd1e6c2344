"""Common corruptions: the 15 of CIFAR-10-C at 5 severities (Hendrycks & Dietterich, arXiv:1903.12261), for any image size.

Each is a function of one image x (H,W,C), float64 in [0,1], its constants at a severity, and a generator; the constants are
those that made CIFAR-10-C, for images of 32 pixels. A length grows with the image: `unit` = the shorter side / 32.
differs: nothing is rounded to 8 bits on the way, but for JPEG and pixelate, which are made by Pillow, as there.
differs: frost blends photographs of frosted glass there, which are not at hand; here a fractal with bright ridges.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Image = Any  # np.ndarray (H,W,C), float64
SEVERITIES = 5


def gaussian_noise(x: Image, sigma: float, rng: np.random.Generator) -> Image:
    return x + rng.normal(scale=sigma, size=x.shape)


def shot_noise(x: Image, photons: float, rng: np.random.Generator) -> Image:
    return rng.poisson(x * photons) / photons


def impulse_noise(x: Image, share: float, rng: np.random.Generator) -> Image:
    """A share of the values becomes black or white."""
    hit, white = rng.random(x.shape) <= share, rng.random(x.shape) <= 0.5
    return np.where(hit, white.astype(float), x)


def defocus_blur(x: Image, c: tuple[float, float], rng: np.random.Generator) -> Image:
    """The mean over a disk of a radius, whose edge is softened by a Gaussian of three taps."""
    from scipy import ndimage  # takes a moment to import: only who asks waits

    radius, soft = c[0] * unit(x), c[1] * unit(x)
    taps = math.ceil(unit(x))
    reach = math.ceil(radius) + taps
    across = np.arange(-reach, reach + 1)
    disk = (across[:, None] ** 2 + across**2 <= radius**2).astype(float)
    disk = ndimage.gaussian_filter(disk / disk.sum(), soft, radius=taps, mode="constant")
    return ndimage.convolve(x, disk[:, :, None], mode="mirror")


def glass_blur(x: Image, c: tuple[float, float, int], rng: np.random.Generator) -> Image:
    """Blurred, pixels exchanged with neighbours one after the other, blurred.

    differs: really exchanged; the line that made CIFAR-10-C, written as an exchange, copies one pixel onto the other.
    """
    sigma, far, times = c[0] * unit(x), max(round(c[1] * unit(x)), 1), c[2]
    x, (height, width) = _blurred(x, sigma), x.shape[:2]
    order = list(range(height * width))
    for _ in range(times):
        moves = rng.integers(-far, far, size=(height, width, 2)).tolist()
        for h in range(height - far, far, -1):
            for w in range(width - far, far, -1):
                dx, dy = moves[h][w]
                here, there = h * width + w, (h + dy) * width + w + dx
                order[here], order[there] = order[there], order[here]
    return _blurred(x.reshape(-1, x.shape[2])[order].reshape(x.shape), sigma)


def motion_blur(x: Image, c: tuple[float, float], rng: np.random.Generator) -> Image:
    return _moved(x, c[0] * unit(x), c[1] * unit(x), rng.uniform(-45, 45))


def zoom_blur(x: Image, most: float, rng: np.random.Generator) -> Image:
    """The mean of the image and of all its enlargements in steps of 1 %."""
    zooms = np.arange(1, most, 0.01)
    return (x + sum(_enlarged(x, float(zoom)) for zoom in zooms)) / (len(zooms) + 1)


def snow(x: Image, c: tuple[float, ...], rng: np.random.Generator) -> Image:
    mean, sigma, size, least, radius, blur, kept = c
    flakes = _enlarged(rng.normal(mean, sigma, size=(*x.shape[:2], 1)), max(size * unit(x), 1.0))
    flakes = np.where(flakes < least, 0, flakes).clip(0, 1)
    flakes = _moved(flakes, radius * unit(x), blur * unit(x), rng.uniform(-135, -45))
    grey = x @ np.array([0.299, 0.587, 0.114]) if x.shape[2] == 3 else x.mean(2)
    paler = kept * x + (1 - kept) * np.maximum(x, 1.5 * grey[:, :, None] + 0.5)
    return paler + flakes + flakes[::-1, ::-1]


def frost(x: Image, c: tuple[float, float], rng: np.random.Generator) -> Image:
    ridges = 1 - np.abs(2 * _plasma(x.shape, 2.0, rng) - 1)
    return c[0] * x + c[1] * (0.3 + 0.7 * ridges**3)[:, :, None]


def fog(x: Image, c: tuple[float, float], rng: np.random.Generator) -> Image:
    brightest = x.max()
    return (x + c[0] * _plasma(x.shape, c[1], rng)[:, :, None]) * brightest / (brightest + c[0])


def brightness(x: Image, more: float, rng: np.random.Generator) -> Image:
    """The value of HSV, the largest of the channels, rises; hue and saturation stay."""
    value = x.max(2, keepdims=True)
    return np.where(value > 0, x / np.where(value > 0, value, 1), 1) * (value + more).clip(0, 1)


def contrast(x: Image, kept: float, rng: np.random.Generator) -> Image:
    mean = x.mean((0, 1), keepdims=True)
    return (x - mean) * kept + mean


def elastic_transform(x: Image, c: tuple[float, float, float], rng: np.random.Generator) -> Image:
    """A random affine map of three points, then a smooth random displacement; all lengths in image sides."""
    from scipy import ndimage

    side = min(x.shape[:2])
    strength, smooth, corner = (value * side for value in c)
    centre, square = np.array(x.shape[:2]) // 2, side // 3
    there = centre + square * np.array([[1, 1], [1, -1], [-1, -1]])
    moved = there + rng.uniform(-corner, corner, size=there.shape)
    back = np.linalg.solve(np.c_[moved, np.ones(3)], there)  # (3,2): from a new pixel to where it comes from
    rows, columns = np.mgrid[: x.shape[0], : x.shape[1]]
    source = np.stack([rows, columns, np.ones_like(rows)], 2) @ back
    affine = _sampled(x, source, "mirror")
    shifts = [ndimage.gaussian_filter(rng.uniform(-1, 1, x.shape[:2]), smooth, truncate=3) * strength for _ in range(2)]
    return _sampled(affine, np.stack([rows + shifts[0], columns + shifts[1]], 2), "reflect")


def pixelate(x: Image, size: float, rng: np.random.Generator) -> Image:
    from PIL import Image as Pillow

    height, width = x.shape[:2]
    small = _as_pillow(x).resize((int(width * size), int(height * size)), Pillow.Resampling.BOX)
    return _of_pillow(small.resize((width, height), Pillow.Resampling.BOX), x)


def jpeg_compression(x: Image, quality: int, rng: np.random.Generator) -> Image:
    from PIL import Image as Pillow

    memory = io.BytesIO()
    _as_pillow(x).save(memory, "JPEG", quality=quality)
    return _of_pillow(Pillow.open(memory), x)


CORRUPTIONS: dict[str, tuple[Callable[[Image, Any, np.random.Generator], Image], Sequence[Any]]] = {
    "Gaussian noise": (gaussian_noise, (0.04, 0.06, 0.08, 0.09, 0.10)),
    "shot noise": (shot_noise, (500, 250, 100, 75, 50)),
    "impulse noise": (impulse_noise, (0.01, 0.02, 0.03, 0.05, 0.07)),
    "defocus blur": (defocus_blur, ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1))),
    "glass blur": (glass_blur, ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2))),
    "motion blur": (motion_blur, ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5))),
    "zoom blur": (zoom_blur, (1.06, 1.11, 1.16, 1.21, 1.26)),
    "snow": (snow, (
        (0.1, 0.2, 1, 0.6, 8, 3, 0.95), (0.1, 0.2, 1, 0.5, 10, 4, 0.9), (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85), (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    )),
    "frost": (frost, ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45))),
    "fog": (fog, ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75))),
    "brightness": (brightness, (0.05, 0.1, 0.15, 0.2, 0.3)),
    "contrast": (contrast, (0.75, 0.5, 0.4, 0.3, 0.15)),
    "elastic transform": (elastic_transform, (
        (0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03),
    )),
    "pixelate": (pixelate, (0.95, 0.9, 0.85, 0.75, 0.65)),
    "JPEG compression": (jpeg_compression, (80, 65, 58, 50, 40)),
}  # fmt: skip
KINDS = tuple(CORRUPTIONS)


def corrupted(x: Image, kind: int, severity: int, rng: np.random.Generator) -> Image:
    """x (H,W,C) after corruption number `kind` of KINDS at a severity of 1 to 5, cut to [0,1]; itself at severity 0."""
    if severity == 0:
        return x
    corrupt, constants = CORRUPTIONS[KINDS[kind]]
    return corrupt(x, constants[severity - 1], rng).clip(0, 1)


def unit(x: Image) -> float:
    """How many pixels of this image are one of an image of 32."""
    return float(min(x.shape[:2])) / 32


def _blurred(x: Image, sigma: float) -> Image:
    from scipy import ndimage

    return ndimage.gaussian_filter(x, (sigma, sigma, 0), mode="nearest")


def _moved(x: Image, radius: float, sigma: float, angle: float) -> Image:
    """ImageMagick's motion blur: weights of half a Gaussian along a line that begins at each pixel; edges go on."""
    width = 2 * math.ceil(radius) + 1
    weights = np.exp(-(np.arange(width) ** 2) / (2 * sigma**2))
    turn, found = math.radians(angle), np.zeros_like(x)
    for k, weight in enumerate(weights / weights.sum()):
        down, right = math.ceil(k * math.sin(turn) - 0.5), math.ceil(k * math.cos(turn) - 0.5)
        rows = (np.arange(x.shape[0]) + down).clip(0, x.shape[0] - 1)
        columns = (np.arange(x.shape[1]) + right).clip(0, x.shape[1] - 1)
        found += weight * x[rows[:, None], columns]
    return found


def _enlarged(x: Image, zoom: float) -> Image:
    """The middle of x, as large as x again, bilinear."""
    from scipy import ndimage

    size = [math.ceil(n / zoom) for n in x.shape[:2]]
    top, left = ((n - small) // 2 for n, small in zip(x.shape[:2], size, strict=True))
    large = ndimage.zoom(x[top : top + size[0], left : left + size[1]], (zoom, zoom, 1), order=1)
    top, left = ((n - m) // 2 for n, m in zip(large.shape[:2], x.shape[:2], strict=True))
    return large[top : top + x.shape[0], left : left + x.shape[1]]


def _sampled(x: Image, source: np.ndarray, mode: str) -> Image:
    """Each pixel from the place `source` (H,W,2) in x, bilinear."""
    from scipy import ndimage

    places = source.transpose(2, 0, 1)
    return np.stack([ndimage.map_coordinates(x[:, :, k], places, order=1, mode=mode) for k in range(x.shape[2])], 2)


def _plasma(shape: Sequence[int], decay: float, rng: np.random.Generator) -> Any:
    """(H,W) in [0,1]: a fractal by the diamond-square algorithm, on a torus; `decay`: how much smoother each finer step is."""
    size = 1 << math.ceil(math.log2(max(shape[:2])))
    found, step, wibble = np.zeros((size, size)), size, 100.0
    while step >= 2:
        half, corners = step // 2, found[::step, ::step]
        middle = corners + np.roll(corners, -1, 0)
        middle = (middle + np.roll(middle, -1, 1)) / 4 + wibble * rng.uniform(-wibble, wibble, corners.shape)
        found[half::step, half::step] = middle
        across = middle + np.roll(middle, 1, 0) + corners + np.roll(corners, -1, 1)
        found[::step, half::step] = across / 4 + wibble * rng.uniform(-wibble, wibble, corners.shape)
        down = middle + np.roll(middle, 1, 1) + corners + np.roll(corners, -1, 0)
        found[half::step, ::step] = down / 4 + wibble * rng.uniform(-wibble, wibble, corners.shape)
        step, wibble = half, wibble / decay
    found -= found.min()
    return (found / found.max())[: shape[0], : shape[1]]


def _as_pillow(x: Image) -> Any:
    from PIL import Image as Pillow

    levels = (x * 255).round().astype(np.uint8)
    return Pillow.fromarray(levels if x.shape[2] == 3 else levels[:, :, 0])


def _of_pillow(picture: Any, like: Image) -> Image:
    return np.asarray(picture, dtype=np.float64).reshape(like.shape) / 255
