"""Precision of gradients: whether an attack fools as many images on gradients in bfloat16 as on those in float32."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from explorer.attacks import ATTACKS
from explorer.core.ball import THREAT_EPS
from explorer.data import load
from explorer.evaluation.measure import Measure, unpacked
from explorer.evaluation.robustness import clean_accuracy, robust_accuracy, subset
from explorer.models import zoo

WITHIN = 1 / 128  # of the images: as many are fooled, but for one of 128


@dataclass(frozen=True)
class Compared:
    """One attack on one model's images that it gets right, in both precisions; verdicts are in float32."""

    model: str
    key: str
    float32: Measure
    bfloat16: Measure

    @property
    def fooled(self) -> tuple[int, int]:
        """Of the n images: on gradients in float32, and in bfloat16."""
        one, other = (measure.n - measure.correct for measure in (self.float32, self.bfloat16))
        return one, other

    @property
    def as_well(self) -> bool:
        """Whether bfloat16 fools as many, but for 1 of 128."""
        one, other = self.fooled
        return other >= one - max(1, round(WITHIN * self.float32.n))


def both_precisions(
    name: str,
    keys: Sequence[str] | None = None,
    *,
    n: int = 128,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Iterator[Compared]:
    """Each attack at its defaults and usual eps on up to n test images that the zoo's model `name` gets right, as one batch.

    keys: of attacks; None: of all that take bfloat16 by themselves (`Attack.bfloat16`).
    Raises UnknownName, BadCheckpoint.
    """
    model, images = zoo.load(name, device), load(zoo.card(name).dataset, n=n)
    right = unpacked(clean_accuracy(model, images, seed=seed).verdicts, len(images))
    images = subset(images, torch.tensor(right).nonzero()[:, 0])
    for key in keys or [key for key in ATTACKS.keys() if ATTACKS[key].bfloat16]:
        attack = ATTACKS[key]()
        norm = attack.threats[0]
        threat = attack.threat_model(norm, THREAT_EPS[norm])
        asked: dict[str, Any] = {"seed": seed, "batch": len(images)}
        one = robust_accuracy(model, images, attack, threat, precision="float32", **asked)
        yield Compared(name, key, one, robust_accuracy(model, images, attack, threat, precision="bfloat16", **asked))
