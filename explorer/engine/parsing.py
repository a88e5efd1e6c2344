"""Parsing of what people and links hand in: text, whole numbers, classes, and a link's names and values."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

from explorer.core import InvalidValue, UnknownName
from explorer.data import Dataset

QUERY_LIMIT = 512  # characters of a link's names and values


def from_link(query: Mapping[str, str], names: Mapping[str, str], needed: Sequence[str]) -> dict[str, Any]:
    """A request's arguments from a link; `names` says which key of the link stands for which argument.

    Other keys are ignored. Raises InvalidValue for a key that is `needed` and missing, and for a link too long.
    """
    known = {key: value for key, value in query.items() if key in names}
    for key, value in known.items():
        as_text(key, value)
    if sum(len(key) + len(value) + 2 for key, value in known.items()) > QUERY_LIMIT:
        raise InvalidValue(f"a link may hold at most {QUERY_LIMIT} characters of settings.")
    for key in needed:
        if key not in known:
            wanted = f"{', '.join(needed[:-1])} and {needed[-1]}"
            raise InvalidValue(f"the link must name {wanted}; {key} is missing.")
    values: dict[str, Any] = {names[key]: value for key, value in known.items()}
    if "hyper" in values:
        values["hyper"] = as_pairs(values["hyper"])
    return values


def as_text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidValue(f"{name} must be text; got {value!r}.")
    return value


def as_pairs(text: str) -> dict[str, str]:
    """ "steps:40,loss:margin" as a dict; a name given twice is refused."""
    found: dict[str, str] = {}
    for part in filter(None, text.split(",")):
        name, colon, value = part.partition(":")
        if not colon or name in found:
            raise InvalidValue(f'with must look like "steps:40,loss:margin", each name once; got {text!r}.')
        found[name] = value
    return found


def as_class(name: str, value: Any, spec: Dataset) -> int:
    """A class by number or name."""
    if isinstance(value, str):
        if value in spec.classes:
            return spec.classes.index(value)
        if not value.strip().lstrip("-").isdecimal():
            raise UnknownName(f"{name} class", value, spec.classes)
    return as_whole(name, value, 0, len(spec.classes) - 1)


def as_whole(name: str, value: Any, low: int, high: int) -> int:
    """A whole number in [low, high], as a number or as text."""
    wrong = InvalidValue(f"{name} must be a whole number in [{low}, {high}]; got {value!r}.")
    if isinstance(value, bool):
        raise wrong
    try:
        number = int(value) if isinstance(value, str) else operator.index(value)
    except (ValueError, TypeError) as error:
        raise wrong from error
    if not low <= number <= high:
        raise wrong
    return number
