"""What a training run tells of itself: progress after every update, and its result, or why it ended."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from explorer.core import Classifier, ExplorerError
from explorer.training.data import HELD_OUT


@dataclass(frozen=True)
class Progress:
    """Where a run stands; sent after every update, with `held_out` set after each epoch."""

    epoch: int  # 0-based: the one under way, or (with `held_out`) just finished
    epochs: int
    update: int  # done so far, over the whole run
    updates: int
    loss: float  # of the update; with `held_out` the epoch's mean
    learning_rate: float
    images_per_second: float  # of the last updates; with `held_out` of the epoch, scoring included
    held_out: dict[str, float] | None = None
    seconds: float = 0.0  # trained so far, over all attempts; pauses left out
    memory: int | None = None  # peak, in bytes; see `memory.peak_memory`


@dataclass(frozen=True, eq=False)
class Result:
    """The averaged model of the best held-out epoch, and how it came about."""

    model: Classifier
    best_epoch: int
    history: list[dict[str, Any]]
    seconds: float
    images: int
    source: str
    held_out: int = field(default=HELD_OUT)
    warning: str = ""  # what people must know about how it went; mostly nothing


class Diverged(ExplorerError, FloatingPointError):
    """The loss is not finite any more; the message says when and what may help."""


class Stop(Exception):
    """Somebody asked for the run to stop; nothing of the update or scoring under way has been kept."""
