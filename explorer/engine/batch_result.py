"""Results of an attack on a batch: predictions before and after, the fooling rate with its interval, and conditions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from explorer.core import InvalidValue, wilson
from explorer.engine.batch_request import ManyRequest
from explorer.evaluation.verdict import Verdict


@dataclass(frozen=True)
class FoolingRate:
    """Counts of pictures: wrong before any attack, fooled by it, or neither (it holds); and the share that is fooled."""

    wrong: int
    fooled: int
    holds: int

    @property
    def n(self) -> int:
        return self.wrong + self.right

    @property
    def right(self) -> int:
        """Pictures that were classified right at first: those a share refers to."""
        return self.fooled + self.holds

    @property
    def share(self) -> float | None:
        """Of the pictures classified right at first, those that were fooled; None if there are none."""
        return self.fooled / self.right if self.right else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % Wilson interval of the share."""
        return wilson(self.fooled, self.right) if self.right else None

    @classmethod
    def of(cls, right: np.ndarray, fooled: np.ndarray) -> FoolingRate:
        """From (N,) bool: classified right before, and fooled afterwards."""
        hits = int((right & fooled).sum())
        return cls(int((~right).sum()), hits, int(right.sum()) - hits)


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a model made of N pictures."""

    predicted: np.ndarray  # (N,) class; of a stochastic model that of most fresh draws
    sure: np.ndarray  # (N,) probability of that class, from the mean logits over the draws
    margin: np.ndarray  # (N,) the true class's mean logit minus the largest other: below zero it is wrong

    @classmethod
    def of(cls, logits: np.ndarray, labels: np.ndarray, predicted: np.ndarray | None = None) -> Predictions:
        """From mean logits (N,K)."""
        predicted = logits.argmax(1) if predicted is None else predicted
        p = np.exp(logits - logits.max(1, keepdims=True))
        at = np.arange(len(labels))
        others = logits.copy()
        others[at, labels] = -np.inf
        return cls(predicted, p[at, predicted] / p.sum(1), logits[at, labels] - others.max(1))


@dataclass(frozen=True, eq=False)
class BatchResult:
    """The pictures as they stand now, whole. A of the N are attacked: those that the model gets right."""

    request: ManyRequest
    rows: np.ndarray  # (N,) of the bundled sample
    labels: np.ndarray  # (N,)
    originals: np.ndarray  # (N,C,H,W) float32
    before: Predictions  # of the originals
    right: np.ndarray  # (N,) bool, before anything is changed: the pictures that are attacked
    images: np.ndarray  # (N,C,H,W) float32, the best so far; those not attacked are the originals
    after: Predictions  # of `images`: as the attack saw them, and in the end on fresh looks
    fooled: np.ndarray  # (N,) bool; likewise
    distance: np.ndarray  # (N,) float64 in the attack's norm
    shared: np.ndarray | None = field(
        default=None, kw_only=True
    )  # (C,H,W) the one change of all, if the attack looks for one
    curve: Mapping[str, np.ndarray]  # (T,A) after each step, best so far: "margin", "distance", "reached"
    planned: int  # steps the finished walk will have
    seconds: float  # of computing
    verdict: Verdict | None = None  # of the A attacked ones, in the end
    conditions: Mapping[str, Any] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        return bool(self.conditions)

    @property
    def fooling_rate(self) -> FoolingRate:
        return FoolingRate.of(self.right, self.fooled)

    @property
    def states(self) -> list[str]:
        """(N,) "wrong" before any attack, "fooled" or "holds"."""
        return [
            "wrong" if not right else "fooled" if fooled else "holds"
            for right, fooled in zip(self.right, self.fooled, strict=True)
        ]

    @property
    def found(self) -> np.ndarray:
        """Distances of the fooled pictures, sorted."""
        return np.sort(self.distance[self.right & self.fooled])

    def change(self, row: int) -> np.ndarray:
        """(C,H,W) float32, what the attack did to this picture; raises InvalidValue if it did nothing."""
        at = np.flatnonzero(self.rows == row)
        if not len(at):
            raise InvalidValue(f"picture must be one of {', '.join(map(str, self.rows))}; got {row!r}.")
        change = self.images[at[0]] - self.originals[at[0]]
        if not change.any():
            raise InvalidValue(f"picture {row} was not changed, so there is nothing to put on others.")
        return change


def into(whole: np.ndarray, at: np.ndarray, values: np.ndarray) -> np.ndarray:
    """A copy of `whole` with `values` at the rows `at`."""
    whole = whole.copy()
    whole[at] = values
    return whole
