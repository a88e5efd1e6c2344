"""An estimate of a run's time and memory on this computer, from timing a few updates. Writes nothing, needs no data set."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median

import torch

from explorer.core import Cancelled, seeded
from explorer.data import dataset
from explorer.defenses.recipe import Recipe
from explorer.training.data import Augmented, HeldOut, TrainingImages, held_out
from explorer.training.memory import peak_memory
from explorer.training.result import Stop
from explorer.training.trainer import Trainer

UPDATES = 4  # timed of each kind of update; the first of a kind warms up and does not count
SCORED = 50  # images, of which the scoring of the held-out ones is extrapolated


@dataclass(frozen=True)
class Cost:
    """An estimate, on random pixels: what the images show costs nothing. It sharpens as more updates are timed."""

    timed: int  # updates so far
    update_seconds: float  # mean over the run's updates
    images_per_second: float  # of the updates
    scoring_seconds: float | None  # after each epoch, extrapolated from few images; None: not timed yet, and left out
    epoch_seconds: float  # mean over the run's epochs, scoring included
    total_seconds: float
    memory: (
        int | None
    )  # bytes of the device's memory at the peak, without the data set; None where it has none of its own


def estimate(
    recipe: Recipe,
    *,
    device: torch.device | str = "cpu",
    limit: int | None = None,
    bf16: bool = True,
    updates: int = UPDATES,
    should_stop: Callable[[], bool] | None = None,
) -> Iterator[Cost]:
    """Estimates of what `train` with the same arguments would take, each sharper than the one before.

    Every kind of update that the recipe makes (`Recipe.passes`) is timed `updates` times in turn; until one has been,
    it counts by its passes. Stop iterating to stop. Raises Cancelled when `should_stop`, asked before each pass, says so.
    """
    device = torch.device(device)
    recipe = recipe.from_scratch()  # other weights cost the same
    limit = recipe.limit if limit is None else limit
    trainer = Trainer(recipe, _random_images(recipe, device), device, bf16, should_stop=should_stop)
    passes = [recipe.passes(epoch) for epoch in range(recipe.epochs)]
    kinds = sorted(set(passes), key=passes.index)
    there = dataset(recipe.dataset).rows["train"]
    count = there - held_out(there) if limit is None else limit
    seconds: dict[int, list[float]] = {kind: [] for kind in kinds}
    scoring: float | None = None
    trainer.state.model.train()

    def update(kind: int) -> float:
        trainer.state.epoch = passes.index(kind)
        began = time.perf_counter()
        trainer.update(torch.arange(recipe.batch, device=device), trainer.learning_rate(0))  # waits for the device
        return time.perf_counter() - began

    def so_far() -> Cost:
        known = next(kind for kind in kinds if seconds[kind])
        each = {k: median(seconds[k]) if seconds[k] else median(seconds[known]) * k / known for k in kinds}
        per_epoch = math.ceil(count / recipe.batch) * recipe.replays
        mean = sum(each[kind] for kind in passes) / len(passes)
        epoch = per_epoch * mean + (scoring or 0.0)
        memory = peak_memory(device) if device.type == "cuda" else None
        timed = sum(map(len, seconds.values()))
        return Cost(timed, mean, recipe.batch / mean, scoring, epoch, epoch * recipe.epochs, memory)

    try:
        for kind in kinds:
            update(kind)
            seconds[kind].append(update(kind))
            yield so_far()
        scoring = _scoring(trainer, held_out(there) if limit is None else max(limit // 4, 1))
        yield so_far()
        for _ in range(updates - 1):
            for kind in kinds:
                seconds[kind].append(update(kind))
                yield so_far()
    except Stop:
        raise Cancelled("The estimate was stopped.") from None


def _scoring(trainer: Trainer, held: int) -> float:
    """Seconds that scoring `held` images would take, extrapolated from the few that there are."""
    began = time.perf_counter()
    trainer.score()
    return (time.perf_counter() - began) * held / len(trainer.images.held_y)


def _random_images(recipe: Recipe, device: torch.device) -> TrainingImages:
    spec, rng = dataset(recipe.dataset), seeded(0)
    pixels, scored = (
        torch.randint(0, 256, (n, *spec.shape), generator=rng, dtype=torch.uint8).to(device)
        for n in (recipe.batch, SCORED)
    )
    labels = [torch.arange(n, device=device) % len(spec.classes) for n in (recipe.batch, SCORED)]
    return TrainingImages(Augmented(pixels), labels[0], HeldOut(scored, torch.arange(SCORED), device), labels[1])
