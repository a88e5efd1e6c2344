"""Randomness is handed in: the generator that a stochastic network draws from during one forward pass.

A shared model is used by many sessions at once, so its layers may not own a generator, and the process-wide one would
let sessions disturb each other. `randomness(rng)` names the generator for the passes inside the block, per thread.
Never `yield` inside the block: a generator function would leak it into its caller.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

_current: ContextVar[torch.Generator | None] = ContextVar("explorer_rng", default=None)


@contextmanager
def randomness(rng: torch.Generator | None) -> Iterator[None]:
    """Stochastic layers inside the block draw from `rng` (None: torch's global generator)."""
    token = _current.set(rng)
    try:
        yield
    finally:
        _current.reset(token)


def current_rng(device: torch.device) -> torch.Generator | None:
    """The generator a stochastic layer must use now, on `device`.

    A generator of another device seeds a fresh one there, so that one CPU seed reproduces a run on any one device.
    """
    rng = _current.get()
    if rng is None or rng.device.type == device.type:
        return rng
    seed = int(torch.randint(2**62, (1,), generator=rng, device=rng.device))
    return torch.Generator(device=device).manual_seed(seed)


def seeded(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A fresh generator with this seed."""
    return torch.Generator(device=device).manual_seed(seed)
