"""Growing arrays: named NumPy arrays that get a row more with each step of a walk."""

from __future__ import annotations

from typing import Any

import numpy as np


class Rows:
    """Named arrays (T,...) with room for the planned rows, and for more. What was handed out never changes."""

    def __init__(self, planned: int):
        self.planned, self._length = planned, 0
        self._arrays: dict[str, np.ndarray] = {}

    def __len__(self) -> int:
        return self._length

    @property
    def nbytes(self) -> int:
        """The memory it holds, room included."""
        return sum(array.nbytes for array in self._arrays.values())

    def add(self, row: dict[str, Any]) -> None:
        """One more row of every array; the same names each time."""
        for name, value in row.items():
            self._room(name, np.asarray(value))[self._length] = value
        self._length += 1

    def arrays(self) -> dict[str, np.ndarray]:
        """The rows so far, as slices."""
        return {name: array[: self._length] for name, array in self._arrays.items()}

    def _room(self, name: str, value: np.ndarray) -> np.ndarray:
        array = self._arrays.get(name)
        if array is None:
            array = np.empty((self.planned, *value.shape), value.dtype)
        elif len(array) == self._length:  # more than planned
            array = np.concatenate([array, np.empty_like(array)])
        self._arrays[name] = array
        return array
