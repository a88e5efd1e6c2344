"""Log of a certification run, to resume it: each certificate in a file as it is made, so that a stopped run goes on.

The first line holds the run's conditions, its seed among them. So going on makes the draws that were left, and no others:
it is no second try, and the certificates are those of a run that was never stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

from explorer.certify.results import Certificate
from explorer.core import InvalidValue
from explorer.core.cell_log import CellLog


class RunLog(CellLog[Certificate]):
    """A CellLog of certificates, each with its image's row."""

    field: ClassVar[str] = "certificate"
    holds: ClassVar[str] = "certificates"
    advice: ClassVar[str] = "name another file, or ask for the same"

    def __init__(self, path: Path, conditions: Mapping[str, Any]):
        """As CellLog; a file that cannot be written is an InvalidValue, too."""
        try:
            super().__init__(path, conditions)
        except OSError as error:
            raise _unusable(path, error) from error

    @classmethod
    def seed_of(cls, path: Path) -> int | None:
        """The seed of the run that the file is of; None if there is none yet. Raises InvalidValue."""
        try:
            return (cls.conditions_of(path) or {}).get("seed")
        except OSError as error:
            raise _unusable(path, error) from error

    def plain(self, value: Certificate) -> dict[str, Any]:
        return asdict(value)

    @classmethod
    def read(cls, plain: Any) -> Certificate:
        return Certificate.from_dict(plain)

    def note(self, index: int, value: Certificate, seconds: float) -> None:
        try:
            super().note(index, value, seconds)
        except OSError as error:
            raise _unusable(self.path, error) from error

    def find_or_make(
        self, index: int, make: Callable[[], Certificate], conditions: dict[str, Any], true_label: int | None
    ) -> Certificate:
        """The certificate of the image in this row, as it was noted, or made now and noted.

        Raises InvalidValue if the noted one is no answer to these conditions (`Certificate.answers`), or where the file
        cannot be written.
        """
        found = self.found.get(index)
        if found is None:
            return self.make(index, make)
        if not found.answers(conditions, true_label):
            raise InvalidValue(f"the certificate of image {index} in {self.path} is of another run.")
        return found


def _unusable(path: Path, error: OSError) -> InvalidValue:
    return InvalidValue(f"{path} cannot be used: {error.strerror or error}.")
