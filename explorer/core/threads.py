"""CPU threads, EXPLORER_THREADS: how many the app, the commands and the runs compute with."""

from __future__ import annotations

import os

from explorer.core.errors import InvalidValue

MOST = 1024


def asked() -> int | None:
    """The number that EXPLORER_THREADS names, None where it is unset or empty. Raises InvalidValue."""
    text = os.environ.get("EXPLORER_THREADS", "").strip()
    if not text:
        return None
    if not text.isdecimal() or not 1 <= int(text) <= MOST:
        raise InvalidValue(f"EXPLORER_THREADS must be a whole number of CPU threads in [1, {MOST}]; got {text!r}.")
    return int(text)


def use() -> None:
    """Have torch compute with that many in this process; where none is named it keeps its own number (OMP_NUM_THREADS)."""
    number = asked()
    if number is not None:
        import torch

        torch.set_num_threads(number)
