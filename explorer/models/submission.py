"""A submission's folder: which files it is made of, and a hash of each, so that a change is noticed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from explorer.core import InvalidValue
from explorer.core.files import sha256_of

MADE_OF = (
    ".py",
    ".pyc",
    ".so",
    ".pth",
    ".pt",
    ".bin",
    ".ckpt",
    ".safetensors",
    ".npy",
    ".npz",
    ".pkl",
    ".json",
    ".yaml",
    ".yml",
)
LEFT_OUT = ("__pycache__", "venv", "env", "data", "node_modules")  # and what begins with a dot
MOST_FILES = 5000
MOST_BYTES = 2 << 30


def fingerprint(folder: Path) -> dict[str, str]:
    """The sha256 of each file of code or weights, by its path in the folder.

    Raises InvalidValue for a folder without model.py, one that is too large, and links that lead out of it.
    """
    if not (folder / "model.py").is_file():
        raise InvalidValue(f"{folder} holds no model.py: a submission is a folder with model.py, in it a class Net.")
    found, size = {}, 0
    root = folder.resolve()
    for number, file in enumerate(_files(folder)):
        if number >= MOST_FILES:
            raise InvalidValue(
                f"{folder} holds more than {MOST_FILES:,} files: hand in the code and the weights alone."
            )
        if file.suffix.lower() not in MADE_OF:
            continue
        if not file.resolve().is_relative_to(root):
            raise InvalidValue(f"{folder} holds a link that leads out of it, {file.relative_to(folder)}; refused.")
        if not file.is_file():
            continue
        size += file.stat().st_size
        if size > MOST_BYTES:
            raise InvalidValue(f"{folder} holds more than {MOST_BYTES >> 30} GB of code and weights; refused.")
        found[str(file.relative_to(folder))] = sha256_of(file)
    return found


def _files(folder: Path) -> Iterator[Path]:
    for where, folders, files in os.walk(folder):
        folders[:] = sorted(one for one in folders if one not in LEFT_OUT and not one.startswith("."))
        for name in [*folders, *sorted(files)]:
            if (Path(where) / name).is_symlink() or name in files:
                yield Path(where) / name
