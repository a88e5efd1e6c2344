"""Log of a certification run, to resume it: each certificate in a file as it is made, so that a stopped run goes on.

The first line holds the run's conditions, its seed among them. So going on makes the draws that were left, and no others:
it is no second try, and the certificates are those of a run that was never stopped.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from explorer.certify.results import Certificate
from explorer.core import InvalidValue

LARGEST_LOG = 2**30  # bytes; 10,000 certificates of 1,000 classes have less


class RunLog:
    """JSON lines: the conditions, then one certificate a line, with its image's row and the seconds that it took."""

    def __init__(self, path: Path, conditions: Mapping[str, Any]):
        """Begin the file, or read the one that is there.

        `conditions` are everything that decides about the run, as JSON can hold it. Raises InvalidValue if the file is
        another run's, damaged (a last line that was cut off is not: it is made anew) or cannot be written.
        """
        self.path, self.seconds = path.expanduser(), 0.0  # seconds: of the certificates that were there
        self._found: dict[int, Certificate] = {}
        first = _line(dict(conditions))
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.touch()
            lines, rest = _lines(self.path)
            if lines:
                _check_same(path, _conditions(path, lines[0]), conditions)
            elif not first.startswith(rest):
                raise _not_a_log(path)
            if rest:
                os.truncate(self.path, sum(map(len, lines)))
            if not lines:
                self._append(first)
        except OSError as error:
            raise _unusable(path, error) from error
        for index, certificate, seconds in _certificates(path, lines):
            self._found[index] = certificate
            self.seconds += seconds

    @staticmethod
    def seed_of(path: Path) -> int | None:
        """The seed of the run that the file is of; None if there is none yet. Raises InvalidValue."""
        try:
            lines, _ = _lines(path.expanduser())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unusable(path, error) from error
        return _conditions(path, lines[0]).get("seed") if lines else None

    def __len__(self) -> int:
        """How many certificates were there when it was opened."""
        return len(self._found)

    def find_or_make(
        self, index: int, make: Callable[[], Certificate], conditions: dict[str, Any], true_label: int | None
    ) -> Certificate:
        """The certificate of the image in this row, as it was noted, or made now and noted.

        Raises InvalidValue if the noted one is no answer to these conditions (`Certificate.answers`), or where the file
        cannot be written.
        """
        found = self._found.get(index)
        if found is None:
            began = time.monotonic()
            found = make()
            self._note(index, found, time.monotonic() - began)
        elif not found.answers(conditions, true_label):
            raise InvalidValue(f"the certificate of image {index} in {self.path} is of another run.")
        return found

    def _note(self, index: int, certificate: Certificate, seconds: float) -> None:
        try:
            self._append(_line({"index": index, "seconds": round(seconds, 3), "certificate": asdict(certificate)}))
        except OSError as error:
            raise _unusable(self.path, error) from error

    def _append(self, line: bytes) -> None:
        with open(self.path, "ab") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())


def _line(facts: dict[str, Any]) -> bytes:
    return json.dumps(facts).encode() + b"\n"


def _lines(path: Path) -> tuple[list[bytes], bytes]:
    """The whole lines, and what a kill has left of the last one. Raises InvalidValue, OSError."""
    if path.stat().st_size > LARGEST_LOG:
        raise _not_a_log(path)
    *lines, rest = path.read_bytes().split(b"\n")
    return [line + b"\n" for line in lines], rest


def _conditions(path: Path, line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise _not_a_log(path)
    return found


def _check_same(path: Path, there: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    for name in sorted(there.keys() | now.keys()):
        if there.get(name) != now.get(name):
            raise InvalidValue(
                f"{path} is of another run: {name} is {there.get(name)!r} there, and {now.get(name)!r} now. Name another "
                "file, or ask for the same."
            )


def _certificates(path: Path, lines: list[bytes]) -> Iterator[tuple[int, Certificate, float]]:
    for number, line in enumerate(lines[1:], 2):
        try:
            facts = json.loads(line)
            yield int(facts["index"]), Certificate.from_dict(facts["certificate"]), float(facts["seconds"])
        except (ValueError, TypeError, KeyError, InvalidValue) as error:
            raise InvalidValue(f"{path} is damaged in line {number} ({error}): name another file.") from error


def _not_a_log(path: Path) -> InvalidValue:
    return InvalidValue(f"{path} does not hold a run's certificates: name another file.")


def _unusable(path: Path, error: OSError) -> InvalidValue:
    return InvalidValue(f"{path} cannot be used: {error.strerror or error}.")
