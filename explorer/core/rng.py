"""Randomness is handed in: the generator that a stochastic network draws from during one forward pass.

A shared model is used by many sessions at once, so its layers may not own a generator, and the process-wide one would
let sessions disturb each other. `randomness(rng)` names the generator for the passes inside the block, per thread.
Never `yield` inside the block: a generator function would leak it into its caller.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np
import torch
from torch import Tensor

_current: ContextVar[torch.Generator | None] = ContextVar("explorer_rng", default=None)
_shared: ContextVar[bool] = ContextVar("explorer_rng_shared", default=False)
_part: ContextVar[tuple[int, int, int] | None] = ContextVar("explorer_part_of_batch", default=None)


@contextmanager
def use_generator(rng: torch.Generator | None, shared: bool = False) -> Iterator[None]:
    """Stochastic layers inside the block draw from `rng` (None: torch's global generator).

    `shared`: one draw serves every image of the batch, so that what one image gets does not depend on the others.
    """
    token, kept = _current.set(rng), _shared.set(shared)
    try:
        yield
    finally:
        _current.reset(token)
        _shared.reset(kept)


@contextmanager
def batch_shard(start: int, stop: int, total: int) -> Iterator[None]:
    """Inside the block this process computes on rows start..stop-1 of a batch of `total` images, others on the rest.

    `sample_batch` and `sample_like` then draw for the whole batch and return this part's rows: what an image gets does not depend
    on how many processes share the batch, and all their generators stay in the same state.
    """
    token = _part.set((start, stop, total))
    try:
        yield
    finally:
        _part.reset(token)


def sample_batch(draw: Callable[[Sequence[int]], Tensor], shape: Sequence[int]) -> Tensor:
    """draw(shape), whose rows belong to the images of the batch (once, or copy by copy); see `batch_shard`."""
    part = _part.get()
    if part is None:
        return draw(shape)
    start, stop, total = part
    copies = shape[0] // (stop - start)
    whole = draw((copies * total, *shape[1:]))
    return whole.view(copies, total, *whole.shape[1:])[:, start:stop].flatten(0, 1)


def sample_like(like: Tensor, fill: Callable[[Tensor], Tensor]) -> Tensor:
    """A stochastic layer's draws, float32: the shape of `like` (N,...), or (1,...) where a draw is shared.

    `fill` draws into the room it is given.
    """
    if _shared.get():
        return fill(torch.empty_like(like[:1], dtype=torch.float32))
    strides = torch.empty_like(like, dtype=torch.float32).stride()  # rows outermost, so good for any number of them
    return sample_batch(lambda shape: fill(torch.empty_strided(tuple(shape), strides, device=like.device)), like.shape)


def is_shared() -> bool:
    """Whether one draw is to serve every image of the batch."""
    return _shared.get()


def current_rng(device: torch.device) -> torch.Generator | None:
    """The generator a stochastic layer must use now, on `device` (see `rng_on`)."""
    rng = _current.get()
    return None if rng is None else rng_on(device, rng)


def rng_on(device: torch.device, rng: torch.Generator) -> torch.Generator:
    """`rng` itself, or on another device a fresh generator seeded from it: one CPU seed reproduces a walk on any one device.

    What draws again and again asks once: each draw from a CPU generator for a GPU would be copied there.
    """
    if rng.device.type == device.type and device.index in (None, rng.device.index):
        return rng
    seed = int(torch.randint(2**62, (1,), generator=rng, device=rng.device))
    return torch.Generator(device=device).manual_seed(seed)


def seeded(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A fresh generator with this seed.

    Examples:
        >>> import torch
        >>> from explorer.core import seeded
        >>> torch.equal(torch.rand(3, generator=seeded(7)), torch.rand(3, generator=seeded(7)))
        True
    """
    return torch.Generator(device=device).manual_seed(seed)


def derived_seed(seed: int, stream: int, index: int = 0) -> int:
    """A seed (53 bits) for something else that must follow from `seed`: a stochastic layer, the next image."""
    state = np.random.SeedSequence(seed, spawn_key=(stream, index, 1)).generate_state(1, np.uint64)
    return int(state[0]) >> 11
