"""The convolutions of a plain network as a recipe's setting names them."""

from __future__ import annotations

from explorer.core import InvalidValue


def convolutions(channels: str) -> list[list[int]]:
    """[[16, 4, 2], [32, 4, 2]] (channels, kernel, stride) of "16-32"; raises InvalidValue for anything else."""
    numbers = channels.split("-")
    if not all(n.isdecimal() and 1 <= int(n) <= 1024 for n in numbers):
        raise InvalidValue(f'channels must be numbers in [1, 1024] such as "16-32"; got {channels!r}.')
    return [[int(n), 4, 2] for n in numbers]
