"""The decoder of uploaded pictures: a program of its own, so that what a hostile file does to it, it does to nobody else.

`upload.py` starts it anew for each picture, with nothing of the app's memory or environment: it may use so much memory,
time and no file. It imports Pillow and nothing of this project, and therefore starts in a few hundredths of a second.

Standard input: the file. Arguments: the network's channels, height, width. Standard output: one line of JSON, either
{"refused": the end of a sentence that begins with the file's name} or {"notes", "size", "preview"}, and after the latter
the pixels (H,W,C) and the preview (h,w,3) as bytes.
"""

from __future__ import annotations

import io
import json
import sys
import warnings
from dataclasses import dataclass

from PIL import ExifTags, Image, ImageChops, ImageOps, JpegImagePlugin, PngImagePlugin, WebPImagePlugin  # noqa: F401

MEMORY = 300_000_000  # bytes of address space; the worst picture that is allowed takes a third
SECONDS = 20  # of computing

FORMATS = ("PNG", "JPEG", "WEBP")
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


class Refused(Exception):
    """Why not, as the end of a sentence that begins with the file's name."""


@dataclass(frozen=True)
class Decoded:
    pixels: bytes  # (H,W,C) uint8
    preview: bytes  # (h,w,3) uint8
    preview_size: tuple[int, int]  # (w, h)
    notes: tuple[str, ...]
    size: tuple[int, int]  # (width, height) of the upright picture


def decode(data: bytes, shape: tuple[int, int, int]) -> Decoded:
    """The picture in the file for a network of input `shape` (C,H,W); raises Refused."""
    try:
        return _decode(data, shape)
    except Refused:
        raise
    except MemoryError as error:
        raise Refused("needs too much memory to decode: save it smaller.") from error
    except Exception as error:  # on damaged files Pillow raises nearly anything
        raise Refused("is damaged or cut off: open it in an image editor and save it again.") from error


def _decode(data: bytes, shape: tuple[int, int, int]) -> Decoded:
    notes: list[str] = []
    with _open(data) as image:
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
    pixels = seen.convert("L") if shape[0] == 1 else seen
    return Decoded(pixels.tobytes(), preview.tobytes(), preview.size, tuple(notes), rgb.size)


def _open(data: bytes) -> Image.Image:
    """The image with its header read and found acceptable, nothing decoded yet."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise Refused(_too_large("far too many")) from error
    except Image.UnidentifiedImageError as error:
        if data.startswith((_PNG, _JPEG)) or (data.startswith(b"RIFF") and data[8:12] == b"WEBP"):
            raise
        raise Refused(f"is {_guess(data)}, not a PNG, JPEG or WebP image: save it as one of these.") from error
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise Refused(_too_large(f"{width} x {height}"))
    if max(width, height) > MAX_SIDE or min(width, height) < MIN_SIDE:
        limits = f"each side must have {MIN_SIDE} to {MAX_SIDE:,}"
        raise Refused(f"has {width} x {height} pixels; {limits}: crop or enlarge it first.")
    if image.info.get("progressive") and data.count(b"\xff\xda") > MAX_SCANS:
        raise Refused(f"is a JPEG in more than {MAX_SCANS} passes, which no camera makes: save it again.")
    return image


def _too_large(amount: str) -> str:
    return f"has {amount} pixels; the limit is {MAX_PIXELS / 1e6:g} million: scale it down first."


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
    values = image.tobytes()  # the low byte comes first
    low, high = (Image.frombytes("L", image.size, values[at::2]) for at in (0, 1))
    grey = high.copy()
    if key is not None:
        differs = [part.point([255 * (v != k) for v in range(256)]) for part, k in ((low, key & 255), (high, key >> 8))]
        grey.putalpha(ImageChops.lighter(*differs))
    grey.info = {k: v for k, v in image.info.items() if k != "transparency"}
    return grey


def _preview(rgb: Image.Image) -> Image.Image:
    scale = min(1.0, PREVIEW_SIDE / max(rgb.size))
    size = tuple(max(1, round(side * scale)) for side in rgb.size)
    return rgb.resize(size, Image.Resampling.LANCZOS)


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


def _limit_yourself() -> None:
    try:
        import resource
    except ImportError:  # Windows has no such limits; the time is limited by who waits
        return
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":  # elsewhere the system refuses, or ignores it
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def main() -> None:
    _limit_yourself()
    channels, height, width = map(int, sys.argv[1:])
    try:
        found = decode(sys.stdin.buffer.read(), (channels, height, width))
    except Refused as refusal:
        answer: dict[str, object] = {"refused": str(refusal)}
        pixels = b""
    else:
        answer = {"notes": found.notes, "size": found.size, "preview": found.preview_size}
        pixels = found.pixels + found.preview
    sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n" + pixels)


if __name__ == "__main__":
    main()
