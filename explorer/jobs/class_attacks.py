"""Attacks of a class in a tournament: each a file, run confined on a copy of every entry; the true network judges its ends.

A copy of a confined entry lives in the attack's own process, so that neither reaches this one. The files stand in the run's
settings: nothing else keeps them.
"""

from __future__ import annotations

import hashlib
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explorer.core import Ball, Cancelled, ExplorerError, Goal, InvalidValue
from explorer.evaluation.batch_attack import ANYWHERE, stop_if_asked
from explorer.evaluation.outcome import classified_right
from explorer.evaluation.robustness import batch_of
from explorer.evaluation.tournament import CLASS, LINF, MASKING, TESTS, TOGETHER
from explorer.evaluation.verdict import verify
from explorer.jobs import masking
from explorer.jobs.kinds import Cell, Question, ShouldStop
from explorer.models import zoo
from explorer.testing.own_attack import own_attack, unrounded

if TYPE_CHECKING:
    import torch

    from explorer.data import Images

MOST, LONGEST, LARGEST = 30, 60, 256 << 10  # attacks, letters of a name, bytes of a file
FILE = "attack.py"  # what each is called where it runs: its own name might be a module's
BATCH = 250  # images at once: each batch has a process of its own


def checked_attacks(values: Any) -> list[dict[str, str]]:
    """Names, sources and their hashes, of untrusted ones; the code is not read. Raises InvalidValue."""
    if not isinstance(values, list) or len(values) > MOST or not all(isinstance(one, dict) for one in values):
        raise InvalidValue(f"attacks must be a list of at most {MOST} files with their names.")
    found = []
    for one in values:
        name, source = one.get("name"), one.get("source")
        if not isinstance(name, str) or not name.isprintable() or not 1 <= len(name) <= LONGEST:
            raise InvalidValue(f"an attack's name must have 1 to {LONGEST} printable characters; got {name!r:.80}.")
        if name in {TOGETHER, *(test.title for test in TESTS.values())}:
            raise InvalidValue(f"{name!r} is a line of the matrix already: give the attack another name.")
        if not isinstance(source, str) or not 1 <= len(source.encode()) <= LARGEST:
            raise InvalidValue(f"{name} must be a Python file of at most {LARGEST >> 10} kB.")
        found.append({"name": name, "source": source, "sha256": hashlib.sha256(source.encode()).hexdigest()})
    if len({one["name"] for one in found}) < len(found):
        raise InvalidValue("two attacks have the same name.")
    return found


def attack_question(
    attack: Mapping[str, str], facts: Mapping[str, Any], images: Images, device: torch.device, should_stop: ShouldStop
) -> Question:
    """One attack on one entry (`facts`), on the test pictures, in L-infinity 8/255."""
    own = {
        "attack": attack["name"],
        "attack_sha256": attack["sha256"],
        "norm": LINF.norm,
        "eps": LINF.eps,
        "batch": BATCH,
    }
    conditions = {**facts, "test": CLASS, **own}
    sizes = [min(BATCH, len(images) - at * BATCH) for at in range(math.ceil(len(images) / BATCH))]

    def each(index: int) -> Cell:
        return _attacked(attack["source"], conditions, images, device, index)

    title = f"{facts['model']}: {attack['name']}"
    return Question(title, conditions, sizes, _unless_refused(each, should_stop, {"each": "", "outside": 0}, BATCH))


def masking_question(model: str, images: int, device: torch.device, should_stop: ShouldStop) -> Question:
    """The checks for gradient masking of one entry, as of a run of that kind."""
    asked = masking.KIND.checked({"model": model, "images": images})
    (own,) = masking.KIND.questions(asked, device, should_stop)
    make = _unless_refused(own.make, should_stop, {"check": ""})
    return Question(f"{model}: {own.title}", {**own.conditions, "test": MASKING}, own.pictures, make)


def masking_row(conditions: Mapping[str, Any], cells: Sequence[Cell]) -> dict[str, Any]:
    """As a run of that kind tells it, and why a check was refused."""
    refused = next((cell["refused"] for cell in cells if cell["refused"]), "")
    row = masking.KIND.row(conditions, [cell for cell in cells if not cell["refused"]])
    del row["said"]  # a tournament has as many as entries
    return row | {"title": f"{conditions['model']}: {row['title']}", "refused": refused}


def _unless_refused(
    make: Callable[[int], Cell], should_stop: ShouldStop, empty: Cell, batch: int = 0
) -> Callable[[int], Cell]:
    """What others handed in may fail: then this cell says why, and the run goes on."""

    def cell(index: int) -> Cell:
        stop_if_asked(should_stop)
        try:
            return {"at": index * batch, **make(index), "refused": ""}
        except Cancelled:
            raise
        except (ExplorerError, FloatingPointError) as refusal:
            return {"at": index * batch, **empty, "refused": str(refusal).removeprefix(f"{FILE}: ")[:300]}

    return cell


def _attacked(source: str, conditions: Mapping[str, Any], images: Images, device: torch.device, index: int) -> Cell:
    """Of one batch, which pictures are right and stay so; one that leaves the ball or [0,1] fools nobody and is counted."""
    model, ball = zoo.load(conditions["model"], device), Ball(conditions["norm"], conditions["eps"])
    x, y, rng = batch_of(images, model, BATCH, conditions["seed"], index)
    goal = Goal.untargeted(y)
    right = classified_right(verify(model, x, x, goal, ANYWHERE, rng), y)
    with tempfile.TemporaryDirectory() as room:
        file = Path(room) / FILE
        file.write_text(source, "utf-8")
        with own_attack(file, conditions["model"]) as attack:
            end = attack.walk(x, y, ball.norm, conditions["eps"], conditions["seed"]).end
    end = unrounded(end.to(x.device).nan_to_num(0.0), ball.around(x))
    after = verify(model, end, x, goal, ball, rng)
    held = right & ~(after.reached & after.inside)
    return {"each": "".join("1" if one else "0" for one in held.tolist()), "outside": int((~after.inside).sum())}
