"""Transfer matrix: pictures made by an attack on each of k models (rows), tried on each of them (columns).

The attack is untargeted and given every picture, also where the source is wrong anyway. A cell counts the pictures that its column's
model has right untouched, and of these the ones that the attacked picture turns (float32, fresh draws of a stochastic model). On the
diagonal source and judge are one: the white-box attack.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from explorer.core import Attack, Ball, Best, Classifier, Goal
from explorer.core.rng import derived_seed
from explorer.data import Images
from explorer.evaluation.batch_attack import ANYWHERE, ShouldStop, stop_if_asked
from explorer.evaluation.measure import count
from explorer.evaluation.outcome import classified_right, fooling
from explorer.evaluation.robustness import batches, counted
from explorer.evaluation.verdict import verify

JUDGES = 22  # stream of randomness


@dataclass
class Tried:
    """One cell: (n,) for each picture whether the judge has it right untouched, and whether the attacked one fools it."""

    right: list[bool]
    fooled: list[bool]

    def facts(self) -> dict[str, Any]:
        """accuracy (here the share fooled, of those right before), low, high, correct (fooled) and n; n 0 where none was right."""
        n = sum(self.right)
        return count(sum(self.fooled), n) if n else {"n": 0, "correct": 0, "accuracy": 0.0, "low": 0.0, "high": 1.0}


def tried_on_each(
    source: Classifier, judges: Mapping[str, Classifier], images: Images, attack: Attack, ball: Ball, *, seed: int = 0,
    batch: int = 250, should_stop: ShouldStop | None = None,
) -> dict[str, Tried]:  # fmt: skip
    """One row of the matrix, by the judges' names. A judge's draws do not depend on which others there are."""
    found = {name: Tried([], []) for name in judges}
    for x0, y, rng, _ in batches(images, source, max(1, batch // attack.draws), seed):
        goal, best = (
            Goal.untargeted(counted(source, x0, y, images.top)),
            Best(attack.budget == "minimal", by_loss=source.stochastic),
        )
        for step in attack.walk(source, x0, goal, ball, rng):
            stop_if_asked(should_stop)
            best.add(step)
        x = best.outcome().x
        for name, judge in judges.items():
            own = torch.Generator().manual_seed(derived_seed(seed, JUDGES, len(found[name].right)))
            labels = counted(judge, x0, y, images.top)
            asked = Goal.untargeted(labels)
            right = classified_right(verify(judge, x0, x0, asked, ANYWHERE, own), labels)
            fooled = fooling(verify(judge, x, x0, asked, ball, own), labels, None) & right
            found[name].right += right.tolist()
            found[name].fooled += fooled.tolist()
    return found
