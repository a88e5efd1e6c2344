"""Arrays as the bytes that the app's own components read: a small JSON head, then the arrays one after another.

Layout (little-endian): four magic bytes | uint32 length of the head | head (UTF-8 JSON) | arrays, each starting at a
multiple of 8 bytes. The head names every array's dtype, shape and offset (from the first byte of the message).
`unpack` in drawing.js reads it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from explorer.core import InvalidValue


def pack(magic: bytes, head: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> bytes:
    """One message; arrays of uint8, little-endian uint16 and float32 are understood at the other end."""
    # Offsets depend on the head's length and the head holds the offsets, so they count from an aligned, padded head.
    sizes = [array.nbytes for array in arrays.values()]
    relative = np.concatenate([[0], np.cumsum([_aligned(n) for n in sizes])]).tolist()

    def encode(start: int) -> bytes:
        places = {
            name: [array.dtype.str, list(array.shape), start + int(offset)]
            for (name, array), offset in zip(arrays.items(), relative, strict=False)
        }
        return json.dumps({**head, "arrays": places}, allow_nan=False, ensure_ascii=False).encode()

    start = _aligned(8 + len(encode(0)) + 16 * len(arrays))  # room for the digits of the offsets
    text = encode(start).ljust(start - 8)
    body = b"".join(np.ascontiguousarray(a).tobytes().ljust(_aligned(a.nbytes), b"\0") for a in arrays.values())
    return magic + len(text).to_bytes(4, "little") + text + body


def unpack(magic: bytes, data: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The head and the arrays of a message. Raises InvalidValue if it does not begin with `magic`."""
    if data[:4] != magic:
        raise InvalidValue(f"a message of this kind starts with {magic!r}; got {data[:4]!r}.")
    length = int.from_bytes(data[4:8], "little")
    head = json.loads(data[8 : 8 + length])
    arrays = {}
    for name, (dtype, shape, offset) in head["arrays"].items():
        count = math.prod(shape)
        arrays[name] = np.frombuffer(data, np.dtype(dtype), count, offset).reshape(shape)
    return head, arrays


def _aligned(size: int) -> int:
    """The next multiple of 8."""
    return -(-size // 8) * 8
