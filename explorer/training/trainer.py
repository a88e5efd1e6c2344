"""The training loop: augment, minimise the recipe's loss by SGD, average the weights (EMA), keep the best held-out epoch."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from explorer.core import (
    BadCheckpoint,
    Cancelled,
    Classifier,
    InvalidValue,
    batch_shard,
    sample_batch,
    seeded,
    use_generator,
)
from explorer.core import ranks as processes
from explorer.core.ranks import ALONE, Ranks
from explorer.data import as_needed, dataset
from explorer.defenses.recipe import Each, Recipe
from explorer.training.data import TrainingImages, split
from explorer.training.ddp import part, share_rows, share_statistics, sum_gradients
from explorer.training.film import Film
from explorer.training.log import RunLog
from explorer.training.memory import peak_memory
from explorer.training.preview import PreviewImages
from explorer.training.preview_file import EpochPreview
from explorer.training.result import Diverged, Progress, Result, Stop
from explorer.training.state import RunState, build
from explorer.training.watched import BoundarySlice

EVERY = 30.0  # seconds between checkpoints
RECENT = 20  # updates over which the speed is averaged


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
    """Train in `folder`, going on from its checkpoint if there is one.

    `limit`: use only that many training images; by default as many as the recipe says.

    A checkpoint is written every `every` seconds, also in the middle of an epoch, and at the end of each. On the CPU,
    with as many threads, a run that goes on is bit for bit the run that was not stopped.

    `should_stop` is asked before every pass through the model: the run then saves a checkpoint and raises Cancelled.
    `on_full` is called when the disk is full: once it returns, the write is tried again; it may wait, or raise to give
    up. `say` gets sentences worth a line in a log: a damaged checkpoint passed over, no event files.

    Started by torchrun, the processes share every batch (see `ddp.py`); the first alone scores, writes, and calls
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
            limit = recipe.limit if limit is None else limit
            images = split(pixels, labels, limit, device, recipe.augment, dataset(recipe.dataset).flips)
            trainer = Trainer(recipe, images, device, bf16, ranks, should_stop)
            log = RunLog(Path(folder), on_full, say or (lambda sentence: None), writes=ranks.is_first)
            try:
                return TrainingRun(trainer, log, every, progress if ranks.is_first else None).run()
            finally:
                log.close()


class Trainer:
    """A recipe at work on `images`; writes nothing. `state` is all that changes; all else follows from the arguments.

    Raises InvalidValue if a batch has fewer images than there are processes.
    """

    def __init__(
        self,
        recipe: Recipe,
        images: TrainingImages,
        device: torch.device,
        bf16: bool,
        ranks: Ranks = ALONE,
        should_stop: Callable[[], bool] | None = None,
    ):
        self.recipe, self.images, self.device, self.bf16 = recipe, images, device, bf16
        self.ranks, self.should_stop = ranks, should_stop
        self.state = RunState(recipe, build(recipe, device), device)
        self.preview_images = PreviewImages(images.held_x, images.held_y)
        self.tape: Each = {}  # of the last scoring: which images counted
        self.per_epoch = math.ceil(len(images.labels) / recipe.batch) * recipe.replays
        self.updates = self.per_epoch * recipe.epochs
        self.film = Film(recipe, self.preview_images.x[:1], self.preview_images.y[:1], self.updates)
        self._stop_agreed = False
        if ranks.world > 1:
            smallest = (len(images.labels) - 1) % recipe.batch + 1
            if smallest < ranks.world:
                raise InvalidValue(
                    f"each process needs an image of every batch; the smallest batch has {smallest}, and there are "
                    f"{ranks.world} processes. Take fewer, or another batch size."
                )
            share_statistics(self.state.model, ranks)

    @property
    def done(self) -> int:
        """Updates so far, over the whole run."""
        return self.state.epoch * self.per_epoch + self.state.index

    def learning_rate(self, update: int) -> float:
        """By the recipe's schedule; `update` counts from 0."""
        return self.recipe.learning_rate(update, self.updates)

    def next_rows(self) -> Tensor:
        """(B,) the images of the next update's whole batch."""
        order = self.state.order(len(self.images.labels))
        return order[self.state.index // self.recipe.replays * self.recipe.batch :][: self.recipe.batch]

    def update(self, rows: Tensor, lr: float) -> float:
        """One update of weights and their average on the batch of images at `rows` (B,); returns the batch's mean loss.

        Raises Stop, the generator being then as it was, or PeerFailed.
        """
        if self._stop_agreed:
            raise Stop
        state, before = self.state, self.state.rng.get_state()
        start, stop = part(len(rows), self.ranks)  # of the batch's images, those of this process
        try:
            with self._stoppable(state.model), batch_shard(start, stop, len(rows)):
                loss = self._loss(rows[start:stop], start)
        except Stop:
            state.rng.set_state(before)
            raise
        state.optimizer.zero_grad()
        mean = self._backward(loss, (stop - start) / len(rows))
        state.optimizer.step(lr)
        state.ema.update()
        if self.ranks.world > 1:
            for tensor in state.buffers.values():
                share_rows(tensor, start, stop, len(rows), self.ranks)
        return mean

    def _loss(self, rows: Tensor, start: int) -> Tensor:
        """Of the images at `rows`, the first of which is number `start` of the whole batch."""
        state, recipe = self.state, self.recipe
        x, y = self._augmented(rows, self._batch_rng()), self.images.labels[rows]
        more: dict[str, Any] = {}
        if recipe.extra_batches:
            more["extra_batch"] = self._extra_batch(recipe.extra_batches * len(rows))
        if state.buffers:
            more["buffers"] = {key: value[start : start + len(rows)] for key, value in state.buffers.items()}
        with self._autocast(), use_generator(state.rng):
            return recipe.loss(state.model, x, y, state.rng, epoch=state.epoch, **more)

    def _backward(self, loss: Tensor, share: float) -> float:
        """Gradients of the mean loss over the whole batch, on every process; returns that loss."""
        if self.ranks.world == 1:
            loss.backward()
            return float(loss.detach())
        loss = loss * share
        loss.backward()
        asked = self.should_stop is not None and self.should_stop()
        mean, stops = sum_gradients(self.state.model.parameters(), [float(loss.detach()), float(asked)], self.ranks)
        self._stop_agreed = stops > 0
        return mean

    def _augmented(self, rows: Tensor, rng: torch.Generator) -> Tensor:
        return self.images.trained.batch(rows, rng).contiguous(memory_format=self.state.layout)

    def _batch_rng(self) -> torch.Generator:
        """What draws the batch's flips and crops: a batch that is replayed is drawn as it was the first time."""
        state = self.state
        if state.index % self.recipe.replays == 0:
            state.batch_rng = state.rng.get_state()
            return state.rng
        rng = torch.Generator(device=state.rng.device)
        rng.set_state(state.batch_rng)
        return rng

    def _extra_batch(self, n: int) -> tuple[Tensor, Tensor]:
        """Training images (n,C,H,W) drawn anew, with repetition, and their labels (n,)."""
        rng, count = self.state.rng, len(self.images.labels)
        rows = sample_batch(lambda shape: torch.randint(count, tuple(shape), generator=rng, device=rng.device), (n,))
        return self._augmented(rows, rng), self.images.labels[rows]

    def score(self) -> dict[str, float]:
        """The averaged weights on the held-out images; with several processes the first computes it for all.

        Raises Stop, PeerFailed.
        """
        if self._stop_agreed:
            raise Stop
        scores = []
        if self.ranks.is_first:
            model, rng = self.state.ema.model.eval(), seeded(self.recipe.seed, self.device)
            with self._autocast(), self._stoppable(model):
                self.tape = {}
                scores = [self.recipe.score(model, self.images.held_x.whole, self.images.held_y, rng, self.tape)]
        return self.ranks.gather(scores)[0]

    def preview(self) -> EpochPreview:
        """What the loss makes of the previewed images in the epoch to come (after the last: in the last)."""
        epoch = min(self.state.epoch, self.recipe.epochs - 1)
        with self._autocast():
            return self.preview_images.preview(self.recipe, self.state.model, self.state.ema.model, epoch)

    def slice(self) -> BoundarySlice:
        """The decision boundary around the first previewed image, by the averaged weights as they are now."""
        with self._autocast():
            return self.film.slice(self.state.ema.model.eval(), self.done)

    @contextmanager
    def _stoppable(self, model: Classifier) -> Iterator[None]:
        """Ask before every pass of `model` whether to stop, so that a stop need not wait for a long attack's end.

        Several processes ask once an update instead, as they must all stop at the same place.
        """
        should_stop = self.should_stop
        if should_stop is None or self.ranks.world > 1:
            yield
            return

        def ask(*_: Any) -> None:
            if should_stop():
                raise Stop

        handle = model.register_forward_pre_hook(ask)
        try:
            yield
        finally:
            handle.remove()

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)


class TrainingRun:
    """One run in this process: what happens in which order, and what its log keeps of it."""

    def __init__(self, trainer: Trainer, log: RunLog, every: float, progress: Callable[[Progress], None] | None = None):
        self.trainer, self.recipe, self.state = trainer, trainer.recipe, trainer.state
        self.log, self.every, self.progress = log, every, progress
        self._pace: deque[tuple[int, float]] = deque(maxlen=RECENT)  # images and seconds of the last updates
        self._saved = time.monotonic()

    def run(self) -> Result:
        """From wherever the folder's checkpoint stands to the end. Raises as `train` does."""
        try:
            self.begin()
            while self.state.epoch < self.recipe.epochs and not self.recipe.early_stop(self.state.history):
                self.epoch()
        except Stop:
            self.save()
            self.trainer.ranks.any_rank(True)  # no process ends before the first has saved
            raise Cancelled(
                f"Training was stopped in epoch {self.state.epoch + 1}, after update {self.trainer.done} of "
                f"{self.trainer.updates}; it can go on from there."
            ) from None
        return self.result()

    def begin(self) -> None:
        """Take up the folder's newest checkpoint, if there is one; else show the images before the first epoch."""
        trainer = self.trainer
        self.log.sweep()
        trainer.ranks.any_rank(False)  # the first process has swept
        self.log.restore(self.state, self._identity())
        if len(set(trainer.ranks.gather([trainer.done]))) > 1:
            raise BadCheckpoint(f"The processes read different checkpoints in {self.log.folder}; they must share it.")
        if trainer.done == 0:
            self.preview()
        images = {"images": len(trainer.images.labels), "held_out": len(trainer.images.held_y)}
        planned = {"updates": trainer.updates, "epochs": self.recipe.epochs}
        self.log.start(trainer.done, self.state.epoch, **planned, **images)
        if trainer.done == 0:
            self.slice()
        self._saved = time.monotonic()

    def epoch(self) -> None:
        """From wherever the epoch stands to its end, scored and saved."""
        self.state.model.train()
        while self.state.index < self.trainer.per_epoch:
            self.update()
            if time.monotonic() - self._saved >= self.every:
                self.save()
        self.end_epoch()
        self.save()

    def update(self) -> None:
        began, trainer, state = time.monotonic(), self.trainer, self.state
        rows, rate = trainer.next_rows(), trainer.learning_rate(trainer.done)
        loss = trainer.update(rows, rate)
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
        if trainer.done % trainer.film.every(state.epoch) == 0:
            self.slice()

    def end_epoch(self) -> None:
        began, state, trainer = time.monotonic(), self.state, self.trainer
        if not state.finite():
            raise Diverged(
                f"The weights are not finite any more after epoch {state.epoch + 1} of {self.recipe.epochs}: lower the "
                f"learning rate (lr, now {self.recipe.lr:g})."
            )
        scores = trainer.score()
        self._spent(began)
        took, loss = state.epoch_seconds, state.running / trainer.per_epoch
        entry: dict[str, Any] = {"epoch": state.epoch + 1, "loss": loss, "seconds": round(took, 1), **scores}
        if warning := self.recipe.warning([*state.history, entry]):
            if not (state.history and "remark" in state.history[-1]):
                self.log.say(warning)
            entry["remark"] = warning
        state.end_epoch(entry)
        self.preview()
        rate = trainer.learning_rate(trainer.done - 1)
        self._tell(state.epoch - 1, loss, rate, len(trainer.images.labels) / took, scores)

    def preview(self) -> None:
        """Keep what the loss makes of the previewed images now."""
        if self.log.writes:
            self.log.preview(self.state.epoch, self.trainer.preview())

    def slice(self) -> None:
        """Record the decision boundary as it is now."""
        if self.log.writes:
            began = time.monotonic()
            found = self.trainer.slice()
            self.log.slice(found, self._spent(began))

    def save(self) -> None:
        """A checkpoint of everything, durably."""
        if self.log.writes:
            self.log.checkpoint(self.state, self.trainer.done, self._identity())
        self._saved = time.monotonic()

    def result(self) -> Result:
        state, images = self.state, self.trainer.images
        model = state.ema.model
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
        """To the log, then to whoever listens: after an update, or (with `scores`) after an epoch."""
        trainer, seconds, memory = self.trainer, self.state.seconds, peak_memory(self.trainer.device)
        if scores is None:
            self.log.update(trainer.done, epoch + 1, loss, rate, speed, seconds, memory)
        else:
            self.log.epoch(trainer.done, self.state.history[-1], trainer.tape)
        if self.progress is not None:
            place = (epoch, self.recipe.epochs, trainer.done, trainer.updates)
            self.progress(Progress(*place, loss, rate, speed, scores, seconds, memory))

    def _identity(self) -> dict[str, Any]:
        return {
            "recipe": type(self.recipe).__name__,
            **self.recipe.to_dict(),
            **self.recipe.made_of(),
            "images": len(self.trainer.images.labels),
            "precision": "bfloat16" if self.trainer.bf16 else "float32",
        }
