"""What learns: a model, its data and its optimiser; one update, one score, one look. Writes nothing, asks nobody."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from explorer.core import BadCheckpoint, Classifier, InvalidValue, batch_shard, sample_batch, seeded, use_generator
from explorer.core.ranks import ALONE, Ranks
from explorer.defenses.recipe import Recipe
from explorer.models import zoo
from explorer.models.untrained import untrained
from explorer.training.images import TrainingImages
from explorer.training.sharing import part, share_statistics, sum_gradients
from explorer.training.sights import Sight
from explorer.training.state import RunState, layout_of
from explorer.training.watched import Watched


class Stop(Exception):
    """Somebody asked for the run to stop; nothing of the update or scoring under way has been kept."""


def build(recipe: Recipe, device: torch.device) -> Classifier:
    """A fresh model of the recipe's architecture; initial weights from the recipe's seed or its `start`."""
    name, arguments = recipe.architecture()
    model = untrained(recipe.dataset, name, arguments, recipe.seed)
    own, mine = recipe.initial(), model.state_dict()
    unfit = sorted(key for key, tensor in own.items() if key not in mine or mine[key].shape != tensor.shape)
    if unfit:
        raise BadCheckpoint(f"The weights that this run starts from do not fit {name} {arguments}, for one {unfit[0]}.")
    model.load_state_dict(own, strict=False)
    if recipe.start:
        source = zoo.load(recipe.start, device="cpu").state_dict()
        mine = {key: value.shape for key, value in model.state_dict().items()}
        if mine != {key: value.shape for key, value in source.items()}:
            raise BadCheckpoint(
                f"{recipe.start} cannot start this run: its architecture differs from {name} {arguments}."
            )
        model.load_state_dict(source)
    model = model.to(device)
    return model.to(memory_format=layout_of(model))


class Learner:
    """A recipe at work on `images`. `state` is all that changes; everything else follows from the arguments.

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
        self.watched = Watched(images.held_x, images.held_y)
        self.per_epoch = math.ceil(len(images.labels) / recipe.batch) * recipe.replays
        self.updates = self.per_epoch * recipe.epochs
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

    def update(self, rows: Tensor, rate: float) -> float:
        """One step of the optimiser on the batch of images at `rows`, at this learning rate; returns its loss.

        Raises Stop, the generator being then as it was, or PeerFailed.
        """
        if self._stop_agreed:
            raise Stop
        before = self.state.rng.get_state()
        start, stop = part(len(rows), self.ranks)
        try:
            with self._stoppable(self.state.model), batch_shard(start, stop, len(rows)):
                loss = self._loss(rows[start:stop], start)
        except Stop:
            self.state.rng.set_state(before)
            raise
        mean = self._step(loss, (stop - start) / len(rows), rate)
        self._share_buffers(start, stop, len(rows))
        return mean

    def _loss(self, rows: Tensor, start: int) -> Tensor:
        """Of the images at `rows`, the first of which is number `start` of the whole batch."""
        state, recipe = self.state, self.recipe
        x = self._images(rows, self._batch_rng())
        more: dict[str, Any] = {"extra_batch": self._extra_batch(recipe.extra_batches * len(rows))} if recipe.extra_batches else {}
        if state.buffers:
            more["buffers"] = {key: value[start : start + len(rows)] for key, value in state.buffers.items()}
        with self._autocast(), use_generator(state.rng):
            return recipe.loss(state.model, x, self.images.labels[rows], state.rng, epoch=state.epoch, **more)

    def _images(self, rows: Tensor, rng: torch.Generator) -> Tensor:
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
        return self._images(rows, rng), self.images.labels[rows]

    def _share_buffers(self, start: int, stop: int, total: int) -> None:
        """Every process gets the rows of the batch that others have changed."""
        if self.ranks.world > 1:
            for tensor in self.state.buffers.values():
                mine = torch.zeros_like(tensor[:total])
                mine[start:stop] = tensor[start:stop]
                tensor[:total] = self.ranks.all_reduce_mean(mine) * self.ranks.world

    def _step(self, loss: Tensor, share: float, rate: float) -> float:
        state = self.state
        state.descent.clear()
        if self.ranks.world == 1:
            loss.backward()
            mean = float(loss.detach())
        else:
            loss = loss * share
            loss.backward()
            asked = self.should_stop is not None and self.should_stop()
            mean, stops = sum_gradients(state.model.parameters(), [float(loss.detach()), float(asked)], self.ranks)
            self._stop_agreed = stops > 0
        state.descent.step(rate)
        state.averaged.update()
        return mean

    def score(self) -> dict[str, float]:
        """The averaged weights on the held-out images; with several processes the first computes it for all.

        Raises Stop, PeerFailed.
        """
        if self._stop_agreed:
            raise Stop
        scores = []
        if self.ranks.is_first:
            model, rng = self.state.averaged.model.eval(), seeded(self.recipe.seed, self.device)
            with self._autocast(), self._stoppable(model):
                scores = [self.recipe.score(model, self.images.held_x.whole, self.images.held_y, rng)]
        return self.ranks.gather(scores)[0]

    def sight(self) -> Sight:
        """What the loss sees of the watched images in the epoch to come (after the last: in the last)."""
        epoch = min(self.state.epoch, self.recipe.epochs - 1)
        with self._autocast():
            return self.watched.sight(self.recipe, self.state.model, self.state.averaged.model, epoch)

    @contextmanager
    def _stoppable(self, model: Classifier) -> Iterator[None]:
        """Ask before every pass of `model` whether to stop, so that a stop need not wait for a long attack's end.

        Several processes ask once an update instead, as they must all stop at the same place.
        """
        if self.should_stop is None or self.ranks.world > 1:
            yield
            return

        def ask(*_: Any) -> None:
            if self.should_stop():
                raise Stop

        handle = model.register_forward_pre_hook(ask)
        try:
            yield
        finally:
            handle.remove()

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)
