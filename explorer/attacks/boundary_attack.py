"""Boundary attack (Brendel, Rauber & Bethge, arXiv:1712.04248): decision-based, a random walk along the boundary in L2."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from explorer.attacks import ATTACKS
from explorer.attacks._decisions import HALVINGS, Decisions
from explorer.attacks._fields import draws_per_query, tries_for_a_start
from explorer.attacks._region import RegionAttack
from explorer.attacks.gradient import gaussian
from explorer.attacks.random_search import MARGIN
from explorer.core import Goal, Region, Step, param

FRAMES = 120  # of all steps about this many are yielded
LONGER, SHORTER = (
    1.1,
    1.1,
)  # after a success, a failure, of the step along the sphere: half of them succeed in the long run
NEARER, LESS_NEAR = 1.3, 1.1  # of the step toward the image: about a quarter of them do
THETA = 0.001  # of the way between image and start: where the first bisection ends


@ATTACKS.register(
    "boundary",
    title="Boundary",
    paper="arXiv:1712.04248",
    group="black-box",
    summary="The first attack by labels alone: a random walk on the far side of the boundary that sneaks up on the picture.",
)
@dataclass(frozen=True)
class Boundary(RegionAttack):
    """From a random image of another class: eta ~ N(0, I), scaled to delta ||x - x0|| and laid onto the sphere around x0 through
    x; then a share epsilon of the way toward x0; kept if it is a success (algorithm 1).

    delta and epsilon adapt to what succeeds, for each image by itself: delta to about half of the points on the sphere,
    epsilon to about a quarter of the steps toward the image (section 2.3). A step takes one query, two where the point on the
    sphere is a success. Logits are asked for the class alone. About 120 steps are yielded.
    differs: a bisection between image and start precedes the walk; delta and epsilon change after every step, not by the share
    of several; the start is noise, see HopSkipJump, and an image whose start failed is left as it is.
    """

    budget = "minimal"
    threats: ClassVar[tuple[str, ...]] = ("l2",)
    loss = MARGIN
    formula: ClassVar[str] = (
        r"x' = S\big[x + \delta\,\lVert x - x_0\rVert\,\eta\big],\quad x'' = x' + \epsilon\,(x_0 - x')"
    )
    explanation: ClassVar[str] = (
        r"Start at any picture that the model takes for something else. Take a small random step $\eta$ sideways, at the same "
        r"distance from the original ($S$: the sphere around it), then a little toward the original. If the model is still "
        r"fooled, stay there; if not, forget it. Nothing but the named class is used. It takes thousands of questions; "
        r"HopSkipJump needs far fewer."
    )
    presets = {"weak": {"steps": 200}, "standard": {}, "strong": {"steps": 8000}}

    steps: int = param(1500, "steps", lo=1, hi=100_000, help="How many random steps are tried.")
    delta: float = param(0.1, "first step sideways", lo=0.001, hi=1.0, step=0.05, unit="x distance", help="delta.")
    epsilon: float = param(0.1, "first step nearer", lo=0.001, hi=1.0, step=0.05, unit="x distance", help="epsilon.")
    starts: int = tries_for_a_start()
    draws: int = draws_per_query()

    @property
    def expected_frames(self) -> int:
        return 2 + len(range(0, self.steps, self._every))

    @property
    def expected_passes(self) -> int:
        """Queries of an image at most."""
        return (1 + self.starts + HALVINGS + 2 * self.steps + self.expected_frames) * self.draws

    @property
    def _every(self) -> int:
        return math.ceil(self.steps / FRAMES)

    def ascend(self, model: nn.Module, goal: Goal, region: Region, rng: torch.Generator) -> Iterator[Step]:
        oracle, x0 = Decisions(self, model, goal, region, rng), region.x0
        yield (clean := oracle.show(x0))
        x, rows = oracle.start(oracle.settled(clean), self.starts)
        if len(rows) == 0:
            oracle.recorder.total = 1
        x = oracle.bisect(x, rows, THETA)
        delta, epsilon = (torch.full_like(x[:, :1, :1, :1], size) for size in (self.delta, self.epsilon))
        for k in range(self.steps + 1):
            if k % self._every == 0 or k == self.steps:
                yield oracle.show(x0.index_copy(0, rows, x))
            if k == self.steps or len(rows) == 0:
                return
            beside = sideways(x, x0[rows], delta, oracle.rng)
            nearer = (beside + epsilon * (x0[rows] - beside)).clamp(0, 1)
            along = oracle.fooled(beside, rows)
            kept = along.clone()
            kept[along] = oracle.fooled(nearer[along], rows[along])
            x = torch.where(kept.view(-1, 1, 1, 1), nearer, x)
            along, kept = along.view_as(delta), kept.view_as(delta)
            delta = torch.where(along, delta * LONGER, delta / SHORTER).clamp(1e-6, 1)
            grown = torch.where(kept, epsilon * NEARER, epsilon / LESS_NEAR)
            epsilon = torch.where(along, grown, epsilon).clamp(1e-6, 0.5)


def sideways(x: Tensor, x0: Tensor, delta: Tensor, rng: torch.Generator) -> Tensor:
    """x + a random step of length delta * ||x - x0|| at right angles to x - x0, back at x's distance from x0, in [0, 1]."""
    away = x - x0
    far = away.flatten(1).norm(dim=1).view_as(delta).clamp(min=1e-12)
    eta = gaussian(x, rng)
    eta = eta - (eta * away).sum((1, 2, 3), keepdim=True) / far.square() * away
    eta = eta * (delta * far / eta.flatten(1).norm(dim=1).view_as(delta).clamp(min=1e-12))
    there = away + eta
    back: Tensor = x0 + there * (far / there.flatten(1).norm(dim=1).view_as(delta).clamp(min=1e-12))
    return back.clamp(0, 1)
