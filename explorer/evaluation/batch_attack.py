"""Attack on one batch, judged and tallied: which images are still right, over all that the attack visits or for its best one.

What `explorer.evaluation.robustness` measures is the sum over batches; which images are judged, and how often, it says.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from explorer.core import NORMS, Attack, Ball, Best, Cancelled, Classifier, Goal, Step, ThreatModel
from explorer.core.ball import EPS_LIMIT
from explorer.core.precision import rounded
from explorer.evaluation.outcome import classified_right
from explorer.evaluation.verdict import Verdict, verify

ShouldStop = Callable[[], bool]

ANYWHERE = Ball("linf", 1.0)  # for images that no attack has made


def stop_if_asked(should_stop: ShouldStop | None) -> None:
    """Raises Cancelled if it says so."""
    if should_stop is not None and should_stop():
        raise Cancelled("The evaluation was stopped before its end, so there is no number.")


def _held(verdict: Verdict, y: Tensor) -> tuple[Tensor, Tensor]:
    """(N,) bool twice: the attack failed, and it failed once rounded to 8 bits. Outside the ball it has failed anyway."""
    right_8bit = (verdict.predicted_8bit == y.cpu()) & ~verdict.reached_8bit
    return classified_right(verdict, y) | ~verdict.inside, right_8bit | ~verdict.inside


@dataclass
class Tally:
    """Of one batch, or of all."""

    robust: int = 0
    robust_8bit: int = 0
    each: list[bool] = field(default_factory=list)  # of all images: right, and still so
    distances: list[float] = field(default_factory=list)  # smallest-change attacks: inf where none was found
    degenerate: int = 0
    gradients: int = 0
    passes: list[int] = field(
        default_factory=list
    )  # one image is enough: of those right before, when it was found; -1: never
    margin: float = (
        0.0  # the highest margins of the goal that the walks have seen, summed: what little changes, too, change
    )


def joined(tallies: list[Tally]) -> Tally:
    """That of all their batches."""
    whole = Tally()
    for tally in tallies:
        for name, value in vars(tally).items():
            setattr(whole, name, getattr(whole, name) + value)
    return whole


@dataclass
class BatchAttack:
    """One attack on one batch."""

    model: Classifier  # judges
    source: Classifier  # is attacked
    attack: Attack
    threat: ThreatModel
    precision: str  # of the attack's passes, "float32" or "bfloat16"; a verdict's are in float32
    should_stop: ShouldStop | None
    rng: torch.Generator
    tally: Tally = field(default_factory=Tally)

    @property
    def minimal(self) -> bool:
        return self.attack.budget == "minimal"

    def one_batch(self, x0: Tensor, y: Tensor) -> Tally:
        """Attack what the judge gets right, whatever the attacked model says about it."""
        right = classified_right(verify(self.model, x0, x0, Goal.untargeted(y), ANYWHERE, self.rng), y)
        if not bool(right.any()):
            self.tally.each += [False] * len(y)
            return self.tally
        one_image = self.source is not self.model or self.model.stochastic or self.minimal
        attacked = self._one_image_each if one_image else self._any_visited
        held, held_8bit = attacked(x0[right], y[right])
        self.tally.each += torch.zeros(len(y), dtype=torch.bool).masked_scatter(right, held).tolist()
        self.tally.robust += int(held.sum())
        self.tally.robust_8bit += int(held_8bit.sum())
        return self.tally

    def _one_image_each(self, x0: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """(n,) still right, and still right in 8 bits: the attack's best (or nearest) image, judged once."""
        goal, best = Goal.untargeted(y), Best(self.minimal, by_loss=self.source.stochastic)
        for step in self._walk(self.attack, x0, goal):
            best.add(step)
        found = best.outcome()
        verdict = verify(self.model, found.x, x0, goal, self.threat, self.rng, theta=found.theta)
        if self.minimal:
            self.tally.distances += torch.where(verdict.reached, verdict.distance, math.inf).tolist()
        return _held(verdict, y)

    def _any_visited(self, x0: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """(n,) as above, over all images visited; one that is fooled, in 8 bits too, leaves between restarts."""
        held = torch.ones(len(y), dtype=torch.bool)
        held_8bit = held.clone()
        first, spent = torch.full((len(y),), -1), torch.zeros(len(y), dtype=torch.int64)
        for attempt in _restarts(self.attack):
            rows = (held | held_8bit).nonzero()[:, 0]
            x, labels = x0[rows], y[rows]
            step = None
            for step in self._walk(attempt, x, Goal.untargeted(labels)) if len(rows) else ():
                overlooked = self.precision == "bfloat16" and step.index == step.total  # rounding may hide a success
                new = (step.reached.cpu() | overlooked) & (held | held_8bit)[rows]
                if not bool(new.any()):
                    continue
                goal = Goal.untargeted(labels[new])
                theta = None if step.theta is None else step.theta[new]
                verdict = verify(self.model, step.x[new], x[new], goal, self.threat, self.rng, theta=theta)
                failed, failed_8bit = _held(verdict, labels[new])
                news = held[rows[new]] & ~failed
                first[rows[new][news]] = (spent[rows] + _passes(step))[new][news]
                held[rows[new]] &= failed
                held_8bit[rows[new]] &= failed_8bit
                if not bool((held | held_8bit).any()):
                    break
            if step is not None:
                spent[rows] += _passes(step)
        self.tally.passes += first.tolist()
        return held, held_8bit

    def _walk(self, attack: Attack, x0: Tensor, goal: Goal) -> Iterator[Step]:
        """The attack's steps, counted, and stopped when asked."""
        seen: int | Tensor = 0
        highest = torch.full((len(x0),), -math.inf, device=x0.device)
        threat = self.threat
        if self.minimal and threat.name in NORMS:
            threat = attack.threat_model(threat.name, EPS_LIMIT[threat.name])
        try:
            for step in attack.walk(rounded(self.source, self.precision), x0, goal, threat, self.rng):
                stop_if_asked(self.should_stop)
                if not bool(torch.isfinite(step.logits).all()):
                    raise FloatingPointError("the model's logits are not finite")
                self.tally.degenerate += int(step.degenerate.sum())
                self.tally.gradients += int((step.backwards > seen).sum())
                seen, highest = step.backwards, torch.maximum(highest, goal.margin(step.logits.float()))
                yield step
        finally:  # also where the walk is left early
            if bool(highest.isfinite().all()):
                self.tally.margin += float(highest.double().sum())


def _passes(step: Step) -> Tensor:
    """(N,) forward and backward ones, of this restart."""
    return (step.forwards + step.backwards).cpu()


def _restarts(attack: Attack) -> list[Attack]:
    """The attack's restarts as attacks of their own, the later ones from random points, so that images can leave."""
    if attack.restarts == 1:
        return [attack]
    once: dict[str, Any] = {"restarts": 1}  # fields of this attack, though not of every one
    again = once | {"random_start": True} if "random_start" in attack.to_dict() else once
    first, later = replace(attack, **once), replace(attack, **again)
    return [first] + [later] * (attack.restarts - 1)
