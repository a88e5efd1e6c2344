"""Versions of what measures: of this project and torch, and a hash of the code itself, which tells changes between versions."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

ROOMS = ("attacks", "certify", "core", "data", "evaluation", "models")  # what a measure follows from
PACKAGE = Path(__file__).parents[1]


def versions() -> str:
    """ "explorer 0.1.0, torch 2.14.1+cpu"."""
    import torch

    import explorer

    return f"explorer {explorer.__version__}, torch {torch.__version__}"


def arithmetic() -> str:
    """What rounding follows from beside the device: "torch 2.14.1+cpu, AVX512"."""
    import torch

    return f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}"


@functools.cache
def code_hash() -> str:
    """sha256 of every Python file of the rooms that a measure follows from, with their names."""
    found = hashlib.sha256()
    for path in sorted(path for room in ROOMS for path in (PACKAGE / room).rglob("*.py")):
        found.update(
            f"{path.relative_to(PACKAGE).as_posix()} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode()
        )
    return found.hexdigest()
