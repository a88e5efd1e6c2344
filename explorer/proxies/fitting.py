"""The durable part of fitting a generator by gradient descent: Adam, averaged weights (EMA), checkpoints that outlive a kill."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from torch import Tensor, nn

from explorer.core import BadCheckpoint, InvalidValue, seeded
from explorer.training.checkpoint import Checkpoints
from explorer.training.optim import EMA, Adam

EVERY = 30.0  # seconds between checkpoints
MOMENTUM = 0.9
LARGEST_GRADIENT = 1.0  # norm to which gradients are cut


class Fit:
    """A network under way: `done` updates so far, `rng` for every draw, `averaged` weights.

    As a context it begins at the newest checkpoint in `work`, and leaves one there where it is stopped.
    """

    def __init__(self, network: nn.Module, ema: float, seed: int, work: Path, facts: Mapping[str, Any]):
        """`facts` say what is fitted to what. Raises BadCheckpoint if `work` holds another fit's, or only damaged ones."""
        self.network, self._facts, self.done = network, dict(facts), 0
        self._ema, self._optimizer = EMA(network, ema), Adam([(list(network.parameters()), 0.0)], MOMENTUM)
        self.rng = seeded(seed + 1, next(network.parameters()).device)
        self._checkpoints, self._saved = Checkpoints(work), time.monotonic()
        found = self._checkpoints.newest(lambda sentence: None)
        if found is not None:
            self._restore(*found)

    @property
    def averaged(self) -> nn.Module:
        return self._ema.model

    def update(self, loss: Tensor, lr: float) -> None:
        """One update of the weights and their average. Raises InvalidValue where the loss is not finite."""
        if not math.isfinite(float(loss.detach())):
            raise InvalidValue(f"the loss became {float(loss.detach())} after {self.done} updates: lower lr.")
        self._optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), LARGEST_GRADIENT)
        self._optimizer.step(lr)
        self._ema.update()
        self.done += 1
        if time.monotonic() - self._saved >= EVERY:
            self.save()

    def save(self) -> None:
        tensors = {f"model.{key}": value for key, value in self.network.state_dict().items()}
        tensors |= {f"average.{key}": value for key, value in self.averaged.state_dict().items()}
        tensors |= self._optimizer.tensors() | {"rng": self.rng.get_state()}
        self._checkpoints.save(0, self.done, tensors, self._facts | {"done": self.done})
        self._saved = time.monotonic()

    def _restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        wrong = [name for name, value in self._facts.items() if facts.get(name) != value]
        if wrong:
            raise BadCheckpoint(
                f"{self._checkpoints.folder} holds a fit with another {wrong[0]} ({facts.get(wrong[0])!r}, now "
                f"{self._facts[wrong[0]]!r}): take another name, or delete the folder."
            )
        for prefix, module in (("model.", self.network), ("average.", self.averaged)):
            module.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
        self._optimizer.restore(tensors)
        self.rng.set_state(tensors["rng"])
        self.done = self._ema.updates = facts["done"]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, KeyboardInterrupt):
            self.save()
