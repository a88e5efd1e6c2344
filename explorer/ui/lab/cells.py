"""Cells of a question about accuracy over eps, as the store's runs that evaluate have measured them; and what such a run is asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from explorer.core import ExplorerError, threads
from explorer.engine.accuracy_over_eps import AccuracyOverEps, Cells, Place
from explorer.engine.tables import Row
from explorer.jobs import Spec
from explorer.jobs.evaluate import EvaluateSettings
from explorer.jobs.measuring import result
from explorer.models import zoo
from explorer.ui import permission
from explorer.ui.run_record import Seen
from explorer.ui.session import store

SHARED = (
    "model",
    "weights",
    "images",
    "shuffle",
    "seed",
    "batch",
    "precision",
)  # decide about a cell with its attack and eps


@dataclass(frozen=True)
class Found:
    """What the store holds for a question."""

    cells: Cells = field(default_factory=dict)  # finished; of two by other versions or devices the newer
    runs: tuple[Seen, ...] = ()  # that are under way, or were stopped and ask exactly this; the newest first
    wrong: tuple[str, ...] = ()  # sentences about files that cannot be read

    @property
    def live(self) -> tuple[Seen, ...]:
        return tuple(seen for seen in self.runs if seen.live)


def find(question: AccuracyOverEps) -> Found:
    """Reads the store's runs, and looks after those that are live; computes nothing."""
    cells: dict[Place, Row] = {}
    runs: list[Seen] = []
    wrong: list[str] = []
    places = {*question.places}
    asked = {model: settings(question, model) for model in question.models}
    for seen in map(Seen.of, store().tend()):
        if seen.spec is None or seen.spec.kind != "evaluate":
            continue
        own, wanted = seen.spec.settings, asked.get(seen.spec.subject)
        if wanted is None or any(own.get(name) != wanted[name] for name in SHARED):
            continue
        try:
            rows = (result(seen.run) or {})["rows"]
        except ExplorerError as error:
            wrong.append(str(error))
            continue
        fresh = {place: row for row in rows if (place := _place(row, wanted)) in places and row["n"] == question.n}
        cells = fresh | cells
        if seen.live or (seen.state.status != "finished" and own == wanted):
            runs.append(seen)
    return Found(cells, tuple(runs), tuple(wrong))


def settings(question: AccuracyOverEps, model: str) -> dict[str, Any]:
    """All settings of the run that measures this model, as a submitted spec names them."""
    asked = question.settings(model)
    lists = {name: asked.pop(name) for name in ("attacks", "eps")}
    return EvaluateSettings(**asked, weights=zoo.card(model).identity).to_dict() | lists


def measure(question: AccuracyOverEps) -> None:
    """A run for each model that misses cells: the one that was stopped goes on, else a new one. What other runs have measured
    they take over. Raises Refused, InvalidValue, DataUnavailable.
    """
    found = find(question)
    for model in dict.fromkeys(place[0] for place in question.missing(found.cells)):
        asked = settings(question, model)
        same = [seen for seen in found.runs if seen.spec is not None and seen.spec.settings == asked]
        if any(seen.live for seen in same):
            continue
        if same:
            same[0].run.resume(permission.permit())
        else:
            spec = Spec(kind="evaluate", settings=asked, threads=threads.asked())
            store().submit(spec, permission.permit())


def _place(row: Row, wanted: dict[str, Any]) -> Place | None:
    """Where a run's row belongs in the question; None where its attack, hyper-parameters or norm are others."""
    about = row["conditions"]
    if about["attack"] is None:
        return wanted["model"], None, 0.0
    same = {"name": about["attack"], "hyper": about["hyper"]} in wanted["attacks"] and about["norm"] == wanted["norm"]
    return (wanted["model"], about["attack"], about["eps"]) if same else None
