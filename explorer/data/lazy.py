"""Lazily decoded pixels: those that somebody asks for at once, the others meanwhile, so that work begins before all are there."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

_CHUNK = 100  # images decoded between two looks whether to stop


class LazyPixels:
    """Pixels (N,C,H,W) uint8, each decoded once it is needed.

    `pixels[rows]` decodes what it takes. `decode_all` begins to decode the others in a thread, which hands all of them to
    `keep`; `close` ends it. Which pixels a row has does not depend on who decoded it, or when.
    """

    def __init__(
        self,
        count: int,
        shape: tuple[int, int, int],
        decode: Callable[[int], np.ndarray],
        keep: Callable[[Tensor], None],
    ):
        """`decode` gives (C,H,W) uint8 of one row; what it raises reaches whoever asks next."""
        self.shape = (count, *shape)
        self._pixels = np.empty(self.shape, np.uint8)
        self._there = np.zeros(count, bool)
        self._decode, self._keep = decode, keep
        self._closing = threading.Event()
        self._problem: Exception | None = None
        self._thread: threading.Thread | None = None

    def __len__(self) -> int:
        return len(self._there)

    def __getitem__(self, rows: Tensor) -> Tensor:
        """(B,C,H,W) uint8 of the images at `rows` (B,)."""
        if self._problem is not None:
            raise self._problem
        wanted = rows.numpy()
        self._fill(wanted)
        return torch.from_numpy(self._pixels[wanted])

    @property
    def whole(self) -> Tensor | None:
        """All of them; None while some are still to come."""
        return torch.from_numpy(self._pixels) if self._there.all() else None

    def decode_all(self) -> None:
        """Decode, in a thread, what nobody has asked for yet; asking again changes nothing."""
        if self._thread is not None:
            return
        self._thread = threading.Thread(target=self._rest, name="decodes the rest", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join()

    def _rest(self) -> None:
        try:
            for start in range(0, len(self), _CHUNK):
                if self._closing.is_set():
                    return
                self._fill(np.arange(start, min(start + _CHUNK, len(self))))
            self._keep(torch.from_numpy(self._pixels))
        except Exception as error:  # raised where somebody asks for pixels
            self._problem = error

    def _fill(self, rows: np.ndarray) -> None:
        for row in np.unique(rows[~self._there[rows]]).tolist():
            self._pixels[row] = self._decode(row)
            self._there[row] = True  # after its pixels: another thread believes it
