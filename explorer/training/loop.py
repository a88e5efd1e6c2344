"""The one training loop: augment, minimise the recipe's loss, average the weights, keep the best held-out epoch."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from explorer.core import BadCheckpoint, Cancelled, Classifier, ExplorerError
from explorer.core import ranks as processes
from explorer.data import as_needed, dataset
from explorer.defenses.recipe import Recipe
from explorer.training.images import HELD_OUT, split
from explorer.training.learner import Learner, Stop, build
from explorer.training.memory import peak_memory
from explorer.training.records import Records

__all__ = ["EVERY", "HELD_OUT", "Diverged", "Progress", "Result", "build", "train"]

EVERY = 30.0  # seconds between checkpoints
RECENT = 20  # updates over which the speed is averaged


@dataclass(frozen=True)
class Progress:
    """Where a run stands; sent after every update, with `held_out` set after each epoch."""

    epoch: int  # 0-based: the one under way, or (with `held_out`) just finished
    epochs: int
    update: int  # done so far, over the whole run
    updates: int
    loss: float  # of the update; with `held_out` the epoch's mean
    learning_rate: float
    images_per_second: float  # of the last updates; with `held_out` of the epoch, scoring included
    held_out: dict[str, float] | None = None
    seconds: float = 0.0  # trained so far, over all attempts; pauses left out
    memory: int | None = None  # peak, in bytes; see `memory.peak_memory`


@dataclass(frozen=True, eq=False)
class Result:
    """The averaged model of the best held-out epoch, and how it came about."""

    model: Classifier
    best_epoch: int
    history: list[dict[str, Any]]
    seconds: float
    images: int
    source: str
    held_out: int = field(default=HELD_OUT)
    warning: str = ""  # what people must know about how it went; mostly nothing


class Diverged(ExplorerError, FloatingPointError):
    """The loss is not finite any more; the message says when and what may help."""


def train(
    recipe: Recipe,
    folder: Path,
    *,
    device: torch.device | str = "cpu",
    limit: int | None = None,
    bf16: bool = True,
    every: float = EVERY,
    progress: Callable[[Progress], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    on_full: Callable[[OSError], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> Result:
    """Train in `folder`, going on from its checkpoint if there is one. `limit`: use only that many training images.

    A checkpoint is written every `every` seconds, also in the middle of an epoch, and at the end of each. On the CPU,
    with as many threads, a run that goes on is bit for bit the run that was not stopped.

    `should_stop` is asked before every pass through the model: the run then saves a checkpoint and raises Cancelled.
    `on_full` is called when the disk is full: once it returns, the write is tried again; it may wait, or raise to give
    up. `say` gets sentences worth a line in a log: a damaged checkpoint passed over, no event files.

    Started by torchrun, the processes share every batch (see `sharing.py`); the first alone scores, writes, and calls
    `progress`, `on_full` and `say`; a stop asked of any stops all, after the update under way. Going on may take another
    number of processes, and is bit for bit the same with the same number.

    Raises DataUnavailable without the full training set, BadCheckpoint if `folder` belongs to another recipe or no
    checkpoint in it can be read, Cancelled, Diverged, InvalidValue, PeerFailed, and ExplorerError when the folder cannot
    be written.
    """
    with processes.start(device) as ranks:
        device = torch.device(device)
        if ranks.world > 1 and device.type == "cuda":
            device = torch.device("cuda", ranks.local_rank)
        with as_needed(recipe.dataset, "train") as (pixels, labels):
            images = split(pixels, labels, limit, device, recipe.augment)
            learner = Learner(recipe, images, device, bf16, ranks, should_stop)
            records = Records(Path(folder), on_full, say or (lambda sentence: None), writes=ranks.is_first)
            run = RunLoop(learner, records, every, progress if ranks.is_first else None)
            try:
                return run.to_the_end()
            finally:
                records.close()


class RunLoop:
    """One run in this process: what happens in which order, and what is kept of it."""

    def __init__(
        self, learner: Learner, records: Records, every: float, progress: Callable[[Progress], None] | None = None
    ):
        self.learner, self.recipe, self.state = learner, learner.recipe, learner.state
        self.records, self.every, self.progress = records, every, progress
        self._pace: deque[tuple[int, float]] = deque(maxlen=RECENT)  # images and seconds of the last updates
        self._saved = time.monotonic()

    def to_the_end(self) -> Result:
        try:
            self.begin()
            while self.state.epoch < self.recipe.epochs and not self.recipe.early_stop(self.state.history):
                self.one_epoch()
        except Stop:
            self.save()
            self.learner.ranks.any_rank(True)  # no process ends before the first has saved
            raise Cancelled(
                f"Training was stopped in epoch {self.state.epoch + 1}, after update {self.learner.done} of "
                f"{self.learner.updates}; it can go on from there."
            ) from None
        return self.result()

    def begin(self) -> None:
        """Take up the folder's newest checkpoint, if there is one; else show the images before the first epoch."""
        learner = self.learner
        self.records.sweep()
        learner.ranks.any_rank(False)  # the first process has swept
        self.records.restore(self.state, self._identity())
        if len(set(learner.ranks.gather([learner.done]))) > 1:
            raise BadCheckpoint(f"The processes read different checkpoints in {self.records.folder}; they must share it.")
        if learner.done == 0:
            self.look()
        images = {"images": len(learner.images.labels), "held_out": len(learner.images.held_y)}
        planned = {"updates": learner.updates, "epochs": self.recipe.epochs}
        self.records.start(learner.done, self.state.epoch, **planned, **images)
        self._saved = time.monotonic()

    def one_epoch(self) -> None:
        """From wherever the epoch stands to its end, scored and saved."""
        self.state.model.train()
        while self.state.index < self.learner.per_epoch:
            self.one_update()
            if time.monotonic() - self._saved >= self.every:
                self.save()
        self.end_epoch()
        self.save()

    def one_update(self) -> None:
        began, learner, state = time.monotonic(), self.learner, self.state
        rows, rate = learner.next_rows(), learner.learning_rate(learner.done)
        loss = learner.update(rows, rate)
        if not math.isfinite(loss):
            raise Diverged(
                f"The loss became {loss} in epoch {state.epoch + 1} of {self.recipe.epochs}: lower the learning rate "
                f"(lr, now {self.recipe.lr:g})."
            )
        state.index += 1
        state.running += loss
        self._pace.append((len(rows), self._spent(began)))
        images, seconds = map(sum, zip(*self._pace, strict=True))
        self._tell(state.epoch, loss, rate, images / seconds)

    def end_epoch(self) -> None:
        began, state, learner = time.monotonic(), self.state, self.learner
        if not state.finite():
            raise Diverged(
                f"The weights are not finite any more after epoch {state.epoch + 1} of {self.recipe.epochs}: lower the "
                f"learning rate (lr, now {self.recipe.lr:g})."
            )
        scores = learner.score()
        self._spent(began)
        took, loss = state.epoch_seconds, state.running / learner.per_epoch
        entry: dict[str, Any] = {"epoch": state.epoch + 1, "loss": loss, "seconds": round(took, 1), **scores}
        if warning := self.recipe.warning([*state.history, entry]):
            if not (state.history and "remark" in state.history[-1]):
                self.records.say(warning)
            entry["remark"] = warning
        state.end_epoch(entry)
        self.look()
        rate = learner.learning_rate(learner.done - 1)
        self._tell(state.epoch - 1, loss, rate, len(learner.images.labels) / took, scores)

    def look(self) -> None:
        """Keep what the loss sees of the watched images now."""
        if self.records.writes:
            self.records.sight(self.state.epoch, self.learner.sight())

    def save(self) -> None:
        """A checkpoint of everything, durably."""
        if self.records.writes:
            self.records.checkpoint(self.state, self.learner.done, self._identity())
        self._saved = time.monotonic()

    def result(self) -> Result:
        state, images = self.state, self.learner.images
        model = state.averaged.model
        model.load_state_dict(state.best)
        spec, count = dataset(self.recipe.dataset), len(images.labels)
        source = f"{spec.title} train, {count:,} of {spec.rows['train']:,} images"
        warning = state.history[-1].get("remark", "")
        return Result(
            model.freeze(), state.best_epoch, state.history, state.seconds, count, source, len(images.held_y), warning
        )

    def _spent(self, began: float) -> float:
        seconds = time.monotonic() - began
        self.state.seconds += seconds
        self.state.epoch_seconds += seconds
        return seconds

    def _tell(self, epoch: int, loss: float, rate: float, speed: float, scores: dict[str, float] | None = None) -> None:
        """To the records, then to whoever listens: after an update, or (with `scores`) after an epoch."""
        learner, seconds, memory = self.learner, self.state.seconds, peak_memory(self.learner.device)
        if scores is None:
            self.records.update(learner.done, epoch + 1, loss, rate, speed, seconds, memory)
        else:
            self.records.epoch(learner.done, self.state.history[-1])
        if self.progress is not None:
            place = (epoch, self.recipe.epochs, learner.done, learner.updates)
            self.progress(Progress(*place, loss, rate, speed, scores, seconds, memory))

    def _identity(self) -> dict[str, Any]:
        return {
            "recipe": type(self.recipe).__name__,
            **self.recipe.to_dict(),
            "images": len(self.learner.images.labels),
            "precision": "bfloat16" if self.learner.bf16 else "float32",
        }
