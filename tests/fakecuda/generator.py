"""torch.Generator(device="cuda") without CUDA: a seed and an offset, 16 bytes of state, as CUDA's Philox generator has."""

from __future__ import annotations

import itertools
import struct
import weakref
import zlib
from functools import cache

import torch

from tests.fakecuda import guard

Real = torch.Generator  # torch's own
_marks = itertools.count(0xFACE_C0DA << 32)
_marked: weakref.WeakValueDictionary[int, Generator] = weakref.WeakValueDictionary()


def known(generator: torch.Generator) -> torch.Generator:
    """The Generator that an operator was given, if it is one of "cuda"."""
    return _marked.get(Real.initial_seed(generator), generator)


class Generator(Real):
    """Stands for torch.Generator. On a CPU it is that; on "cuda" it says so, and draws only for tensors there.

    The numbers are not CUDA's: each draw comes from a CPU generator seeded by seed and offset.
    """

    def __new__(cls, device: torch.device | str | int = "cpu") -> Generator:
        where = torch.device(device)
        self = Real.__new__(cls, "cpu")
        self._cuda = torch.device("cuda", guard.index_of(where)) if where.type == "cuda" else None
        self._seed, self._offset = 67280421310721, 0  # torch's default
        if self._cuda is not None:  # operators are handed another Python object for the same generator
            Real.manual_seed(self, next(_marks))
            _marked[Real.initial_seed(self)] = self
        return self

    def __init__(self, device: torch.device | str | int = "cpu") -> None:
        pass

    @property
    def device(self) -> torch.device:
        return self._cuda or Real.device.__get__(self)

    def manual_seed(self, seed: int) -> Generator:
        if self._cuda is None:
            Real.manual_seed(self, seed)
        self._seed, self._offset = int(seed) % 2**64, 0
        return self

    def initial_seed(self) -> int:
        return Real.initial_seed(self) if self._cuda is None else self._seed

    def get_state(self) -> torch.Tensor:
        if self._cuda is None:
            return Real.get_state(self)
        return torch.tensor(list(struct.pack("<Qq", self._seed, self._offset)), dtype=torch.uint8)

    def set_state(self, state: torch.Tensor) -> Generator:
        if self._cuda is None:
            Real.set_state(self, state)
        elif state.device.type != "cpu" or state.dtype != torch.uint8:
            raise TypeError("RNG state must be a torch.ByteTensor")
        elif state.numel() not in (8, 16):
            raise RuntimeError("RNG state is wrong size")
        else:
            self._seed, self._offset = struct.unpack("<Qq", bytes(state.tolist()).ljust(16, b"\0"))
        return self

    def drawing(self, numbers: int) -> Real:
        """A CPU generator for one draw of so many numbers; the offset moves on, as Philox's does."""
        key = zlib.crc32(struct.pack("<Qq", self._seed, self._offset))
        self._offset += 4 * max(1, -(-numbers // 2**16))
        return Real.__new__(Real).manual_seed((self._seed ^ (key << 20)) % 2**63)


@cache
def default(index: int) -> Generator:
    """What draws on this device where no generator is named."""
    return Generator(f"cuda:{index}").manual_seed(0)
