"""Frames: a length-prefixed protocol of JSON and plain arrays over a pipe, for a process that is not trusted. No pickle.

A frame is the length of its header (4 bytes), the header in JSON, and the bytes of the arrays that it lists. Whoever reads
checks every length, type and shape before it believes anything, and waits no longer than asked.
"""

from __future__ import annotations

import json
import math
import os
import select
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

HEADER_MOST = 1 << 20  # bytes
ARRAYS_MOST = 1 << 30  # bytes, of all arrays of one frame
DTYPES = ("float32", "float64", "float16", "int64", "int32", "int16", "int8", "uint8", "bool")
CHUNK = 1 << 20

Arrays = dict[str, np.ndarray]


class Broken(Exception):
    """The other side has gone, was too slow, or did not speak the protocol."""


class Channel:
    """Two ends of pipes: frames go out of `write`, come in from `read`. `patient`: wait for ever (the confined side)."""

    def __init__(self, read: int, write: int, patient: bool = False) -> None:
        self.read, self.write, self.patient = read, write, patient
        self._come = bytearray()
        if not patient:
            os.set_blocking(read, False)
            os.set_blocking(write, False)

    def send(self, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray], seconds: float = 0.0) -> None:
        """Raises Broken if the other side is gone, or has not taken it all within `seconds`."""
        plain = {name: np.asarray(array, order="C") for name, array in arrays.items()}
        listed = [[name, str(array.dtype), list(array.shape)] for name, array in plain.items()]
        text = json.dumps({**header, "arrays": listed}).encode()
        data = b"".join([len(text).to_bytes(4, "little"), text, *(array.tobytes() for array in plain.values())])
        rest, ends = memoryview(data), time.monotonic() + seconds
        while rest:
            try:
                rest = rest[os.write(self.write, rest[:CHUNK]) :]
            except BlockingIOError:
                self._wait(self.write, select.POLLOUT, ends)
            except OSError as error:
                raise Broken("it ended") from error

    def receive(self, seconds: float = 0.0) -> tuple[dict[str, Any], Arrays]:
        """The next frame. Raises Broken at its end, after `seconds`, and for anything that is no frame."""
        ends = time.monotonic() + seconds
        length = int.from_bytes(self._exactly(4, ends), "little")
        if length > HEADER_MOST:
            raise Broken("it sent what is no answer")
        try:
            header = json.loads(self._exactly(length, ends))
            listed = [(str(name), str(dtype), tuple(map(int, shape))) for name, dtype, shape in header.pop("arrays")]
            sizes = [math.prod(shape) * np.dtype(dtype).itemsize for _, dtype, shape in listed if dtype in DTYPES]
            right = len(sizes) == len(listed) and all(n >= 0 for _, _, shape in listed for n in shape)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise Broken("it sent what is no answer") from error
        if not right or sum(sizes) > ARRAYS_MOST:
            raise Broken("it sent what is no answer")
        arrays = {}
        for (name, dtype, shape), size in zip(listed, sizes, strict=True):
            arrays[name] = np.frombuffer(self._exactly(size, ends), dtype).reshape(shape)
        return header, arrays

    def _exactly(self, size: int, ends: float) -> bytearray:
        """The next `size` bytes; what came with them is kept for the next call."""
        while len(self._come) < size:
            if not self.patient and time.monotonic() > ends:
                raise Broken("it took too long")
            try:
                part = os.read(self.read, CHUNK)
            except BlockingIOError:
                self._wait(self.read, select.POLLIN, ends)
                continue
            except OSError as error:
                raise Broken("it ended") from error
            if not part:
                raise Broken("it ended")
            self._come += part
        data, self._come = self._come[:size], self._come[size:]
        return data

    def _wait(self, end: int, event: int, ends: float) -> None:
        poll = select.poll()
        poll.register(end, event)
        if not poll.poll(max(0.0, ends - time.monotonic()) * 1000):
            raise Broken("it took too long")
