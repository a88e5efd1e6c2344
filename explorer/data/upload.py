"""Image upload: a picture becomes what the network sees, by stated rules; anything doubtful is refused in one sentence.

The rules, in order. PNG, JPEG, WebP, GIF and AVIF, and HEIC where pillow-heif is installed, told by content, at most 25 MB,
4 million pixels (a JPEG 50, AVIF and HEIC 12.5) and 10,000 pixels a side, at least 8: all of it known from the header, before
a pixel is decoded. Beyond 4 million a picture is decoded at a half, a quarter or an eighth. First frame only. 16 bits a
channel: the high byte. Turned as its EXIF orientation says. Palettes, CMYK and grey become RGB; transparency is put on the
background of the network's own pictures, on white if these have none; colour profiles are ignored. Then the largest centred
part of the network's proportions, or what the `Look` asks for, is cut out and resized with Pillow's LANCZOS filter, which
averages when it shrinks. For a grey network colour becomes luma, 0.299 R + 0.587 G + 0.114 B.

Here nothing but the file's size is looked at. A process of its own reads the rest (`decoder.py`), with limits to its
memory and time: what a hostile file does to it, the app survives.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import threading
from dataclasses import astuple, dataclass
from functools import lru_cache
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
import PIL
import torch
from torch import Tensor

from explorer.core import BadImage, InvalidValue
from explorer.data.decoder import KINDS, Decoded, Look, Refused

MAX_BYTES = 25_000_000
PATIENCE = 30.0  # seconds for one picture; a busy computer needs two at most
AT_ONCE = 2  # pictures: bounds the memory
REMEMBERED = 2  # files with what was read of them: the same one is often asked for twice

FAILED = "made its decoder fail and was not read: open it in an image editor and save it again."
DECODER = Path(__file__).with_name("decoder.py")
_decoding = threading.BoundedSemaphore(AT_ONCE)


@dataclass(frozen=True, eq=False)
class Upload:
    """One uploaded picture, ready to classify and to show."""

    pixels: Tensor  # (C,H,W) float32 in [0,1]: what the network sees
    preview: np.ndarray  # (h,w,3) uint8, at most PREVIEW_SIDE a side: the whole picture, upright, no transparency
    notes: tuple[str, ...]  # one sentence for each rule that changed something
    size: tuple[int, int]  # (width, height) of the upright picture


def read_upload(data: bytes, filename: str, shape: tuple[int, int, int], look: Look = Look()) -> Upload:
    """Decode an uploaded file for a network with input `shape` (C,H,W); raises BadImage with one friendly sentence.

    `look` says what is behind transparent parts (`Dataset.background`), whether to invert, and where the crop lies.
    """
    if len(shape) != 3 or shape[0] not in (1, 3) or min(shape) < 1:
        raise InvalidValue(f"shape must be (1 or 3, height, width); got {shape!r}.")
    _check_look(look)
    name = _shown(filename)
    if not data:
        raise BadImage(f"{name} is empty: choose {KINDS}.")
    if len(data) > MAX_BYTES:
        raise BadImage(f"{name} has {len(data) / 1e6:.1f} MB; the limit is {MAX_BYTES / 1e6:g} MB: save it smaller.")
    try:
        return _read(data, tuple(shape), look)
    except Refused as refusal:
        raise BadImage(f"{name} {refusal}") from refusal


def _check_look(look: Look) -> None:
    if look.background is not None and not 0 <= look.background <= 255:
        raise InvalidValue(f"background must be a level in [0, 255], or None; got {look.background!r}.")
    for name in ("across", "down"):
        if not 0 <= getattr(look, name) <= 1:
            raise InvalidValue(f"{name} must be a number in [0, 1]; got {getattr(look, name)!r}.")
    if not 0.05 <= look.share <= 1:
        raise InvalidValue(f"share must be a number in [0.05, 1]; got {look.share!r}.")


@lru_cache(maxsize=REMEMBERED)
def _read(data: bytes, shape: tuple[int, int, int], look: Look) -> Upload:
    channels, height, width = shape
    found = _in_child(data, shape, look)
    pixels = np.frombuffer(found.pixels, np.uint8).reshape(height, width, channels).transpose(2, 0, 1)
    preview = np.frombuffer(found.preview, np.uint8).reshape(*found.preview_size[::-1], 3)
    return Upload(torch.from_numpy(pixels.astype(np.float32) / 255), preview.copy(), found.notes, found.size)


def _in_child(data: bytes, shape: tuple[int, int, int], look: Look = Look()) -> Decoded:
    """What `decoder.decode` returns or raises, from a process of its own."""
    with _decoding:
        try:
            done = subprocess.run(
                command(shape, look), input=data, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment(),
                timeout=PATIENCE, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise Refused(f"took longer than {PATIENCE:g} s to decode: save it again, or smaller.") from error
        except OSError as error:  # no memory or no process left on this computer
            raise Refused(f"cannot be read just now: {error.strerror or error}. Try again in a while.") from error
    line, _, pixels = done.stdout.partition(b"\n")
    if done.returncode != 0:
        raise Refused(FAILED)
    try:
        return _answer(json.loads(line), pixels, shape)
    except (ValueError, KeyError, TypeError) as error:  # not what a decoder in its right mind says
        raise Refused(FAILED) from error


def _answer(said: dict[str, Any], pixels: bytes, shape: tuple[int, int, int]) -> Decoded:
    """What the decoder's line and the bytes after it mean. Raises Refused, and what malformed values raise."""
    if "refused" in said:
        raise Refused(said["refused"])
    size, (width, height) = math.prod(shape), said["preview"]
    if len(pixels) != size + 3 * width * height:
        raise ValueError("too many or too few pixels")
    return Decoded(pixels[:size], pixels[size:], (width, height), tuple(said["notes"]), tuple(said["size"]))


def command(shape: tuple[int, int, int], look: Look = Look()) -> list[str]:
    """How the decoder is started: without this program's folders on its path, and without what `site` would run."""
    return [sys.executable, "-P", "-S", str(DECODER), *map(str, shape), json.dumps(astuple(look))]


def environment() -> dict[str, str]:
    """Where Pillow is, and what a system needs to start a program; none of the app's passwords and settings."""
    kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "SYSTEMROOT") if name in os.environ}
    return kept | {"PYTHONPATH": str(Path(PIL.__file__).parents[1]), "MALLOC_ARENA_MAX": "1"}


def _shown(filename: str) -> str:
    """The file's own name, printable and short, for a message."""
    name = "".join(c for c in PureWindowsPath(str(filename)).name if c.isprintable())
    return (name if len(name) <= 60 else f"{name[:40]}...{name[-15:]}") or "The file"
