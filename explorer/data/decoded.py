"""A cache of decoded pixels: reading them takes a fraction of decoding tens of thousands of pictures anew."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from explorer.core.files import write_atomically
from explorer.data.folders import cache_folder

_log = logging.getLogger(__name__)


def file_for(name: str, split: str, files: Sequence[Path], stamp: Sequence[tuple[int, int]]) -> Path:
    """Where the pixels decoded from these files, in this state (sizes and times), are kept."""
    key = hashlib.sha256(repr((tuple(str(file.resolve()) for file in files), tuple(stamp))).encode()).hexdigest()
    return cache_folder() / "decoded" / f"{name}-{split}-{key[:24]}.safetensors"


def read(file: Path) -> tuple[Tensor, Tensor] | None:
    """Pixels (N,C,H,W) uint8 and labels (N,) int64, mapped from the file; None where there are none to be had."""
    try:
        with safe_open(file, framework="pt") as stored:
            return stored.get_tensor("pixels"), stored.get_tensor("labels")
    except FileNotFoundError:
        return None
    except (OSError, SafetensorError) as error:
        _log.warning("The decoded images %s cannot be read (%s): they are decoded again.", file, error)
        return None


def write(file: Path, pixels: Tensor, labels: Tensor) -> None:
    """Keep them for the next process, and drop what was decoded from former states of the same split."""
    try:
        write_atomically(file, save({"pixels": pixels.contiguous(), "labels": labels.contiguous()}))
        name, split, _ = file.name.rsplit("-", 2)
        for old in file.parent.glob(f"{name}-{split}-*.safetensors"):
            if old != file:
                old.unlink(missing_ok=True)
    except OSError as error:
        _log.warning("The decoded images are not kept for the next start, %s: %s", file.parent, error)
