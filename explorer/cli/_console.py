"""What commands share: saying things, progress bars, JSON files, and reading `--set name=value`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from explorer.cli import OK
from explorer.core import Hyper, InvalidValue, parse_eps
from explorer.core.ball import THREAT_EPS
from explorer.core.files import write_atomically
from explorer.data import Images, how_chosen, load
from explorer.engine import eps_text
from explorer.evaluation import write_measures
from explorer.evaluation.measure import OfCard
from explorer.models import zoo

EPS = {norm: eps_text(eps) for norm, eps in THREAT_EPS.items()}  # where none is given
BAR_AFTER = 1.0  # seconds of work before a progress bar shows itself


class Console:
    """Text for people goes to standard output; to standard error when the JSON is on standard output (`--json -`).

    A `quiet` one says and writes nothing: of several processes only the first speaks.
    """

    def __init__(self, json_target: str | None = None, quiet: bool = False):
        self.json_target, self.quiet, self.code = json_target, quiet, OK  # code: the exit code, if nothing is raised
        self.out = sys.stderr if json_target == "-" else sys.stdout

    def say(self, text: str = "") -> None:
        if not self.quiet:
            print(text, file=self.out, flush=True)

    def table(self, head: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Columns as wide as their longest cell."""
        cells = [[str(cell) for cell in row] for row in [head, *rows]]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        for row in cells:
            self.say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())

    def bar(self, total: int, unit: str, start: int = 0, scale: bool = False) -> tqdm:
        """A progress bar on standard error that appears once the work has lasted a second."""
        return tqdm(
            total=total, initial=start, unit=f" {unit}", unit_scale=scale, delay=BAR_AFTER, dynamic_ncols=True, leave=False,
            disable=self.quiet,
        )  # fmt: skip

    def finish(self, result: Any) -> None:
        """Write the command's result where `--json` said."""
        if self.json_target is None or self.quiet:
            return
        text = json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        if self.json_target == "-":
            sys.stdout.write(text)
        else:
            save(Path(self.json_target), text.encode())


def save(path: Path, data: bytes) -> None:
    """Write a file of the user's; raises InvalidValue where that is not possible."""
    try:
        write_atomically(path.expanduser(), data)
    except OSError as error:
        raise InvalidValue(f"{path} cannot be written: {error.strerror or error}.") from error


def check_writable(path: str | None) -> None:
    """Refuse a place that cannot be written before the work begins, not after it."""
    if path in (None, "-"):
        return
    folder = Path(path).expanduser().absolute().parent
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir() or Path(path).expanduser().is_dir():
        raise InvalidValue(f"{path} cannot be written: it is not a file in a folder.")


def advance(bar: tqdm) -> Callable[[int, int], None]:
    """A `progress(done, total)` that moves this bar."""

    def move(done: int, total: int) -> None:
        bar.total = total
        bar.update(done - bar.n)

    return move


def settings(pairs: Sequence[str]) -> dict[str, str]:
    """{"steps": "40"} of ["steps=40"]; raises InvalidValue for anything else, and for a name given twice."""
    found: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not (name and equals):
            raise InvalidValue(f"--set takes name=value; got {pair!r}.")
        if name in found:
            raise InvalidValue(f"--set names {name} twice.")
        found[name] = value
    return found


def eps_of(norm: str, text: str | None) -> float:
    """The eps asked for, or the norm's usual one; raises InvalidValue for what is no number."""
    return parse_eps(EPS.get(norm, "0.5") if text is None else text)  # an unknown norm is Ball's to refuse


def hyper_table(cls: type[Hyper], console: Console) -> None:
    """One row a hyper-parameter: name, default, what is allowed, help."""
    rows = []
    for p in cls.params():
        allowed = ", ".join(p.choices) if p.choices else "true, false" if p.kind is bool else "text"
        if p.lo is not None:
            allowed = f"{_short(p.lo)} to {_short(p.hi)} {p.unit}"
        rows.append([p.name, repr(p.default) if p.kind is str else _short(p.default), allowed, p.help])
    console.table(["--set", "default", "allowed", ""], rows)


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def whole(name: str, value: str, low: int, high: int) -> int:
    """A whole number in [low, high]; raises InvalidValue."""
    try:
        number = int(value)
    except ValueError:
        number = low - 1
    if not low <= number <= high:
        raise InvalidValue(f"{name} must be a whole number in [{low}, {high}]; got {value!r}.")
    return number


def images_of(name: str, n: int | None) -> tuple[Images, str]:
    """Test images of a dataset, from the full set where there is one, and in words how they were chosen."""
    images = load(name, n=n)
    return images, how_chosen(len(images), n)


def write_card(name: str, measures: Sequence[OfCard], console: Console) -> None:
    """Put measures into the card on disk; those under the same conditions are replaced."""
    if console.quiet:
        return
    write_measures(name, measures)
    console.say(f"Wrote {len(measures)} measure{'' if len(measures) == 1 else 's'} into {zoo.card_path(name)}.")


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"
