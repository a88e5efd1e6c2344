"""The one training loop: augment, minimise the recipe's loss, average the weights, keep the best held-out epoch."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from explorer.core import BadCheckpoint, Cancelled, Classifier, seeded
from explorer.data import dataset, raw
from explorer.defenses._recipe import Recipe
from explorer.models import ARCHITECTURES, zoo
from explorer.training.augment import Augmented
from explorer.training.averaging import Averaged
from explorer.training.checkpoint import load_state, save_state

HELD_OUT = 1000  # training images never trained on, the same for every recipe and seed
CHECKPOINT = "checkpoint.safetensors"
METRICS = "metrics.jsonl"


@dataclass(frozen=True)
class Progress:
    """Where a run stands; sent after every update, with `held_out` set after each epoch."""

    epoch: int
    epochs: int
    update: int
    updates: int
    loss: float
    learning_rate: float
    images_per_second: float
    held_out: dict[str, float] | None = None


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
    progress: Callable[[Progress], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Result:
    """Train in `folder`, going on from its checkpoint if there is one. `limit`: use only that many training images.

    Raises DataUnavailable without the full training set, BadCheckpoint if `folder` belongs to another recipe or
    holds a damaged checkpoint, Cancelled when `should_stop` says so (the last epoch's checkpoint stays).
    """
    run = _Run(recipe, Path(folder), torch.device(device), limit, bf16)
    run.resume()
    while run.epoch < recipe.epochs:
        run.one_epoch(progress, should_stop)
    return run.result()


class _Run:
    def __init__(self, recipe: Recipe, folder: Path, device: torch.device, limit: int | None, bf16: bool):
        self.recipe, self.folder, self.device, self.bf16 = recipe, folder, device, bf16
        self._data(limit)
        self.model = build(recipe, device)
        self.averaged = Averaged(self.model, recipe.ema)
        decayed = [p for p in self.model.parameters() if p.ndim > 1]
        free = [p for p in self.model.parameters() if p.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": free, "weight_decay": 0.0}]
        self.optimizer = torch.optim.SGD(groups, lr=0.0, momentum=recipe.momentum, nesterov=recipe.momentum > 0)
        self.rng = seeded(recipe.seed + 1, device)
        self.per_epoch = math.ceil(len(self.labels) / recipe.batch)
        self.updates = self.per_epoch * recipe.epochs
        self.epoch, self.history, self.seconds = 0, [], 0.0
        self.best: dict[str, Tensor] = {}
        self.best_epoch, self.best_score = 0, -1.0

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

    def learning_rate(self, update: int) -> float:
        """Linear up to the peak, then linear down to zero (one cycle)."""
        peak = max(self.recipe.warmup * self.updates, 1e-9)
        done = update + 1
        return self.recipe.lr * min(done / peak, (self.updates - update) / max(self.updates - peak, 1))

    def one_epoch(self, progress, should_stop) -> None:
        began, running = time.monotonic(), 0.0
        self.model.train()
        order = torch.randperm(len(self.labels), generator=self.rng, device=self.rng.device)
        for index in range(self.per_epoch):
            if should_stop is not None and should_stop():
                raise Cancelled(
                    f"Training was stopped in epoch {self.epoch + 1}; it can go on from epoch {self.epoch}."
                )
            rows = order[index * self.recipe.batch : (index + 1) * self.recipe.batch]
            update = self.epoch * self.per_epoch + index
            loss = self._update(rows, self.learning_rate(update))
            if not math.isfinite(loss):
                raise FloatingPointError(f"the loss became {loss} in epoch {self.epoch + 1}: lower the learning rate")
            running += loss
            if progress is not None:
                speed = (index + 1) * self.recipe.batch / (time.monotonic() - began)
                rate = self.optimizer.param_groups[0]["lr"]
                progress(Progress(self.epoch, self.recipe.epochs, update + 1, self.updates, loss, rate, speed))
        self._finish_epoch(began, running / self.per_epoch, progress)

    def _update(self, rows: Tensor, rate: float) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        x = self.train_set.batch(rows, self.rng).contiguous(memory_format=torch.channels_last)
        with self._autocast():
            loss = self.recipe.loss(self.model, x, self.labels[rows], self.rng, epoch=self.epoch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.averaged.update()
        return float(loss.detach())

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    def _finish_epoch(self, began: float, loss: float, progress) -> None:
        self.averaged.model.eval()
        with self._autocast():
            scores = self.recipe.score(
                self.averaged.model, self.held_x, self.held_y, seeded(self.recipe.seed, self.device)
            )
        self.epoch += 1
        took = time.monotonic() - began
        self.seconds += took
        entry = {"epoch": self.epoch, "loss": loss, "seconds": round(took, 1), **scores}
        self.history.append(entry)
        if scores["score"] >= self.best_score:
            self.best_score, self.best_epoch = scores["score"], self.epoch
            self.best = {key: value.clone() for key, value in self.averaged.model.state_dict().items()}
        self._save()
        with open(self.folder / METRICS, "a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        if progress is not None:
            rate, speed = self.optimizer.param_groups[0]["lr"], len(self.labels) / took
            done = self.epoch * self.per_epoch
            progress(Progress(self.epoch - 1, self.recipe.epochs, done, self.updates, loss, rate, speed, scores))

    def _identity(self) -> dict[str, Any]:
        return {"recipe": type(self.recipe).__name__, "values": self.recipe.to_dict(), "images": len(self.labels)}

    def _save(self) -> None:
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in self.averaged.model.state_dict().items()}
        tensors |= {f"best.{k}": v for k, v in self.best.items()}
        for index, parameter in enumerate(self._parameters()):
            momentum = self.optimizer.state[parameter].get("momentum_buffer")
            if momentum is not None:
                tensors[f"momentum.{index}"] = momentum
        tensors["rng"] = self.rng.get_state()
        facts = {
            **self._identity(),
            "epoch": self.epoch,
            "updates_averaged": self.averaged.updates,
            "history": self.history,
            "seconds": self.seconds,
            "best_epoch": self.best_epoch,
            "best_score": self.best_score,
        }
        save_state(self.folder / CHECKPOINT, tensors, facts)

    def _parameters(self) -> list[Tensor]:
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    def resume(self) -> None:
        """Take up the folder's checkpoint, if there is one."""
        path = self.folder / CHECKPOINT
        if not path.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            return
        tensors, facts = load_state(path)
        if {key: facts.get(key) for key in self._identity()} != self._identity():
            raise BadCheckpoint(
                f"The folder {self.folder} holds a run of another recipe or other values; choose another."
            )

        def part(prefix: str) -> dict[str, Tensor]:
            return {k[len(prefix) :]: v.to(self.device) for k, v in tensors.items() if k.startswith(prefix)}

        self.model.load_state_dict(part("model."))
        self.averaged.model.load_state_dict(part("average."))
        self.best = part("best.")
        for index, momentum in part("momentum.").items():
            parameter = self._parameters()[int(index)]
            self.optimizer.state[parameter]["momentum_buffer"] = momentum.contiguous(
                memory_format=torch.channels_last if parameter.ndim == 4 else torch.contiguous_format
            )
        self.rng.set_state(tensors["rng"].cpu())
        self.averaged.updates = facts["updates_averaged"]
        self.epoch, self.history, self.seconds = facts["epoch"], facts["history"], facts["seconds"]
        self.best_epoch, self.best_score = facts["best_epoch"], facts["best_score"]

    def result(self) -> Result:
        model = self.averaged.model
        model.load_state_dict(self.best)
        spec = dataset(self.recipe.dataset)
        source = f"{spec.title} train, {len(self.labels):,} of {spec.rows['train']:,} images"
        return Result(
            model.freeze(), self.best_epoch, self.history, self.seconds, len(self.labels), source, len(self.held_y)
        )
