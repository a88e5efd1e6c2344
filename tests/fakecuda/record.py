"""What happened: moments at which the host would wait for the GPU, with their places in the code; operators; memory."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

SKIP = ("/fakecuda/", "/torch/", "/contextlib.py", "<string>")
_current: list[Log] = []


@dataclass(eq=False)
class Log:
    """Counted while it is the current one (`watching`)."""

    waits: Counter = field(default_factory=Counter)  # (kind, place): the host waits for the GPU
    operators: Counter = field(default_factory=Counter)  # on CUDA tensors; views left out

    @property
    def waited(self) -> int:
        return sum(self.waits.values())


def _place(depth: int = 5) -> str:
    """file:line < caller's file:line ... of the code outside torch and this harness."""
    frame, found = sys._getframe(1), []
    while frame is not None and len(found) < depth:
        name = frame.f_code.co_filename
        if not any(part in name for part in SKIP) or "/fakecuda/test" in name:
            found.append(f"{'/'.join(name.split('/')[-2:])}:{frame.f_lineno}")
        frame = frame.f_back
    return " < ".join(found)


def wait(kind: str) -> None:
    for log in _current:
        log.waits[kind, _place()] += 1


def operator(name: str) -> None:
    for log in _current:
        log.operators[name] += 1


@contextmanager
def watching() -> Iterator[Log]:
    """Count everything that happens inside the block, in any thread."""
    log = Log()
    _current.append(log)
    try:
        yield log
    finally:
        _current.remove(log)


class Memory:
    """Bytes that living CUDA tensors hold, a storage counted once; an allocation beyond the limit fails."""

    def __init__(self) -> None:
        self.now = self.peak = 0
        self.limit = 141 * 2**30
        self._holders: dict[int, tuple[int, int]] = {}  # storage -> wrappers alive, bytes
        self._lock = threading.RLock()

    @contextmanager
    def limited(self, limit: int) -> Iterator[None]:
        """Inside, so many bytes are all there is."""
        before, self.limit = self.limit, limit
        try:
            yield
        finally:
            self.limit = before

    def hold(self, tensor: torch.Tensor) -> int:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        with self._lock:
            count, held = self._holders.get(key, (0, size))
            if count == 0:
                if self.now + size > self.limit:
                    raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {size / 2**20:.2f} MiB.")
                self.now += size
                self.peak = max(self.peak, self.now)
            self._holders[key] = (count + 1, held)
        return key

    def release(self, key: int) -> None:
        with self._lock:
            count, held = self._holders.pop(key)
            if count > 1:
                self._holders[key] = (count - 1, held)
            else:
                self.now -= held


memory = Memory()
