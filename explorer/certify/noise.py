"""Gaussian noise for Monte Carlo sampling: it depends on (seed, stream, draw) alone, not on the batch size nor the device.

Draws come in blocks of 64; each block has its own generator, keyed by (seed, stream, block). The generator is numpy's,
because torch's CPU generator keeps only the low 32 bits of its seed: with keys hashed into so few, two blocks of a
long run could be the same noise, and the draws would not be independent.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

BLOCK = 64  # draws per generator; changing it changes every seeded result
SELECTION, ESTIMATION, PREDICTION, IMAGES, BATCHES, GOLD = range(6)  # streams of one seed; they never share noise

Draw = Callable[[np.random.Generator, np.ndarray], None]  # fills the array (b,*shape) it is given


def noise(shape: Sequence[int], n: int, batch: int, seed: int, stream: int, pinned: bool = False) -> Iterator[Tensor]:
    """Standard normal draws (b,*shape) float32 on the CPU, n in all, as `blocks` groups them."""

    def normal(rng: np.random.Generator, out: np.ndarray) -> None:
        rng.standard_normal(out=out, dtype=np.float32)

    return blocks(normal, torch.float32, shape, n, batch, seed, stream, pinned)


def blocks(
    draw: Draw,
    dtype: torch.dtype,
    shape: Sequence[int],
    n: int,
    batch: int,
    seed: int,
    stream: int,
    pinned: bool = False,
) -> Iterator[Tensor]:
    """What `draw` draws, (b,*shape) on the CPU, n in all; the caller may overwrite each tensor.

    b <= batch; above 64 it is a multiple of 64, so that no block is cut. `pinned` memory lets a GPU fetch the draws
    while the CPU makes the next ones.
    """
    group = max(BLOCK, batch // BLOCK * BLOCK)
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        for start in range(0, n, group):
            draws = torch.empty((min(group, n - start), *shape), dtype=dtype, pin_memory=pinned)

            def fill(offset: int, start: int = start, out: np.ndarray = draws.numpy()) -> None:  # noqa: B008
                key = np.random.SeedSequence(seed, spawn_key=(stream, (start + offset) // BLOCK))
                draw(np.random.Generator(np.random.SFC64(key)), out[offset : offset + BLOCK])

            if len(draws) <= BLOCK:
                fill(0)
            else:
                list(pool.map(fill, range(0, len(draws), BLOCK)))  # numpy releases the GIL; list() re-raises errors
            for at in range(0, len(draws), min(batch, group)):
                yield draws[at : at + min(batch, group)]
