"""Quick ensemble: AutoAttack's verdict for a fraction of its passes, by targets chosen from slopes (after arXiv:2003.01690)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from explorer.attacks import ATTACKS
from explorer.attacks.apgd import APGDCE, APGDT
from explorer.attacks.autoattack import QUERIES_A_STEP, AutoAttack
from explorer.attacks.boundary import Linearization, leads, nearest
from explorer.attacks.square import Square
from explorer.core import Attack, Goal, Region
from explorer.core.dense import LinfRegion

LOOKED_AT = 9  # likeliest wrong classes whose boundaries are compared


@dataclass(frozen=True)
class APGDTNearest(APGDT):
    """APGD-T toward the classes whose boundaries are nearest if they are straight, by the slopes at the clean image.

    One backward pass a draw for each of the LOOKED_AT likeliest wrong classes, to save whole runs toward the others.
    """

    @property
    def expected_passes(self) -> int:
        return super().expected_passes + (1 + LOOKED_AT) * self.draws

    def _rivals(self, model: nn.Module, region: Region, goal: Goal, rng: torch.Generator) -> tuple[Tensor, int]:
        seen = Linearization(model, region.x0, self.draws, rng)
        rivals = goal.rivals(seen.logits, max(LOOKED_AT, self.target_classes))
        slopes = seen.slopes(goal, rivals)
        plane = nearest(leads(seen.logits, goal, rivals), slopes, "linf" if isinstance(region, LinfRegion) else "l2")
        order = plane.lengths.argsort(dim=1, stable=True)[:, : self.target_classes]
        return rivals.gather(1, order), rivals.shape[1] * self.draws


@ATTACKS.register(
    "ensemble",
    title="Quick ensemble",
    paper="after arXiv:2003.01690",
    group="ensemble",
    summary="Cheap attacks first, then a few well-chosen targets: AutoAttack's answer on most pictures, many times sooner.",
)
@dataclass(frozen=True)
class Ensemble(AutoAttack, steps=50, target_classes=4, queries=500):
    """APGD-CE with two fifths of the steps, APGD-T toward the nearest classes by slope, Square: each on what the ones before left.

    For a stochastic model (`draws` above 1) as AutoAttack does. Yields as AutoAttack does.
    differs from AutoAttack: shorter runs, targets chosen by slope instead of by logits, no FAB, few queries with the schedule
    of Square stretched to them. It is no yardstick: a number that is to be compared with others' is AutoAttack's.
    """

    formula: ClassVar[str] = r"\text{APGD}_{CE}\to\text{APGD}^T_{DLR}\ (\text{nearest by slope})\to\text{Square}"
    explanation: ClassVar[str] = (
        r"Most pictures that fall at all fall to the first short attack; those that stand mostly stand for good. So spend little "
        r"at first, and what is left on the few classes whose boundaries are nearest by the slopes at the picture itself. A last "
        r"attack without gradients looks whether they were hidden. Where this ends as AutoAttack does, it took a fraction of the passes; "
        r"where it matters, run AutoAttack."
    )
    presets = {
        "weak": {"steps": 20, "target_classes": 2, "queries": 100},
        "standard": {},
        "strong": {"steps": 100, "target_classes": 9, "queries": 2000},
    }

    def _stages(self) -> list[tuple[Attack, int]]:
        if self.draws > 1:
            return super()._stages()
        first = APGDCE(steps=max(2 * self.steps // 5, 1), early_stop=True)
        targeted = APGDTNearest(steps=self.steps, target_classes=self.target_classes, early_stop=True)
        return [(first, 1), (targeted, 1), (Square(queries=self.queries), QUERIES_A_STEP)]
