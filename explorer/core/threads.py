"""CPU threads, EXPLORER_THREADS: how many the app, the commands and the runs compute with."""

from __future__ import annotations

import os

from explorer.core.errors import InvalidValue

MOST = 1024
SPINS = 5000  # turns of a waiting thread's loop


def asked() -> int | None:
    """The number that EXPLORER_THREADS names, None where it is unset or empty. Raises InvalidValue."""
    text = os.environ.get("EXPLORER_THREADS", "").strip()
    if not text:
        return None
    if not text.isdecimal() or not 1 <= int(text) <= MOST:
        raise InvalidValue(f"EXPLORER_THREADS must be a whole number of CPU threads in [1, {MOST}]; got {text!r}.")
    return int(text)


def give_way() -> None:
    """Threads that wait for one another sleep after some microseconds instead of holding a core for a millisecond.

    To be called before torch is imported: libgomp reads GOMP_SPINCOUNT once. What is set there already stays. An app shares its cores with
    a browser or with many sessions: on two cores an attack on a photograph of 224 x 224, watched in a browser there, took 7 s
    instead of 13; alone a pass takes a quarter longer.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS))


def use() -> None:
    """Have torch compute with that many in this process; where none is named it keeps its own number (OMP_NUM_THREADS)."""
    number = asked()
    if number is not None:
        import torch

        torch.set_num_threads(number)
