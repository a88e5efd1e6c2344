"""The one training loop: augment, minimise the recipe's loss, average the weights, keep the best held-out epoch."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from explorer.core import BadCheckpoint, Cancelled, Classifier, ExplorerError, randomness, seeded
from explorer.data import dataset, raw
from explorer.defenses._recipe import Recipe
from explorer.models import ARCHITECTURES, zoo
from explorer.training.augment import Augmented
from explorer.training.memory import peak_memory
from explorer.training.records import Records
from explorer.training.sights import Watched
from explorer.training.state import RunState

HELD_OUT = 1000  # training images never trained on, the same for every recipe and seed
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
    history: list[dict[str, float]]
    seconds: float
    images: int
    source: str
    held_out: int = field(default=HELD_OUT)


class Diverged(ExplorerError, FloatingPointError):
    """The loss is not finite any more; the message says when and what may help."""


def build(recipe: Recipe, device: torch.device) -> Classifier:
    """A fresh model of the recipe's architecture; initial weights from the recipe's seed or its `start`."""
    name, arguments = recipe.architecture()
    spec = dataset(recipe.dataset)
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(recipe.seed)  # layer constructors draw from no other generator
        model = ARCHITECTURES[name](spec.mean, spec.std, spec.shape, len(spec.classes), **arguments)
    if recipe.start:
        source = zoo.load(recipe.start, device="cpu").state_dict()
        mine = {key: value.shape for key, value in model.state_dict().items()}
        if mine != {key: value.shape for key, value in source.items()}:
            raise BadCheckpoint(
                f"{recipe.start} cannot start this run: its architecture differs from {name} {arguments}."
            )
        model.load_state_dict(source)
    return model.to(device=device, memory_format=torch.channels_last)


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

    Raises DataUnavailable without the full training set, BadCheckpoint if `folder` belongs to another recipe or no
    checkpoint in it can be read, Cancelled, Diverged, ExplorerError when the folder cannot be written.
    """
    records = Records(Path(folder), on_full, say or (lambda sentence: None))
    run = _Run(recipe, torch.device(device), limit, bf16, records, every, progress, should_stop)
    try:
        run.begin()
        while run.state.epoch < recipe.epochs:
            run.one_epoch()
    except _Stop:
        run.save()
        raise Cancelled(
            f"Training was stopped in epoch {run.state.epoch + 1}, after update {run.done} of {run.updates}; "
            "it can go on from there."
        ) from None
    finally:
        records.close()
    return run.result()


class _Stop(Exception):
    """Somebody asked for the run to stop; nothing of the update or scoring under way has been kept."""


class _Run:
    """One run in this process: its data and state, and what happens in which order."""

    def __init__(
        self,
        recipe: Recipe,
        device: torch.device,
        limit: int | None,
        bf16: bool,
        records: Records,
        every: float = EVERY,
        progress: Callable[[Progress], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
    ):
        self.recipe, self.device, self.bf16, self.records = recipe, device, bf16, records
        self.every, self.progress, self.should_stop = every, progress, should_stop
        self._data(limit)
        self.state = RunState(recipe, build(recipe, device), device)
        self.per_epoch = math.ceil(len(self.labels) / recipe.batch)
        self.updates = self.per_epoch * recipe.epochs
        self._pace: deque[tuple[int, float]] = deque(maxlen=RECENT)  # images and seconds of the last updates
        self._saved = time.monotonic()

    def _data(self, limit: int | None) -> None:
        pixels, labels, _ = raw(self.recipe.dataset, "train")
        order = torch.randperm(len(labels), generator=seeded(0))  # the split into trained and held-out never changes
        held, used = order[:HELD_OUT], order[HELD_OUT:]
        if limit is not None:
            held, used = held[: max(limit // 4, 1)], used[:limit]
        self.train_set = Augmented(pixels[used].to(self.device))
        self.labels = labels[used].to(self.device)
        self.held_x = (pixels[held].float() / 255).to(self.device)
        self.held_y = labels[held].to(self.device)
        self.watched = Watched(self.held_x, self.held_y)

    @property
    def done(self) -> int:
        """Updates so far, over the whole run."""
        return self.state.epoch * self.per_epoch + self.state.index

    def learning_rate(self, update: int) -> float:
        """Linear up to the peak, then linear down to zero (one cycle)."""
        peak = max(self.recipe.warmup * self.updates, 1e-9)
        done = update + 1
        return self.recipe.lr * min(done / peak, (self.updates - update) / max(self.updates - peak, 1))

    def begin(self) -> None:
        """Take up the folder's newest checkpoint, if there is one; else show the images before the first epoch."""
        self.records.restore(self.state, self._identity())
        if self.done == 0:
            self._look()
        planned = {"updates": self.updates, "epochs": self.recipe.epochs}
        self.records.start(self.done, self.state.epoch, **planned, images=len(self.labels), held_out=len(self.held_y))
        self._saved = time.monotonic()

    def one_epoch(self) -> None:
        """From wherever the epoch stands to its end, scored and saved."""
        order = self.state.order(len(self.labels))
        self.state.model.train()
        while self.state.index < self.per_epoch:
            self._one_update(order[self.state.index * self.recipe.batch :][: self.recipe.batch])
            if time.monotonic() - self._saved >= self.every:
                self.save()
        self._score()
        self.save()

    def _one_update(self, rows: Tensor) -> None:
        began, rate, before = time.monotonic(), self.learning_rate(self.done), self.state.rng.get_state()
        try:
            with self._stoppable(self.state.model):
                loss = self.update(rows, rate)
        except _Stop:
            self.state.rng.set_state(before)
            raise
        if not math.isfinite(loss):
            raise Diverged(
                f"The loss became {loss} in epoch {self.state.epoch + 1} of {self.recipe.epochs}: lower the learning rate "
                f"(lr, {self.recipe.lr:g} now)."
            )
        self.state.index += 1
        self.state.running += loss
        seconds = self._spent(began)
        self._pace.append((len(rows), seconds))
        images, spent = map(sum, zip(*self._pace, strict=True))
        self._tell(loss, rate, images / spent)

    def update(self, rows: Tensor, rate: float) -> float:
        """One step of the optimiser on the images at `rows`, at this learning rate; returns the loss."""
        state, recipe = self.state, self.recipe
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        x = self.train_set.batch(rows, state.rng).contiguous(memory_format=torch.channels_last)
        with self._autocast(), randomness(state.rng):
            loss = recipe.loss(state.model, x, self.labels[rows], state.rng, epoch=state.epoch)
        state.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        state.optimizer.step()
        state.averaged.update()
        return float(loss.detach())

    def score(self) -> dict[str, float]:
        """The averaged weights on the held-out images."""
        model = self.state.averaged.model.eval()
        with self._autocast(), self._stoppable(model):
            return self.recipe.score(model, self.held_x, self.held_y, seeded(self.recipe.seed, self.device))

    def _score(self) -> None:
        began, state = time.monotonic(), self.state
        scores = self.score()
        self._spent(began)
        took, loss = state.epoch_seconds, state.running / self.per_epoch
        state.end_epoch({"epoch": state.epoch + 1, "loss": loss, "seconds": round(took, 1), **scores})
        self._look()
        rate = self.learning_rate(self.done - 1)
        self._tell(loss, rate, len(self.labels) / took, scores)

    def _look(self) -> None:
        """Keep what the loss sees of the watched images now, in the epoch to come (after the last: in the last)."""
        state, epoch = self.state, min(self.state.epoch, self.recipe.epochs - 1)
        with self._autocast():
            sight = self.watched.sight(self.recipe, state.model, state.averaged.model, epoch)
        self.records.sight(state.epoch, sight)

    def _tell(self, loss: float, rate: float, speed: float, scores: dict[str, float] | None = None) -> None:
        """To the records, then to whoever listens: after an update, or (with `scores`) after an epoch."""
        state, memory = self.state, peak_memory(self.device)
        epoch = state.epoch - (scores is not None)
        if scores is None:
            self.records.update(self.done, epoch + 1, loss, rate, speed, state.seconds, memory)
        else:
            self.records.epoch(self.done, state.history[-1])
        if self.progress is not None:
            count = self.recipe.epochs
            self.progress(
                Progress(epoch, count, self.done, self.updates, loss, rate, speed, scores, state.seconds, memory)
            )

    def save(self) -> None:
        """A checkpoint of everything, durably."""
        self.records.checkpoint(self.state, self.done, self._identity())
        self._saved = time.monotonic()

    def _spent(self, began: float) -> float:
        seconds = time.monotonic() - began
        self.state.seconds += seconds
        self.state.epoch_seconds += seconds
        return seconds

    @contextmanager
    def _stoppable(self, model: Classifier) -> Iterator[None]:
        """Ask before every pass of `model` whether to stop, so that a stop need not wait for a long attack's end."""
        if self.should_stop is None:
            yield
            return

        def ask(*_: Any) -> None:
            if self.should_stop():
                raise _Stop

        handle = model.register_forward_pre_hook(ask)
        try:
            yield
        finally:
            handle.remove()

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    def _identity(self) -> dict[str, Any]:
        return {
            "recipe": type(self.recipe).__name__,
            **self.recipe.to_dict(),
            "images": len(self.labels),
            "precision": "bfloat16" if self.bf16 else "float32",
        }

    def result(self) -> Result:
        state = self.state
        model = state.averaged.model
        model.load_state_dict(state.best)
        spec = dataset(self.recipe.dataset)
        source = f"{spec.title} train, {len(self.labels):,} of {spec.rows['train']:,} images"
        return Result(
            model.freeze(), state.best_epoch, state.history, state.seconds, len(self.labels), source, len(self.held_y)
        )
