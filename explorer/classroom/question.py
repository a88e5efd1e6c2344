"""Prediction before a run: the question, its options, which of them came true, and the Brier score of what was foretold."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from explorer.core import InvalidValue

FOOLED, CLASS, COUNT, DISTANCE, CHOICE = KINDS = ("fooled", "class", "count", "distance", "choice")
USUAL = {  # upper ends of the bands of a distance, where a question names none, in pixel units
    "linf": tuple(k / 255 for k in (1, 2, 4, 8, 16)),
    "l2": (0.125, 0.25, 0.5, 1.0, 2.0),
    "l1": (3.0, 6.0, 12.0, 24.0),
    "l0": (1.0, 5.0, 10.0, 40.0),
}
MOST_OPTIONS = 12
SURE = (30, 50, 70, 90, 100)  # per cent, to choose from


@dataclass(frozen=True)
class Question:
    """One question of a kind, and what one may answer.

    `limits`: upper ends of the options of a count or a distance, all but the last; an option holds its own end.
    `claim`: the option that the lesson's author says comes true; of a "choice" it is the only word on that.
    """

    kind: str
    text: str
    options: tuple[str, ...]
    limits: tuple[float, ...] = ()
    claim: int | None = None

    def option(self, value: float | None) -> int | None:
        """The option that a run's value (`asked.value`) makes true: the claim of a "choice"; None while there is no value."""
        if self.kind == CHOICE:
            return self.claim
        if value is None:
            return None
        if self.kind == FOOLED:
            return 0 if value else 1
        return int(value) if self.kind == CLASS else bisect_left(self.limits, value)


def count_limits(most: int) -> tuple[float, ...]:
    """None, quarters, all: of `most`, few of them if there are few."""
    if most <= 4:
        return tuple(float(k) for k in range(most))
    return tuple(sorted({0.0, *(float(most * quarter // 4) for quarter in (1, 2, 3)), float(most - 1)}))


def count_options(limits: Sequence[float], most: int) -> tuple[str, ...]:
    """In words: "0", "1 to 4", ... "16"."""
    ends = [-1, *(int(limit) for limit in limits), most]
    return tuple(
        f"{low + 1}" if low + 1 == high else f"{low + 1} to {high}" for low, high in zip(ends, ends[1:], strict=False)
    )


def distance_options(limits: Sequence[float], norm: str) -> tuple[str, ...]:
    """In words: "up to 1/255", "1/255 to 2/255", ... "more than 16/255"."""
    said = [f"{limit * 255:.4g}/255" if norm == "linf" else f"{limit:g}" for limit in limits]
    between = [f"{low} to {high}" for low, high in zip(said, said[1:], strict=False)]
    return (f"up to {said[0]}", *between, f"more than {said[-1]}")


def brier(foretold: Iterable[tuple[float, bool]]) -> float:
    """Brier score of (probability that one gave to one's own answer, whether it came true): the mean of (p - outcome)^2.

    0 is best; who always says 50 % gets 0.25, who is always sure and always wrong 1. Brier 1950 sums over both outcomes, which
    doubles it. Raises InvalidValue without a prediction, or for a probability outside [0, 1].
    """
    found = [(p, bool(right)) for p, right in foretold]
    if not found or not all(0 <= p <= 1 for p, _ in found):
        raise InvalidValue(f"a Brier score needs predictions with probabilities in [0, 1]; got {found!r}.")
    return sum((p - right) ** 2 for p, right in found) / len(found)
