"""What a proxy distribution does for robustness: trainings with and without it, paired on the same test images."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from explorer.attacks import ATTACKS
from explorer.core import Classifier, InvalidValue, Linf
from explorer.core.cell_log import CellLog
from explorer.data import as_needed, dataset, load
from explorer.data.samples import read_samples
from explorer.defenses import RECIPES
from explorer.defenses.proxy import WithProxy
from explorer.defenses.recipe import Recipe
from explorer.evaluation.measure import packed, unpacked
from explorer.evaluation.robustness import clean_accuracy, robust_accuracy
from explorer.proxies.generator import Progress
from explorer.proxies.measures import Interval, over_seeds
from explorer.training.data import held_out, split
from explorer.training.trainer import Trainer

Cell = tuple[int, str, int]  # real images, samples ("": none), seed


@dataclass(frozen=True)
class Gain:
    """What one proxy changed for so many real images, over all seeds."""

    real: int
    samples: str  # "" for the trainings without
    clean: float  # means over the seeds
    robust: float
    gain: float  # of robust accuracy, against the trainings without, on the same images
    low: float  # 95 % interval over the images, of the mean over the seeds
    high: float
    each: tuple[float, ...]  # of each seed
    seeds: Interval  # mean gain, and Student's 95 % interval over the seeds


@dataclass(frozen=True)
class Plan:
    """Which trainings, and how they are measured."""

    recipe: str
    samples: tuple[str, ...]
    real: tuple[int, ...]
    updates: int  # of each training; rounded up to whole epochs, so equal with and without
    seeds: int
    images: int  # of the test set
    steps: int  # of PGD
    changed: Mapping[str, Any]  # settings of the recipe

    def __post_init__(self) -> None:
        """Raises InvalidValue for a recipe that takes no samples, UnknownName and BadCheckpoint for samples."""
        recipe = RECIPES[self.recipe].from_dict(dict(self.changed))
        if not isinstance(recipe, WithProxy):
            known = ", ".join(entry.key for entry in RECIPES if issubclass(entry.cls, WithProxy))
            raise InvalidValue(f"recipe must train with samples, {known}; got {self.recipe!r}.")
        if taken := {"samples", "images", "epochs", "seed"} & set(self.changed):
            raise InvalidValue(f"the experiment sets {min(taken)} itself.")
        rows = dataset(recipe.dataset).rows["train"]
        half = (rows - held_out(rows)) // 2
        if not (self.real and all(2 <= n <= half for n in self.real)):
            raise InvalidValue(
                f"real must be numbers of images in [2, {half}], the half that generators see; got {self.real}."
            )
        for name in self.samples:
            read_samples(name, recipe.dataset)

    @property
    def cells(self) -> list[Cell]:
        return [(real, name, seed) for real in self.real for name in ("", *self.samples) for seed in range(self.seeds)]

    @property
    def words(self) -> str:
        recipe = self.recipe_of(self.cells[0])
        return (
            f"{self.seeds} seeds; at least {self.updates:,} updates each, as many with as without; robust: PGD, {self.steps} steps, "
            f"Linf {recipe.eps:g}, on {self.images:,} test images. Gain: paired on these images, 95 % interval over them."
        )

    def recipe_of(self, cell: Cell) -> WithProxy:
        real, name, seed = cell
        plain = RECIPES[self.recipe].from_dict(dict(self.changed))
        epochs = math.ceil(self.updates / math.ceil(real / plain.batch))
        made = {"samples": name, "images": real, "epochs": epochs, "seed": seed}
        recipe = type(plain).from_dict(plain.to_dict() | made)
        assert isinstance(recipe, WithProxy)  # checked at the beginning
        return recipe

    def run(self, path: Path, device: torch.device, progress: Progress = lambda done, total: None) -> list[Gain]:
        """Make what the file does not hold yet, then the table. Raises InvalidValue if it is another experiment's."""
        hashes = {name: read_samples(name).sha256 for name in self.samples}
        plan = {**{k: v for k, v in vars(self).items() if k != "changed"}, **self.changed}
        log: CellLog[dict[str, Any]] = CellLog(path, {"experiment": plan, "hashes": hashes, "torch": torch.__version__})
        made = dict(log.found)
        for index, cell in enumerate(self.cells):
            if index not in made:
                made[index] = log.make(index, partial(self.measured, cell, device))
            progress(index + 1, len(self.cells))
        return self.gains([made[index] for index in range(len(self.cells))])

    def measured(self, cell: Cell, device: torch.device) -> dict[str, Any]:
        """One training and its measures, as JSON can hold them."""
        recipe = self.recipe_of(cell)
        model = trained(recipe, device)
        images = load(recipe.dataset, n=self.images)
        each: list[bool] = []
        clean = clean_accuracy(model, images)
        attack = ATTACKS["pgd"].from_dict({"steps": self.steps})
        robust = robust_accuracy(model, images, attack, Linf(recipe.eps), each=each)
        return {"cell": list(cell), "clean": clean.accuracy, "robust": robust.accuracy, "verdicts": packed(each)}

    def gains(self, made: list[dict[str, Any]]) -> list[Gain]:
        """One row for each number of real images and each proxy, those without first; `made` in the order of the cells."""
        found = {tuple(one["cell"]): one for one in made}
        verdicts = {
            cell: torch.tensor(unpacked(one["verdicts"], self.images), dtype=torch.float64)
            for cell, one in found.items()
        }
        rows = []
        for real in self.real:
            for name in ("", *self.samples):
                cells = [(real, name, seed) for seed in range(self.seeds)]
                change = torch.stack(
                    [verdicts[cell] - verdicts[(real, "", cell[2])] for cell in cells]
                )  # (seeds, images)
                mean, each = change.mean(0), tuple(change.mean(1).tolist())
                half = 1.959964 * float(mean.std()) / math.sqrt(self.images)
                gain = float(mean.mean())
                clean, robust = (
                    math.fsum(found[cell][key] for cell in cells) / len(cells) for key in ("clean", "robust")
                )
                rows.append(Gain(real, name, clean, robust, gain, gain - half, gain + half, each, over_seeds(each)))
        return rows


def trained(recipe: Recipe, device: torch.device) -> Classifier:
    """The averaged weights after the last update: by the one training loop, without scores and records in between."""
    with as_needed(recipe.dataset, "train") as (pixels, labels):
        images = split(pixels, labels, recipe.limit, device, recipe.augment, dataset(recipe.dataset).flips)
        trainer = Trainer(recipe, images, device, bf16=False)
        state = trainer.state
        state.model.train()
        while trainer.done < trainer.updates:
            trainer.update(trainer.next_rows(), trainer.learning_rate(trainer.done))
            state.index += 1
            if state.index == trainer.per_epoch:
                state.end_epoch({"score": 0.0})
    return state.ema.model.freeze()
