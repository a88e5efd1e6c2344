"""What the training loop costs beyond its passes: beside a bare loop of the same forwards, backwards and steps."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from explorer.core import Cancelled, InvalidValue, eval_mode, seeded
from explorer.core.device import hardware_name
from explorer.data import dataset
from explorer.defenses import RECIPES
from explorer.defenses.recipe import Recipe
from explorer.evaluation.bench import load_average, seconds
from explorer.training.data import Augmented, HeldOut, TrainingImages
from explorer.training.log import RunLog
from explorer.training.state import build, layout_of
from explorer.training.trainer import EVERY, Trainer, TrainingRun

TARGET = 0.9  # the loop's images per second over the bare loop's, at least
KINDS: dict[str, tuple[str, dict[str, Any], int]] = {  # recipe, hyper-parameters, updates timed at a time
    "clean": ("baseline", {"width": 32}, 8),
    "pgd": ("pgd-linf", {"width": 32, "inner_steps": 7, "finish_share": 0.0, "start": ""}, 2),
}


def throughput(
    *,
    device: torch.device | str = "cpu",
    bf16: bool = False,
    repeats: int = 5,
    updates: int | None = None,
    batch: int = 128,
    kinds: tuple[str, ...] = tuple(KINDS),
    progress: Callable[[str, int, int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> list[dict[str, Any]]:
    """Images per second of `train`'s loop and of a bare one, in turn, `repeats` times `updates` updates each (None: KINDS').

    The bare loop makes the same passes of the same model on one fixed batch, under the same autocast, and the same
    optimiser steps: no augmentation, no averaged weights, no projection, no metrics, no generator. `ratio` is that of the
    medians, `ratio_range` the extremes among the pairs. Checkpoints fall outside the updates timed: what one costs is
    measured beside them, `checkpoint_share` being its share of the time when one is written every `EVERY` seconds.
    Random pixels; needs no data. Raises InvalidValue, Cancelled.
    """
    for name, value in (("repeats", repeats), ("updates", 1 if updates is None else updates), ("batch", batch)):
        if value < 1:
            raise InvalidValue(f"{name} must be at least 1; got {value!r}.")
    for kind in kinds:
        if kind not in KINDS:
            raise InvalidValue(f"kinds must be among {', '.join(KINDS)}; got {kind!r}.")
    rows = []
    for kind in kinds:

        def after_each(done: int, kind: str = kind) -> None:
            if progress is not None:
                progress(kind, done, repeats)
            if should_stop is not None and should_stop():
                raise Cancelled("The benchmark was stopped before its end.")

        key, values, usual = KINDS[kind]
        count = usual if updates is None else updates
        recipe = RECIPES[key](**values, batch=batch)
        facts = {"what": kind, "recipe": key, "hyper": values, "batch": batch, "updates": count, "repeats": repeats}
        rows.append(facts | _measured(recipe, torch.device(device), bf16, repeats, count, after_each))
    return rows


class Bare:
    """The passes and steps that a recipe cannot do without, and nothing else."""

    def __init__(self, recipe: Recipe, device: torch.device, bf16: bool):
        self.model, self.device, self.bf16 = build(recipe, device).train(), device, bf16
        self.attack_passes = recipe.passes(0) - 1
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-3, momentum=recipe.momentum, nesterov=True)
        x = torch.rand((recipe.batch, *self.model.input_shape), generator=seeded(0))
        self.x = x.to(device).contiguous(memory_format=layout_of(self.model))
        self.y = torch.arange(recipe.batch, device=device) % self.model.num_classes

    def update(self) -> None:
        for _ in range(self.attack_passes):
            leaf = self.x.detach().requires_grad_(True)
            with eval_mode(self.model):
                torch.autograd.grad(self._loss(leaf), leaf)
        loss = self._loss(self.x)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()

    def _loss(self, x: Tensor) -> Tensor:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            return F.cross_entropy(self.model(x).float(), self.y)


def _measured(
    recipe: Recipe, device: torch.device, bf16: bool, repeats: int, updates: int, after_each: Callable[[int], None]
) -> dict[str, Any]:
    trainer = Trainer(recipe, _images(recipe, updates * (repeats + 1), device), device, bf16)
    bare, load, pairs = Bare(recipe, device, bf16), load_average(), []
    with tempfile.TemporaryDirectory() as folder:
        log = RunLog(Path(folder), None, lambda sentence: None)
        loop = TrainingRun(trainer, log, math.inf)
        loop.begin()
        trainer.state.model.train()

        def ours() -> None:
            for _ in range(updates):
                loop.update()

        def theirs() -> None:
            for _ in range(updates):
                bare.update()

        for warm_up in (ours, theirs):
            warm_up()
        for repeat in range(repeats):
            first, second = (theirs, ours) if repeat % 2 == 0 else (ours, theirs)
            times = {first: seconds(first, device), second: seconds(second, device)}
            pairs.append((times[theirs], times[ours]))
            after_each(repeat + 1)
        saving = median(seconds(loop.save, device) for _ in range(3))
        size = max(path.stat().st_size for path in log.checkpoints.folder.iterdir())
        log.close()
    images = recipe.batch * updates
    fast, slow = (median(column) for column in zip(*pairs, strict=True))
    ratios = [bare_seconds / loop_seconds for bare_seconds, loop_seconds in pairs]
    return {
        "device": hardware_name(device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "precision": "bfloat16" if bf16 else "float32",
        "images_per_second": images / slow,
        "bare_images_per_second": images / fast,
        "ratio": fast / slow,
        "ratio_range": [min(ratios), max(ratios)],
        "target": TARGET,
        "checkpoint_seconds": saving,
        "checkpoint_bytes": size,
        "checkpoint_share": saving / (EVERY + saving),
        "load": [load, load_average()],
    }


def _images(recipe: Recipe, updates: int, device: torch.device) -> TrainingImages:
    """As many random ones as so many updates of one epoch take."""
    spec, rng, n = dataset(recipe.dataset), seeded(0), recipe.batch * updates
    pixels = torch.randint(0, 256, (n, *spec.shape), generator=rng, dtype=torch.uint8).to(device)
    labels = torch.arange(n, device=device) % len(spec.classes)
    return TrainingImages(Augmented(pixels), labels, HeldOut(pixels, torch.arange(8), device), labels[:8])
