"""What a run has recorded, read as it grows: each byte of its metrics once, for all sessions of this process together."""

from __future__ import annotations

import contextlib
import threading
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from explorer.core import ExplorerError, wilson
from explorer.defenses import RECIPES
from explorer.defenses.recipe import Recipe
from explorer.jobs import LIVE, Run, Spec, State
from explorer.jobs.kinds import TRAIN
from explorer.jobs.train import counted
from explorer.plots.training import MEASURES, Curves
from explorer.training.watched import BoundarySlice, TapeColumn

COLUMNS = ("loss", "learning_rate", "images_per_second", "seconds", "memory")
RECENT = 20  # updates that the time left is reckoned from
KEPT = 64  # runs whose records are remembered
UNREADABLE = (ExplorerError, OSError, ValueError, KeyError, zipfile.BadZipFile)  # raised by a damaged or vanished sight


@dataclass(frozen=True)
class Seen:
    """A run as it was found when the page was drawn: its files are read once, so that a page does not contradict itself."""

    run: Run
    spec: Spec | None  # None: unreadable; the state's message says why
    state: State

    @classmethod
    def of(cls, run: Run) -> Seen:
        try:
            spec = run.spec
        except ExplorerError:
            spec = None
        return cls(run, spec, run.state)

    @property
    def id(self) -> str:
        return self.run.id

    @property
    def live(self) -> bool:
        return self.state.status in LIVE

    @property
    def trains(self) -> bool:
        """Whether it is a training, or cannot be read."""
        return self.spec is None or self.spec.kind == TRAIN

    @property
    def recipe(self) -> type[Recipe] | None:
        """None where the recipe is not known here."""
        return RECIPES[self.spec.recipe] if self.spec is not None and self.spec.recipe in RECIPES else None

    @property
    def title(self) -> str:
        """What it is called, and the first letters of its id."""
        if self.spec is None:
            return f"Run {self.id[:6]}"
        named = self.spec.title or self.spec.name
        return (
            f"{named or (RECIPES.entry(self.spec.recipe).title if self.recipe else self.spec.subject)} · {self.id[:6]}"
        )

    @property
    def half(self) -> tuple[str, ...]:
        """Measures that its recipe makes on half of the held-out images."""
        return self.recipe.half if self.recipe else ()


class Recorded(Protocol):
    """The part of a run that is read here."""

    def metrics(self, offset: int = 0) -> tuple[list[dict[str, Any]], int]: ...

    def sights(self) -> list[int]: ...

    def sight(self, epoch: int) -> Mapping[str, np.ndarray]: ...


@dataclass(frozen=True, eq=False)
class Standing:
    """Where a run stands, as of its last record."""

    update: int  # done
    updates: int  # planned; 0: not known
    epoch: int  # epochs finished
    epochs: int  # planned; 0: not known
    loss: float
    learning_rate: float
    images_per_second: float
    seconds: float  # trained so far
    memory: float  # peak, bytes; nan where unknown
    left: float  # seconds until the last update, at the speed of the last updates; nan where unknown
    scores: dict[str, float]  # of the last epoch that was scored
    best: dict[str, float]  # of the epoch that scored best, the one that is kept: with "epoch"
    held_out: int | None  # images that the scores were made on


class Record:
    """One run's metrics and sights; what is new is read when it is asked for. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._forget()

    def _forget(self) -> None:
        self._offset = 0
        self._told: dict[str, Any] = {}  # of the last start: what is planned
        self._epochs: dict[int, dict[str, Any]] = {}
        self._columns = {name: np.full(256, np.nan) for name in COLUMNS}  # row u - 1 is update u
        self._last = 0
        self._slices: dict[int, BoundarySlice] = {}  # by update
        self._tape: dict[int, TapeColumn] = {}  # by epoch
        self._decisions: dict[int, tuple[np.ndarray, np.ndarray]] = {}  # epoch: (N,K) of the clean and the seen images

    def look(self, run: Recorded) -> None:
        """Read on from where the last look ended. A file that became shorter is read anew. Raises what reading raises."""
        with self._lock:
            rows, offset = run.metrics(self._offset)
            if offset < self._offset:
                self._forget()
                rows, offset = run.metrics(0)
            for row in rows:
                self._take(row)
            self._offset = offset

    def _take(self, row: dict[str, Any]) -> None:
        kind, update = row.get("kind"), row.get("update")
        if not isinstance(update, int) or isinstance(update, bool) or update < 0:
            return  # not one of ours: somebody has written in the file
        if kind == "start":
            self._told |= row
            self._cut(update, int(row.get("epoch", 0)))
        elif kind == "update" and update > 0:
            while update > len(self._columns["loss"]):
                self._columns = {n: np.concatenate([c, np.full(len(c), np.nan)]) for n, c in self._columns.items()}
            for name, column in self._columns.items():
                column[update - 1] = _number(row.get(name))
            self._last = max(self._last, update)
        elif kind == "epoch" and isinstance(row.get("epoch"), int):
            self._epochs[row["epoch"]] = row
        elif kind in ("slice", "tape"):
            with contextlib.suppress(KeyError, TypeError, ValueError):  # not one of ours
                if kind == "slice":
                    self._slices[update] = BoundarySlice.of_record(row)
                else:
                    marks = TapeColumn.of_record(row)
                    self._tape[marks.epoch] = marks

    def _cut(self, update: int, epoch: int) -> None:
        """The run goes on after `update` and `epoch`: what was recorded beyond has not happened yet."""
        for column in self._columns.values():
            column[update:] = np.nan
        self._last = min(self._last, update)
        self._slices = {u: one for u, one in self._slices.items() if u <= update}
        self._tape = {e: one for e, one in self._tape.items() if e <= epoch}
        self._epochs = {e: row for e, row in self._epochs.items() if e <= epoch}
        self._decisions = {e: found for e, found in self._decisions.items() if e <= epoch}

    def decisions(self, run: Recorded) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Epochs (E,), and the probabilities then of the N watched images, clean (E,N,K) and as the loss saw them (E,N,K).

        A sight that cannot be read is left out.
        """
        with self._lock:
            for epoch in run.sights():
                if epoch not in self._decisions:
                    try:
                        sight = run.sight(epoch)
                        self._decisions[epoch] = (np.asarray(sight["p_clean"]), np.asarray(sight["p_trained_on"]))
                    except UNREADABLE:
                        continue
            found = sorted(self._decisions.items())
        if not found:
            return np.zeros(0), np.zeros((0, 0, 0)), np.zeros((0, 0, 0))
        shape = found[-1][1][0].shape
        found = [(epoch, pair) for epoch, pair in found if pair[0].shape == pair[1].shape == shape]
        clean, seen = (np.stack([pair[i] for _, pair in found]) for i in (0, 1))
        return np.array([epoch for epoch, _ in found]), clean, seen

    def slices(self) -> list[BoundarySlice]:
        """The film until now, in order."""
        with self._lock:
            return [self._slices[update] for update in sorted(self._slices)]

    def tape(self) -> list[TapeColumn]:
        """Which held-out images were right after each epoch, in order; of as many images as after the last."""
        with self._lock:
            found = [self._tape[epoch] for epoch in sorted(self._tape)]
        return [one for one in found if one.shape == found[-1].shape]

    def losses(self) -> dict[int, float]:
        """The training loss of each epoch."""
        with self._lock:
            return {epoch: _number(row.get("loss")) for epoch, row in self._epochs.items()}

    def remark(self) -> str:
        """What the recipe warned of after the last epoch; mostly nothing."""
        with self._lock:
            last = self._epochs[max(self._epochs)] if self._epochs else {}
        return str(last.get("remark", ""))

    def curves(self, name: str, half: tuple[str, ...] = ()) -> Curves:
        """Everything recorded, for a figure. `half`: measures made on half the held-out images only."""
        with self._lock:
            updates, epochs = self._planned()
            done = np.flatnonzero(np.isfinite(self._columns["loss"][: self._last]))
            columns = {key: column[done] for key, column in self._columns.items()}
            rows = [self._epochs[e] for e in sorted(self._epochs)]
            held_out = self._whole("held_out")
        update = done + 1
        epoch = np.array([row["epoch"] for row in rows], float)
        epoch_update = np.array([row["update"] for row in rows], float)
        took = np.cumsum([_number(row.get("seconds")) for row in rows])
        scores = {m: np.array([_number(row.get(m)) for row in rows]) for m in MEASURES if any(m in row for row in rows)}
        per_epoch = (
            updates / epochs if updates and epochs else float(epoch_update[0] / epoch[0]) if len(rows) else np.inf
        )
        return Curves(
            name,
            update,
            update / per_epoch if np.isfinite(per_epoch) else np.zeros(len(update)),
            columns["seconds"],
            columns["loss"],
            columns["learning_rate"],
            columns["images_per_second"],
            updates or self._last,
            epoch,
            epoch_update,
            took,
            scores,
            {m: [interval(share, counted(held_out, m in half)) for share in shares] for m, shares in scores.items()},
        )

    def standing(self) -> Standing | None:
        """Where the run stands; None before its first record."""
        with self._lock:
            updates, epochs = self._planned()
            at = self._last
            if not at and not self._epochs:
                return None
            row = {name: column[max(at - 1, 0)] for name, column in self._columns.items()}
            seconds = self._columns["seconds"][max(at - RECENT - 1, 0) : at]
            finished = [self._epochs[e] for e in sorted(self._epochs)]
            held_out = self._whole("held_out")
        pace = np.diff(seconds)
        per_update = (
            float(np.nanmean(pace)) if np.isfinite(pace).any() else float(row["seconds"] / at) if at else np.nan
        )
        best = max(finished, key=lambda e: (_number(e.get("score")), e["epoch"]), default={})
        return Standing(
            update=at,
            updates=updates,
            epoch=finished[-1]["epoch"] if finished else 0,
            epochs=epochs,
            left=per_update * (updates - at) if updates else np.nan,
            scores={m: _number(finished[-1][m]) for m in MEASURES if finished and m in finished[-1]},
            best={m: _number(best[m]) for m in (*MEASURES, "epoch") if m in best},
            held_out=held_out or None,
            **{name: float(value) for name, value in row.items()},
        )

    def _planned(self) -> tuple[int, int]:
        """Updates and epochs in all, as the last start told; 0 where it did not."""
        return self._whole("updates"), self._whole("epochs")

    def _whole(self, name: str) -> int:
        said = self._told.get(name)
        return said if isinstance(said, int) and said > 0 else 0


class Records:
    """The records of many runs; the least recently used are forgotten."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, Record] = OrderedDict()

    def of(self, folder: str) -> Record:
        """The record of the run in this folder."""
        with self._lock:
            found = self._kept.setdefault(folder, Record())
            self._kept.move_to_end(folder)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
            return found


def interval(share: float, n: int | None) -> str:
    """ "80.1–84.7, n = 1,000": the 95 % interval in percent and the images; nothing where n is not known."""
    if not n or not np.isfinite(share):
        return ""
    low, high = wilson(round(float(np.clip(share, 0, 1)) * n), n)
    return f"{100 * low:.1f}–{100 * high:.1f}, n = {n:,}"


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) else np.nan
