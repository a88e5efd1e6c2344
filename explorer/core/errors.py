"""Errors that teach: each message says what was wrong, what is allowed, and what was given."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ExplorerError(Exception):
    """One clear sentence for the person at the keyboard. Pages and the command line show `str(error)` as it is."""


class InvalidValue(ExplorerError, ValueError):
    """A hyper-parameter, budget or option lies outside what is allowed."""


class UnknownName(ExplorerError, LookupError):
    """A name that no registry, dataset or model zoo knows."""

    def __init__(self, kind: str, name: object, known: Iterable[str]):
        known = sorted(known)
        near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        super().__init__(f"Unknown {kind} {name!r}.{hint} Known: {', '.join(known) or 'none'}.")


class DataUnavailable(ExplorerError):
    """A dataset is missing, half-downloaded or corrupt; the message says what to do."""


class BadImage(ExplorerError, ValueError):
    """An uploaded image was refused; the message says why in a friendly way."""


class BadCheckpoint(ExplorerError):
    """A checkpoint or its card is missing, truncated, mismatched or not finite."""


class Cancelled(ExplorerError):
    """Somebody asked for the work to stop, and it stopped."""
