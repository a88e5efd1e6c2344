"""A measurement as a run's work: every cell of its kind's questions, each noted as it is finished; and the table so far.

`cells/000.jsonl` holds the first question's cells (`core/cell_log.py`); further processes have files of their own,
`cells/000-1.jsonl`. What another run of the store has measured under the very same conditions is taken over.
"""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from explorer.core.cell_log import CellLog
from explorer.core.errors import Cancelled, InvalidValue
from explorer.core.files import write_atomically
from explorer.jobs import environment
from explorer.jobs.kinds import Cell, Kind, Question, kind_of
from explorer.jobs.run_folder import RunFolder
from explorer.jobs.run_process import RunProcess, lower_priority

CELLS = "cells"  # folder
STOPPED = "It was stopped after {done:,} of {total:,} pictures; resume goes on with the others."
LOG = logging.getLogger("explorer.jobs")


class _Log(CellLog[Cell]):
    advice = "submit a new run"


def measure(process: RunProcess, in_background: bool = False) -> None:
    """Measure what is left of the run's questions. Raises what ends the run."""
    import torch

    from explorer.core import ranks

    run, spec = process.run, process.run.spec
    settings, kind = spec.checked().settings, kind_of(spec.kind)
    facts = environment.settle(run)
    if process.is_first:
        process.retry_when_full(lambda: environment.record(run, facts))
    if in_background:
        lower_priority()
    before = torch.get_num_threads()
    torch.set_num_threads(facts["threads"])
    device = torch.device(facts["device"])
    try:
        with ranks.start(device) as mine:
            process.tell("Reads the model and the pictures.")
            questions = kind.questions(settings, device, process.stop.is_set)
            if mine.is_first:
                for number, question in enumerate(questions):
                    _take_over(process, number, question)
            mine.any_rank(False)  # wait for the first
            _measure(process, kind, questions, mine)
            mine.any_rank(False)  # wait for all
    finally:
        torch.set_num_threads(before)
    if process.is_first:
        message = _sentence(result(run) or {})
        process.finish(message=message)
        LOG.info("finished: %s", message)


def _measure(process: RunProcess, kind: Kind, questions: list[Question], mine: Any) -> None:
    total = sum(sum(question.pictures) for question in questions)
    there = [_cells(process.run.folder, number)[1] for number in range(len(questions))]
    done = sum(q.pictures[index] for q, cells in zip(questions, there, strict=True) for index in cells)
    began, fresh = time.monotonic(), 0
    for number, question in enumerate(questions):
        place = _place(process.run.folder, number, mine.rank)
        log = process.retry_when_full(partial(_Log, place, question.conditions))
        for index in mine.shard(len(question.pictures)):
            if index in there[number]:
                continue
            now = min(done + fresh, total)
            left = (time.monotonic() - began) / fresh * (total - now) if fresh else None
            told = {"pictures": now, "of": total} | ({} if left is None else {"left": round(left, 1)})
            process.progress = {**told, "message": f"{kind.verb}: {now:,} of {total:,} pictures ({question.title})."}
            try:
                if process.stop.is_set():
                    raise Cancelled("stopped")
                at = time.monotonic()
                cell = question.make(index)
            except Cancelled as stop:
                raise Cancelled(STOPPED.format(done=now, total=total)) from stop
            process.retry_when_full(partial(log.note, index, cell, time.monotonic() - at))
            fresh += question.pictures[index] * mine.world


def result(run: RunFolder) -> dict[str, Any] | None:
    """The table of a measurement, as far as its cells are finished; None for a training. Raises InvalidValue."""
    spec = run.spec
    if spec.kind == "train":
        return None
    kind, rows = kind_of(spec.kind), []
    for number in range(_count(run.folder)):
        conditions, cells = _cells(run.folder, number)
        if cells:
            rows.append(kind.row(conditions, [cells[index] for index in sorted(cells)]))
    return {"kind": spec.kind, "model": spec.settings.get("model"), "rows": rows}


def _sentence(found: Mapping[str, Any]) -> str:
    """What a kind says of it as a whole, or else the first shares of the table."""
    if said := [row["said"] for row in found.get("rows", []) if "said" in row]:
        return " ".join(said)
    shares = [share for row in found.get("rows", []) for share in row["shares"]][:3]
    told = ", ".join(f"{one['what']}: {100 * one['accuracy']:.1f} % of {one['n']:,}" for one in shares)
    return f"{told}."


def _place(folder: Path, number: int, rank: int = 0) -> Path:
    return folder / CELLS / (f"{number:03d}.jsonl" if rank == 0 else f"{number:03d}-{rank}.jsonl")


def _count(folder: Path) -> int:
    return len({path.name[:3] for path in (folder / CELLS).glob("*.jsonl")})


def _cells(folder: Path, number: int) -> tuple[dict[str, Any], dict[int, Cell]]:
    """One question's conditions and finished cells, of all processes. Raises InvalidValue."""
    conditions: dict[str, Any] = {}
    found: dict[int, Cell] = {}
    for path in sorted((folder / CELLS).glob(f"{number:03d}*.jsonl")):
        with _told(path):
            told, cells = _Log.look(path)
            conditions, found = conditions or told, cells | found
    return conditions, found


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """A file that cannot be read is an InvalidValue."""
    try:
        yield
    except OSError as error:
        raise InvalidValue(f"{path} cannot be read: {error.strerror or error}.") from error


def _take_over(process: RunProcess, number: int, question: Question) -> None:
    """Cells that another run of this store has measured under the same conditions; nothing where this run has begun."""
    run, place = process.run, _place(process.run.folder, number)
    if run.store is None or place.exists():
        return
    found: dict[int, Cell] = {}
    for path in run.store.root.glob(f"*/{CELLS}/*.jsonl"):
        try:
            same = path.parent.parent != run.folder and _Log.conditions_of(path) == json.loads(
                json.dumps(question.conditions)
            )
            found |= _Log.look(path)[1] if same else {}
        except (OSError, InvalidValue) as error:  # somebody else's files: then these cells are measured here
            LOG.info("%s is left aside: %s", path, error)
    if not found:
        return
    lines = [question.conditions, *({"index": i, "seconds": 0.0, "value": found[i]} for i in sorted(found))]
    data = "".join(json.dumps(line) + "\n" for line in lines).encode()
    process.retry_when_full(lambda: write_atomically(place, data))
    LOG.info("%d cells of %r were measured by another run before.", len(found), question.title)
