"""An uploaded picture becomes what the network sees, by stated rules; anything doubtful is refused in one sentence.

The rules, in order. PNG, JPEG and WebP only, told by content, at most 5 MB, 4 million pixels and 10,000 pixels a side,
at least 8: all of it known from the header, before a pixel is decoded. First frame only. 16 bits a channel: the high
byte. Turned as its EXIF orientation says. Palettes, CMYK and grey become RGB; transparency is put on white; colour
profiles are ignored. Then the largest centred part of the network's proportions is cut out and resized with Pillow's
LANCZOS filter, which averages when it shrinks. For a grey network colour becomes luma, 0.299 R + 0.587 G + 0.114 B.
"""

from __future__ import annotations

import io
import threading
import warnings
from dataclasses import dataclass
from pathlib import PureWindowsPath

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

from explorer.core import BadImage, InvalidValue

FORMATS = ("PNG", "JPEG", "WEBP")
MAX_BYTES = 5_000_000
MAX_PIXELS = 4_000_000
MAX_SIDE = 10_000
MIN_SIDE = 8
MAX_SCANS = 100  # of a progressive JPEG: each one is a pass over all pixels, and real files have about ten
PREVIEW_SIDE = 512

_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
_OTHERS = {  # what else a file may be, by its beginning or by bytes 4 to 12
    b"GIF8": "a GIF", b"BM": "a BMP", b"II*\0": "a TIFF", b"MM\0*": "a TIFF", b"%PDF": "a PDF", b"%!PS": "PostScript",
    b"<svg": "an SVG drawing", b"<?xml": "an SVG or XML file", b"<!DOC": "a web page", b"<html": "a web page",
    b"ftypheic": "an HEIC photo", b"ftypmif1": "an HEIC photo", b"ftypavif": "an AVIF image",
}  # fmt: skip
_decoding = threading.Lock()  # one at a time bounds the memory, and `catch_warnings` is process-wide


@dataclass(frozen=True, eq=False)
class Upload:
    """One uploaded picture, ready to classify and to show."""

    pixels: Tensor  # (C,H,W) float32 in [0,1]: what the network sees
    preview: np.ndarray  # (h,w,3) uint8, at most PREVIEW_SIDE a side: the whole picture, upright, on white
    notes: tuple[str, ...]  # one sentence for each rule that changed something
    size: tuple[int, int]  # (width, height) of the upright picture


def read_upload(data: bytes, filename: str, shape: tuple[int, int, int]) -> Upload:
    """Decode an uploaded file for a network with input `shape` (C,H,W); raises BadImage with one friendly sentence."""
    if len(shape) != 3 or shape[0] not in (1, 3) or min(shape) < 1:
        raise InvalidValue(f"shape must be (1 or 3, height, width); got {shape!r}.")
    name = _shown(filename)
    if not data:
        raise BadImage(f"{name} is empty: choose a PNG, JPEG or WebP image.")
    if len(data) > MAX_BYTES:
        raise BadImage(f"{name} has {len(data) / 1e6:.1f} MB; the limit is {MAX_BYTES / 1e6:g} MB: save it smaller.")
    with _decoding:
        try:
            return _read(data, name, shape)
        except BadImage:
            raise
        except Exception as error:  # on damaged files Pillow raises nearly anything
            raise BadImage(f"{name} is damaged or cut off: open it in an image editor and save it again.") from error


def _read(data: bytes, name: str, shape: tuple[int, int, int]) -> Upload:
    notes: list[str] = []
    with _open(data, name) as image:
        frames = getattr(image, "n_frames", 1)
        image.load()
        if frames > 1:
            notes.append(f"It holds {frames} frames; the first one is used.")
        rgb, was_grey = _upright_rgb(image, data, notes)
    preview = _preview(rgb)
    seen = _fit(rgb, shape[2], shape[1], notes)
    if shape[0] == 1 and not was_grey:
        notes.append("Colour became grey: 0.299 red + 0.587 green + 0.114 blue.")
    if shape[0] == 3 and was_grey:
        notes.append("Grey was repeated in red, green and blue.")
    pixels = np.asarray(seen.convert("L"))[None] if shape[0] == 1 else np.asarray(seen).transpose(2, 0, 1)
    return Upload(torch.from_numpy(pixels.astype(np.float32) / 255), preview, tuple(notes), rgb.size)


def _open(data: bytes, name: str) -> Image.Image:
    """The image with its header read and found acceptable, nothing decoded yet."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise BadImage(_too_large(name, "far too many")) from error
    except Image.UnidentifiedImageError as error:
        if data.startswith((_PNG, _JPEG)) or (data.startswith(b"RIFF") and data[8:12] == b"WEBP"):
            raise
        raise BadImage(f"{name} is {_guess(data)}, not a PNG, JPEG or WebP image: save it as one of these.") from error
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise BadImage(_too_large(name, f"{width} x {height}"))
    if max(width, height) > MAX_SIDE or min(width, height) < MIN_SIDE:
        limits = f"each side must have {MIN_SIDE} to {MAX_SIDE:,}"
        raise BadImage(f"{name} has {width} x {height} pixels; {limits}: crop or enlarge it first.")
    if image.info.get("progressive") and data.count(b"\xff\xda") > MAX_SCANS:
        raise BadImage(f"{name} is a JPEG in more than {MAX_SCANS} passes, which no camera makes: save it again.")
    return image


def _too_large(name: str, amount: str) -> str:
    return f"{name} has {amount} pixels; the limit is {MAX_PIXELS / 1e6:g} million: scale it down first."


def _upright_rgb(image: Image.Image, data: bytes, notes: list[str]) -> tuple[Image.Image, bool]:
    """The picture as RGB, upright, on white; and whether it was grey."""
    # Bytes 24 and 25 of a PNG: bits a channel and colour type. Pillow shows neither, and reads 16-bit LA as RGBA.
    bits, colour_type = (data[24], data[25]) if data.startswith(_PNG) else (8, None)
    was_grey = image.mode in ("1", "L", "LA", "I;16") or colour_type == 4
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    if bits == 16:
        image = _high_byte(image)
        notes.append("Its 16 bits a channel became 8: the high byte counts.")
    if orientation in range(2, 9):
        ImageOps.exif_transpose(image, in_place=True)
        notes.append(f"Turned upright, as its EXIF orientation ({orientation}) says.")
    if image.mode == "P":
        notes.append("Its palette was replaced by the colours it stands for.")
    if image.mode == "CMYK":
        notes.append("Its print colours (CMYK) were converted to RGB.")
    if image.info.get("icc_profile"):
        notes.append("Its colour profile was ignored.")
    if not image.has_transparency_data:
        return image.convert("RGB"), was_grey
    layer = image if image.mode == "RGBA" else image.convert("RGBA")
    if layer.getextrema()[3][0] == 255:  # a channel for transparency, and none in it
        return layer.convert("RGB"), was_grey
    notes.append("Its transparent parts were put on white.")
    white = Image.new("RGB", layer.size, "white")
    white.paste(layer, mask=layer)
    return white, was_grey


def _high_byte(image: Image.Image) -> Image.Image:
    """16-bit grey as 8 bits; 16-bit colour, already reduced by Pillow, with its transparent colour reduced as well."""
    key = image.info.get("transparency")
    if image.mode != "I;16":
        if isinstance(key, tuple):
            image.info["transparency"] = tuple(part >> 8 for part in key)
        return image
    values = np.asarray(image)
    grey = Image.fromarray((values >> 8).astype(np.uint8))
    if key is not None:
        grey.putalpha(Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8)))
    grey.info = {k: v for k, v in image.info.items() if k != "transparency"}
    return grey


def _preview(rgb: Image.Image) -> np.ndarray:
    scale = min(1.0, PREVIEW_SIDE / max(rgb.size))
    size = tuple(max(1, round(side * scale)) for side in rgb.size)
    return np.array(rgb.resize(size, Image.Resampling.LANCZOS))


def _fit(rgb: Image.Image, width: int, height: int, notes: list[str]) -> Image.Image:
    """The centre of the picture in the proportions width : height, resized to them; untouched when it fits already."""
    full_width, full_height = rgb.size
    crop_width = min(full_width, max(1, round(full_height * width / height)))
    crop_height = min(full_height, max(1, round(full_width * height / width)))
    left, top = (full_width - crop_width) // 2, (full_height - crop_height) // 2
    if (crop_width, crop_height) != rgb.size:
        notes.append(f"Cropped to its centre, {crop_width} x {crop_height} of {full_width} x {full_height} pixels.")
    if (crop_width, crop_height) != (width, height):
        notes.append(f"Resized from {crop_width} x {crop_height} to {width} x {height} pixels (Lanczos filter).")
    box = (left, top, left + crop_width, top + crop_height)
    return rgb.resize((width, height), Image.Resampling.LANCZOS, box=box)


def _guess(data: bytes) -> str:
    start = data.lstrip()[:12]
    for magic, what in _OTHERS.items():
        if start.startswith(magic) or data[4:12] == magic:
            return what
    return "another kind of file"


def _shown(filename: str) -> str:
    """The file's own name, printable and short, for a message."""
    name = "".join(c for c in PureWindowsPath(str(filename)).name if c.isprintable())
    return (name if len(name) <= 60 else f"{name[:40]}...{name[-15:]}") or "The file"
