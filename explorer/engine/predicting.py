"""Prediction: the classes that a model gives some pictures, as work for the scheduler."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from explorer.core import seeded, use_generator
from explorer.engine.engine import Engine


def predict_work(engine: Engine, model: str, x: Tensor) -> Callable[[], Iterator[Tensor]]:
    """Work whose one item is the class (N,) of each picture x (N,C,H,W); one draw for a stochastic model."""

    def work() -> Iterator[Tensor]:
        network = engine.model(model)
        with torch.no_grad(), use_generator(seeded(0)):
            classes = network(x.to(engine.device)).argmax(1).cpu()
        yield classes

    return work
