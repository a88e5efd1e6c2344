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
from torch import Tensor

_current: ContextVar[torch.Generator | None] = ContextVar("explorer_rng", default=None)
_shared: ContextVar[bool] = ContextVar("explorer_rng_shared", default=False)


@contextmanager
def randomness(rng: torch.Generator | None, shared: bool = False) -> Iterator[None]:
    """Stochastic layers inside the block draw from `rng` (None: torch's global generator).

    `shared`: one draw serves every image of the batch, so that what one image gets does not depend on the others.
    """
    token, kept = _current.set(rng), _shared.set(shared)
    try:
        yield
    finally:
        _current.reset(token)
        _shared.reset(kept)


def draws_for(like: Tensor) -> Tensor:
    """Room for a stochastic layer's draws, float32: the shape of `like` (N,...), or (1,...) where a draw is shared."""
    return torch.empty_like(like[:1] if _shared.get() else like, dtype=torch.float32)


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
