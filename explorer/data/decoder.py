"""The decoder of uploaded pictures: a program of its own, so that what a hostile file does to it, it does to nobody else.

`upload.py` starts it anew for each picture, with nothing of the app's memory or environment: it may use so much memory,
time and no file. It imports Pillow and nothing of this project, and therefore starts in a few hundredths of a second.

Standard input: the file. Arguments: the network's channels, height, width, then a `Look`'s fields. Standard output: one
line of JSON, either {"refused": the end of a sentence that begins with the file's name} or {"notes", "size", "preview"},
and after the latter the pixels (H,W,C) and the preview (h,w,3) as bytes.
"""

from __future__ import annotations

import io
import json
import sys
import warnings
from dataclasses import dataclass

from PIL import (
    AvifImagePlugin,
    ExifTags,
    GifImagePlugin,  # noqa: F401  # importing a plugin registers its format
    Image,
    ImageChops,
    ImageOps,
    ImageStat,
    JpegImagePlugin,  # noqa: F401
    PngImagePlugin,  # noqa: F401
    WebPImagePlugin,  # noqa: F401
)

MEMORY = 300_000_000  # bytes of address space; the worst picture that is allowed takes a third
SECONDS = 20  # of computing

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "AVIF", "HEIF")
KINDS = "a PNG, JPEG or WebP image"  # what to save as: AVIF and GIF are read, too
MAX_PIXELS = 4_000_000
# More where a picture takes little memory on its way to something small: a JPEG is decoded at a half, a quarter or an eighth.
MORE_PIXELS = {"JPEG": 50_000_000, "MPO": 50_000_000, "AVIF": 12_500_000, "HEIF": 12_500_000}
PROGRESSIVE_PIXELS = 16_000_000  # of a JPEG that comes in passes: all its coefficients are in memory together
MAX_SIDE = 10_000
MIN_SIDE = 8
MAX_SCANS = 100  # of a progressive JPEG: each one is a pass over all pixels, and real files have about ten
PREVIEW_SIDE = 512
LEAST_SIDE = 512  # of a picture that is made smaller on its way; no network sees more
WHITE = 255
CLOSE = (
    48  # levels within which a border, or what a transparent picture shows, counts as of the background's brightness
)

_PNG = b"\x89PNG\r\n\x1a\n"
_KNOWN = (_PNG, b"\xff\xd8\xff", b"GIF8")  # what a file of ours begins with
_OTHERS = {  # what else a file may be, by its beginning or by bytes 4 to 12
    b"BM": "a BMP", b"II*\0": "a TIFF", b"MM\0*": "a TIFF", b"%PDF": "a PDF", b"%!PS": "PostScript",
    b"<svg": "an SVG drawing", b"<?xml": "an SVG or XML file", b"<!DOC": "a web page", b"<html": "a web page",
    b"ftypheic": "an HEIC photo", b"ftypheix": "an HEIC photo", b"ftypmif1": "an HEIC photo", b"ftypavif": "an AVIF image",
}  # fmt: skip


class Refused(Exception):
    """Why not, as the end of a sentence that begins with the file's name."""


@dataclass(frozen=True)
class Look:
    """How somebody wants a picture to be seen; plain values, checked by `upload.py`."""

    background: int | None = (
        None  # plain ground of the network's own pictures, 0 (black) to 255 (white); None: they have none
    )
    invert: bool = False  # dark becomes bright; transparent parts still become the background
    across: float = 0.5  # where the crop lies: 0 at the left, 1 at the right
    down: float = 0.5  # 0 at the top, 1 at the bottom
    share: float = 1.0  # of the largest crop's sides


@dataclass(frozen=True)
class Decoded:
    pixels: bytes  # (H,W,C) uint8
    preview: bytes  # (h,w,3) uint8
    preview_size: tuple[int, int]  # (w, h)
    notes: tuple[str, ...]
    size: tuple[int, int]  # (width, height) of the upright picture


def decode(data: bytes, shape: tuple[int, int, int], look: Look = Look()) -> Decoded:
    """The picture in the file for a network of input `shape` (C,H,W); raises Refused."""
    try:
        return _decode(data, shape, look)
    except Refused:
        raise
    except MemoryError as error:
        raise Refused("needs too much memory to decode: save it smaller.") from error
    except Exception as error:  # on damaged files Pillow raises nearly anything
        raise Refused("is damaged or cut off: open it in an image editor and save it again.") from error


def _decode(data: bytes, shape: tuple[int, int, int], look: Look) -> Decoded:
    notes: list[str] = []
    with _open(data) as image:
        full = image.size
        frames = getattr(image, "n_frames", 1)
        image = _small(image)
        if frames > 1:
            notes.append(f"It holds {frames} frames; the first one is used.")
        rgb, was_grey = _upright_rgb(image, data, look, notes)
    size = rgb.size
    if max(full) != max(size):
        size = full if (full[0] > full[1]) == (size[0] > size[1]) else full[::-1]
        notes.append(f"Read at {rgb.width} x {rgb.height} of its {size[0]} x {size[1]} pixels, which is enough here.")
    preview = _preview(rgb)
    seen = fit(rgb, shape[2], shape[1], look, notes)
    if shape[0] == 1 and not was_grey:
        notes.append("Colour became grey: 0.299 red + 0.587 green + 0.114 blue.")
    if shape[0] == 3 and was_grey:
        notes.append("Grey was repeated in red, green and blue.")
    pixels = seen.convert("L") if shape[0] == 1 else seen
    return Decoded(pixels.tobytes(), preview.tobytes(), preview.size, tuple(notes), size)


def _open(data: bytes) -> Image.Image:
    """The image with its header read and found acceptable, nothing decoded yet."""
    if data[4:8] == b"ftyp" and _guess(data) == _OTHERS[b"ftypheic"]:
        _allow_heif()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=[kind for kind in FORMATS if kind in Image.OPEN])
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise Refused(_too_large("far too many", MAX_PIXELS)) from error
    except Image.UnidentifiedImageError as error:
        if data.startswith(_KNOWN) or (data.startswith(b"RIFF") and data[8:12] == b"WEBP") or data[4:8] == b"ftyp":
            raise
        raise Refused(f"is {_guess(data)}, not {KINDS}: save it as one of these.") from error
    width, height = image.size
    limit = MORE_PIXELS.get(image.format or "", MAX_PIXELS)
    if image.info.get("progressive"):
        limit = PROGRESSIVE_PIXELS
    if width * height > limit:
        raise Refused(_too_large(f"{width} x {height}", limit))
    if max(width, height) > MAX_SIDE or min(width, height) < MIN_SIDE:
        limits = f"each side must have {MIN_SIDE} to {MAX_SIDE:,}"
        raise Refused(f"has {width} x {height} pixels; {limits}: crop or enlarge it first.")
    if image.info.get("progressive") and data.count(b"\xff\xda") > MAX_SCANS:
        raise Refused(f"is a JPEG in more than {MAX_SCANS} passes, which no camera makes: save it again.")
    return image


def _allow_heif() -> None:
    """Phones' HEIC photos, where `pillow-heif` is installed. Raises Refused where it is not."""
    try:
        import pillow_heif
    except ImportError:
        words = f"is an HEIC photo, which needs pillow-heif on the app's computer: save it as {KINDS}."
        raise Refused(words) from None
    pillow_heif.options.DECODE_THREADS = 1
    pillow_heif.register_heif_opener(thumbnails=False)


def _small(image: Image.Image) -> Image.Image:
    """The picture decoded: beyond MAX_PIXELS at a half, a quarter or an eighth, while its sides keep LEAST_SIDE."""
    many = image.width * image.height > MAX_PIXELS
    if many:
        image.draft(None, (LEAST_SIDE, LEAST_SIDE))  # a JPEG is never decoded larger
    image.load()
    factor = 1
    while many and min(image.size) >= 2 * factor * LEAST_SIDE:
        factor *= 2
    return image if factor == 1 else image.reduce(factor)  # which keeps `info`, and with it the EXIF data


def _too_large(amount: str, limit: int) -> str:
    return f"has {amount} pixels; the limit is {limit / 1e6:g} million: scale it down first."


def _upright_rgb(image: Image.Image, data: bytes, look: Look, notes: list[str]) -> tuple[Image.Image, bool]:
    """The picture as RGB, upright, on the background; and whether it was grey."""
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
    clear = image.has_transparency_data
    layer = image.convert("RGBA") if clear and image.mode != "RGBA" else image
    clear = clear and layer.getchannel("A").getextrema()[0] != WHITE  # there may be a channel for it, and none in it
    return _on_ground(layer if clear else layer.convert("RGB"), look, notes), was_grey


def _on_ground(layer: Image.Image, look: Look, notes: list[str]) -> Image.Image:
    """RGB, or RGBA on the background, inverted if wanted; a note where the other way round would look more likely."""
    if look.invert:
        inverted = ImageOps.invert(layer.convert("RGB"))
        if layer.mode == "RGBA":
            inverted.putalpha(layer.getchannel("A"))
        layer = inverted
        notes.append("Inverted: dark became bright, and bright dark.")
    ground, level = layer, WHITE if look.background is None else look.background
    if layer.mode == "RGBA":
        notes.append(f"Its transparent parts were put on {_shade(level)}.")
        ground = Image.new("RGB", layer.size, (level,) * 3)
        ground.paste(layer, mask=layer)
    if look.background is not None and _looks_inverted(layer, level):
        notes.append(f"The model knows pictures on {_shade(level)}, and this one looks the other way round: invert it.")
    return ground


def _shade(level: int) -> str:
    return {0: "black", WHITE: "white"}.get(level, f"grey ({level} of 255)")


def _looks_inverted(layer: Image.Image, background: int) -> bool:
    """Whether the border is of the opposite brightness; of a transparent picture, whether what it shows is the background's."""
    grey = layer.convert("L")
    if layer.mode == "RGBA":
        shown = ImageStat.Stat(grey, mask=layer.getchannel("A").point(lambda level: WHITE * (level > WHITE // 2)))
        return shown.count[0] > 0 and abs(shown.mean[0] - background) < CLOSE
    inside = Image.new("L", grey.size, 255)
    inside.paste(0, (1, 1, grey.width - 1, grey.height - 1))
    return abs(ImageStat.Stat(grey, mask=inside).median[0] - (WHITE - background)) < CLOSE


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
    width, height = (max(1, round(side * scale)) for side in rgb.size)
    return rgb.resize((width, height), Image.Resampling.LANCZOS)


def fit(rgb: Image.Image, width: int, height: int, look: Look = Look(), notes: list[str] | None = None) -> Image.Image:
    """A part of the picture in the proportions width : height, resized to them; untouched when it fits already.

    The largest part, in the picture's middle, unless `look` says otherwise. What was done is added to `notes`.
    """
    notes = [] if notes is None else notes
    full_width, full_height = rgb.size
    crop_width = max(1, round(look.share * min(full_width, max(1, round(full_height * width / height)))))
    crop_height = max(1, round(look.share * min(full_height, max(1, round(full_width * height / width)))))
    left, top = int((full_width - crop_width) * look.across), int((full_height - crop_height) * look.down)
    if (crop_width, crop_height) != rgb.size:
        where = "to its centre" if (look.across, look.down) == (0.5, 0.5) else f"at {left}, {top}"
        notes.append(f"Cropped {where}, {crop_width} x {crop_height} of {full_width} x {full_height} pixels.")
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
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # each more would take address space
    channels, height, width = map(int, sys.argv[1:4])
    try:
        look = Look(*json.loads(sys.argv[4]))
        found = decode(sys.stdin.buffer.read(), (channels, height, width), look)
    except Refused as refusal:
        answer: dict[str, object] = {"refused": str(refusal)}
        pixels = b""
    else:
        answer = {"notes": found.notes, "size": found.size, "preview": found.preview_size}
        pixels = found.pixels + found.preview
    sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n" + pixels)


if __name__ == "__main__":
    main()
