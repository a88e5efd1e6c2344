"""AutoAttack (Croce & Hein, arXiv:2003.01690): several attacks in a row, each on what the ones before left."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from explorer.attacks import ATTACKS
from explorer.attacks.apgd import APGDCE, APGDDLR, APGDT
from explorer.attacks.fab import FABInside
from explorer.attacks.square import Square
from explorer.core import Attack, Goal, Step, ThreatModel, param
from explorer.core.goal import spread

QUERIES_A_STEP = 10  # Square's queries between two of its steps: its changes are small


@ATTACKS.register(
    "autoattack",
    title="AutoAttack",
    paper="arXiv:2003.01690",
    group="ensemble",
    summary="APGD-CE, APGD-T, FAB-T and Square in a row: the field's yardstick, strong and slow.",
)
@dataclass(frozen=True)
class AutoAttack(Attack):
    """APGD-CE, APGD-T, FAB-T, Square, in this order, each on the images not yet fooled: the authors' standard version.

    FAB looks for the smallest change, so only what it finds inside the ball counts, and only such points are shown.
    With several draws it is the variant for stochastic models ("rand" in the authors' code, which takes 20): APGD-CE,
    then APGD-DLR, both averaged over the draws, on all images, since an image that fools such a model now and then is
    not done with.
    Yields a step for each one of the APGD attacks, for some of FAB's (see there) and for every tenth query of Square.
    They report the margin, by which different attacks can be compared; for a stochastic model that of the mean logits.
    differs: an image leaves as soon as it is fooled, not at the end of an attack. The members' own differences.
    """

    loss = "margin"
    formula: ClassVar[str] = r"\text{APGD}_{CE}\to\text{APGD}^T_{DLR}\to\text{FAB}^T\to\text{Square}"
    explanation: ClassVar[str] = (
        r"No single attack is the best on every picture. So run a few that fail in different ways, with nothing to tune: "
        r"two that climb a loss, each a different one; one that follows the boundary to the smallest change; and one "
        r"that needs no gradient at all. Each gets only the pictures that the ones before it could not change. (With "
        r"several draws a step, for a stochastic model: APGD on cross-entropy, then on DLR, both averaged.)"
    )
    presets = {
        "weak": {"steps": 20, "target_classes": 3, "queries": 200},
        "standard": {},
        "strong": {"steps": 150, "queries": 7500},
    }

    steps: int = param(100, "steps", lo=1, hi=1000, help="How many times APGD and FAB update the image, in each run.")
    target_classes: int = param(
        9,
        "target classes",
        lo=1,
        hi=999,
        help="How many of the likeliest wrong classes APGD-T and FAB-T try, one run each.",
    )
    queries: int = param(5000, "Square queries", lo=1, hi=100_000, help="How often Square asks about each image.")
    draws: int = param(
        1, "draws per step", lo=1, hi=512, help="More than 1: the variant for stochastic models, averaged over so many."
    )

    @property
    def expected_frames(self) -> int:
        """At most."""
        return sum(_steps(attack.expected_frames - 1, every) for attack, every in self._stages())

    @property
    def expected_passes(self) -> int:
        """Forward and backward passes, at most."""
        return sum(attack.expected_passes for attack, _ in self._stages())

    def _stages(self) -> list[tuple[Attack, int]]:
        """The attacks in their order, and n where the first of every n of their steps is yielded (and the last of all)."""
        if self.draws > 1:
            return [(APGDCE(steps=self.steps, draws=self.draws), 1), (APGDDLR(steps=self.steps, draws=self.draws), 1)]
        targeted = APGDT(steps=self.steps, target_classes=self.target_classes, early_stop=True)
        fab = FABInside(steps=self.steps, target_classes=self.target_classes, search_steps=0)
        # The schedule is not stretched to the queries: so it is in the authors' ensemble.
        square = Square(queries=self.queries, rescale=False)
        return [(APGDCE(steps=self.steps, early_stop=True), 1), (targeted, 1), (fab, 1), (square, QUERIES_A_STEP)]

    def walk(
        self, model: nn.Module, x0: Tensor, goal: Goal, threat: ThreatModel, rng: torch.Generator
    ) -> Iterator[Step]:
        self.check_threat(threat)
        x0, stages = x0.detach(), self._stages()
        rows = torch.arange(len(x0), device=x0.device)  # of the images still to be fooled
        before: Step | None = None  # where the attacks so far left all images
        step: Step | None = None
        for number, (attack, every) in enumerate(stages):
            later = sum(_steps(a.expected_frames - 1, e) for a, e in stages[number + 1 :])
            for part in attack.walk(model, x0[rows], goal.rows(rows), threat.rows(rows), rng):
                if part.index % every and part.index < part.total:
                    continue
                if step is None:
                    spread(part.logits, targeted=self.draws == 1 or goal.is_targeted)  # too few classes: say so now
                step = self._whole(before, step, rows, part, goal, later + _steps(part.total - part.index, every) - 1)
                yield step
                if step.index == step.total:
                    return
            before = step
            if self.draws == 1 and step is not None:
                rows = rows[~step.reached[rows]]

    def _whole(self, before: Step | None, last: Step | None, rows: Tensor, part: Step, goal: Goal, left: int) -> Step:
        """A step of all images from that of the images in `rows`; `left` more steps are to come if nothing is reached."""
        whole = replace(part, loss=goal.rows(rows).margin(part.logits))
        if before is not None:

            def put(old: Tensor, new: Tensor) -> Tensor:
                """(N,...) `new` in its rows; what was fooled before stays as it was."""
                return old.index_copy(0, rows.to(old.device), new)

            whole = replace(
                whole,
                x=put(before.x, part.x),
                logits=put(before.logits, part.logits),
                loss=put(before.loss, whole.loss),
                distance=put(before.distance, part.distance),
                reached=put(before.reached, part.reached),
                degenerate=put(torch.zeros_like(before.degenerate), part.degenerate),
                forwards=before.forwards.index_add(0, rows, part.forwards),
                backwards=before.backwards.index_add(0, rows, part.backwards),
                restart=part.restart + before.restart + 1,
            )
        index = 0 if last is None else last.index + 1
        # A stage whose images have all been fooled says itself that it is over: only then is a GPU asked.
        over = left == 0 or (self.draws == 1 and part.index == part.total and bool(part.reached.all()))
        return replace(whole, index=index, total=index if over else index + left, minimal=False)


def _steps(total: int, every: int) -> int:
    """How many of the steps 0..total are yielded if it is the first of every `every`, and the last."""
    return -(-total // every) + 1
