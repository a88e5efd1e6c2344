"""Gradient masking: attacks on one picture remembered beside each other, and which of them contradict each other.

A gradient attack knows more than one that sees answers only. Where it finds less, its gradients mislead it, or it was too
weak; either way its failure says little about the model (Athalye et al., arXiv:1802.00420).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from explorer.attacks import ATTACKS, BLACK_BOX
from explorer.engine.request import AttackRequest
from explorer.engine.tracing import Result

PICTURES, ATTEMPTS = 64, 64  # pictures that are remembered, and attacks on one
FLAT = 0.5  # share of points without a usable gradient from which on a walk counts as blind


@dataclass(frozen=True)
class Tried:
    """One finished attack on one picture and model, as far as others can be held against it."""

    name: str  # "PGD (20 steps)"
    group: str
    norm: str
    limit: float | None  # the eps it was given; None if it looked for the smallest change
    distance: float  # how far its result lies, in that norm
    reached: bool  # by the verdict's rule
    draws: int
    degenerate: float  # share of the points where the gradient was zero or not finite

    @property
    def uses_gradients(self) -> bool:
        return self.group not in (*BLACK_BOX, "ensemble")  # an ensemble has attacks of both kinds

    @property
    def failed(self) -> bool:
        """A gradient attack that was given a ball and found nothing in it."""
        return self.uses_gradients and self.limit is not None and not self.reached

    @property
    def blind(self) -> bool:
        """Whether it failed, and mostly had no gradient to follow."""
        return self.failed and self.degenerate >= FLAT

    def refutes(self, other: Tried) -> bool:
        """Whether it found a success inside the ball in which `other` found none."""
        return (
            self.reached
            and other.failed
            and self.norm == other.norm
            and other.limit is not None
            and self.distance <= other.limit
        )


def tried(result: Result, request: AttackRequest) -> Tried:
    """What to remember of a finished attack."""
    verdict, entry = result.verdict, ATTACKS.entry(request.attack)
    return Tried(
        f"{entry.title} ({', '.join(settings)})" if (settings := _settings(request)) else entry.title,
        entry.group,
        request.norm,
        None if request.is_minimal else request.eps,
        float(verdict.distance[0]),
        bool(verdict.reached[0] & verdict.inside[0]),
        request.draws,
        float(result.conditions["stalled_share"]),
    )


def _settings(request: AttackRequest) -> list[str]:
    """What tells it from the same attack set otherwise, as far as its title says so."""
    settings = [word for word in request.title().split(", ")[2:] if not word.startswith("toward ")]
    return [*settings, f"seed {request.seed}"] if request.seed else settings


Memory = dict[tuple[Any, ...], dict[tuple[Any, ...], Tried]]  # of one session


def remembered(memory: Memory, result: Result, request: AttackRequest) -> tuple[Tried, list[Tried]]:
    """This attack, and the earlier ones on the same picture, model and wish; from now on it is one of them."""
    key = (request.dataset, request.image, request.model, request.target, request.label)
    now, known = tried(result, request), memory.setdefault(key, {})
    before = [old for old in known.values() if (old.name, old.norm, old.limit) != (now.name, now.norm, now.limit)]
    known[(now.name, now.norm, now.limit)] = now
    for full, limit in ((memory, PICTURES), (known, ATTEMPTS)):
        while len(full) > limit:
            full.pop(next(iter(full)))  # the oldest
    return now, before
