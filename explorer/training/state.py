"""The training state, all that a checkpoint holds: model, EMA, optimiser, random generator and where the run stands.

Going on from it is going on bit for bit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from explorer.core import BadCheckpoint, Classifier, seeded
from explorer.defenses.recipe import Recipe
from explorer.models import zoo
from explorer.models.untrained import untrained
from explorer.training.optim import EMA, OPTIMIZERS

NUMBERS = ("epoch", "index", "ordered", "running", "seconds", "epoch_seconds", "history", "best_epoch", "best_score")


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


def layout_of(model: Classifier) -> torch.memory_format:
    """How weights and batches lie while `model` is trained: channels last; on a CPU as `Classifier.layout` says.

    Beside speed this avoids a crash: with 4 channels, channels last, and neither AVX-512 nor AMX, a backward pass to the
    weights destroyed memory or did not end (torch 2.14.1).
    """
    return model.layout if model.device.type == "cpu" else torch.channels_last


class RunState:
    """Model, averaged weights (EMA), optimiser, the run's one generator, and where the run stands.

    All randomness of a run comes from `rng`; torch's global generator is never drawn from.
    """

    def __init__(self, recipe: Recipe, model: Classifier, device: torch.device):
        self.model, self.device, self.layout = model, device, layout_of(model)
        self.ema = EMA(model, recipe.ema)
        decayed = [p for p in model.parameters() if p.ndim > 1]
        free = [p for p in model.parameters() if p.ndim <= 1]
        self.optimizer = OPTIMIZERS[recipe.optimizer]([(decayed, recipe.weight_decay), (free, 0.0)], recipe.momentum)
        self.rng = seeded(recipe.seed + 1, device)
        self.ordered = False  # this epoch's order has been drawn
        self.order_rng = self.rng.get_state()  # the generator's state before it was
        self.batch_rng = self.rng.get_state()  # the generator's state before the present batch's images were drawn
        self.buffers = {key: t.to(device) for key, t in recipe.buffers((recipe.batch, *model.input_shape)).items()}
        self.epoch, self.index = 0, 0  # epochs finished; updates done in the one under way
        self.running = 0.0  # sum of this epoch's losses so far
        self.seconds, self.epoch_seconds = 0.0, 0.0  # trained so far; of that, in this epoch
        self.history: list[dict[str, Any]] = []
        self.best: dict[str, Tensor] = {}
        self.best_epoch, self.best_score = 0, -1.0

    def _rng_state(self, stored: Tensor) -> Tensor:
        """A generator's stored state as the run's generator takes it; one of another kind of device seeds a new one."""
        if stored.numel() == self.rng.get_state().numel():
            return stored
        seed = int.from_bytes(hashlib.sha256(stored.numpy().tobytes()).digest()[:7])
        return seeded(seed, self.device).get_state()

    def order(self, n: int) -> Tensor:
        """(n,) this epoch's order of the training images: drawn at its beginning, drawn again when taken up later."""
        rng = self.rng
        if self.ordered:
            rng = torch.Generator(device=rng.device)
            rng.set_state(self.order_rng)
        else:
            self.order_rng, self.ordered = rng.get_state(), True
        return torch.randperm(n, generator=rng, device=rng.device)

    def end_epoch(self, entry: dict[str, Any]) -> None:
        """The epoch is over and scored; its averaged weights are kept if none before scored higher."""
        self.epoch, self.index, self.ordered = self.epoch + 1, 0, False
        self.running, self.epoch_seconds = 0.0, 0.0
        self.history.append(entry)
        if entry["score"] >= self.best_score:
            self.best_score, self.best_epoch = entry["score"], self.epoch
            self.best = {key: value.clone() for key, value in self.ema.model.state_dict().items()}

    def finite(self) -> bool:
        """Whether all averaged weights and statistics are: the last update of an epoch may have spoilt them unseen."""
        return all(bool(t.isfinite().all()) for t in self.ema.model.state_dict().values())

    def tensors(self) -> dict[str, Tensor]:
        """By the names of the first version: runs that it began go on."""
        kept = {f"model.{key}": value for key, value in self.model.state_dict().items()}
        kept |= {f"average.{key}": value for key, value in self.ema.model.state_dict().items()}
        kept |= {f"best.{key}": value for key, value in self.best.items()}
        kept |= self.optimizer.tensors()
        kept |= {f"carried.{key}": value for key, value in self.buffers.items()}
        return kept | {"rng": self.rng.get_state(), "order_rng": self.order_rng, "batch_rng": self.batch_rng}

    def facts(self) -> dict[str, Any]:
        return {"averaged": self.ema.updates} | {name: getattr(self, name) for name in NUMBERS}

    def restore(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> bool:
        """Back to what `tensors` and `facts` were. Raises KeyError, RuntimeError or ValueError for another model's.

        Returns whether the run's draws go on as they would have: on another kind of device than that of the checkpoint
        they are others, which still follow from the run's seed, and an epoch under way goes on in another order.
        """

        def part(prefix: str) -> dict[str, Tensor]:
            return {k[len(prefix) :]: v.to(self.device) for k, v in tensors.items() if k.startswith(prefix)}

        self.model.load_state_dict(part("model."))
        self.ema.model.load_state_dict(part("average."))
        self.best = part("best.")
        self.optimizer.restore(tensors)
        same = tensors["rng"].numel() == self.rng.get_state().numel()
        self.rng.set_state(self._rng_state(tensors["rng"]))
        self.order_rng = self._rng_state(tensors["order_rng"])
        # Older checkpoints have no batch_rng, and replay no batch.
        self.batch_rng = self._rng_state(tensors.get("batch_rng", tensors["rng"]))
        kept = part("carried.")
        self.buffers = {key: kept[key] for key in self.buffers}
        self.ema.updates = facts["averaged"]
        for name in NUMBERS:
            setattr(self, name, facts[name])
        return same
