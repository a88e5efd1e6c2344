"""Features of a batch recorded at some steps of a walk: its path through feature space, frame by frame."""

from __future__ import annotations

import math
from collections.abc import Generator
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor

from explorer.core import Classifier, seeded, use_generator
from explorer.core.rng import derived_seed
from explorer.engine.rows import Rows
from explorer.features.reference import draws_of

FRAMES = 32  # recorded steps of a walk, at most; a longer one is recorded at every second step, or third ...
PASS = 64  # images times draws in one forward pass
LOOKING = 7  # stream of randomness: a stochastic model's draws when its features are looked at, the same at each frame


class Recorded(TypedDict):
    """The frames so far."""

    features: np.ndarray  # (T,N,D) float32, the mean over the draws
    predicted: np.ndarray  # (T,N) class
    steps: np.ndarray  # (T,) the step that each frame is


class FeatureFrames:
    """Features and classes of N images, frame by frame, on the same draws each time; `attacked` (A,) are those that move."""

    def __init__(self, model: Classifier, seed: int, attacked: np.ndarray, steps: int) -> None:
        """`steps`: how many steps the walk may have; 0 if there will be none."""
        self.model, self.seed, self.attacked = model, seed, attacked
        self.draws = draws_of(model)
        self.planned = _frames(steps) if steps else 1
        self._rows = Rows(self.planned)
        self._batch = max(1, PASS // self.draws)

    def __len__(self) -> int:
        return len(self._rows)

    def arrays(self) -> Recorded:
        """So far, at least one frame."""
        rows = self._rows.arrays()
        return {"features": rows["features"], "predicted": rows["predicted"], "steps": rows["steps"]}

    def wants(self, count: int, total: int) -> bool:
        """Whether the step that is `count`th of `total` is to be recorded."""
        return count % _stride(total) == 0

    def record(self, x: Tensor, count: int, total: int = 0) -> Generator[None, None, None]:
        """One frame: where all images x (N,C,H,W) stand after `count` of `total` steps. What does not move is seen once."""
        frame = {"steps": np.array(count, np.int64)}
        if len(self):
            frame |= {name: self._rows.arrays()[name][-1].copy() for name in ("features", "predicted")}
        others = [] if len(self) else [np.setdiff1d(np.arange(len(x)), self.attacked)]
        for where in (self.attacked, *others):  # apart, so that the attacked get the same draws at every step
            rng = seeded(derived_seed(self.seed, LOOKING))
            for some in np.split(where, range(self._batch, len(where), self._batch)):
                if not len(some):
                    continue
                logits, features = self._look(x[torch.from_numpy(some).to(x.device)], rng)
                for name, values in (("features", features.numpy()), ("predicted", logits.argmax(1).numpy())):
                    if name not in frame:
                        frame[name] = np.zeros((len(x), *values.shape[1:]), values.dtype)
                    frame[name][some] = values
                yield None
        self._rows.add(frame)
        if total:
            self.planned = len(self) + max(1, 1 + (total - count) // _stride(total))

    def _look(self, x: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Mean logits (b,K) and features (b,D) float32 on the CPU. Nothing is yielded while gradients are off."""
        with torch.no_grad(), use_generator(rng):
            logits, features = self.model.both(x.repeat_interleave(self.draws, 0))
        logits, features = (values.float().view(len(x), self.draws, -1).mean(1).cpu() for values in (logits, features))
        if not all(bool(torch.isfinite(values).all()) for values in (logits, features)):
            raise FloatingPointError("the model's features are not finite")
        return logits, features


def _stride(steps: int) -> int:
    return max(1, math.ceil(steps / FRAMES))


def _frames(steps: int) -> int:
    """Of a walk that yields so many steps: the untouched images, the recorded steps, the best."""
    return 1 + steps // _stride(steps) + 1
