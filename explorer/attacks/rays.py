"""RayS (Chen & Gu, arXiv:2006.12792): decision-based in Linf, a search over the signs of the pixels; it sees only the class."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from explorer.attacks import ATTACKS
from explorer.attacks._decisions import Decisions, noise
from explorer.attacks._fields import draws_per_query
from explorer.attacks._region import RegionAttack
from explorer.attacks.random_search import MARGIN
from explorer.core import Goal, Region, Step, param

TOLERANCE = 1e-3  # of a radius: where a bisection ends, as in the authors' code
SHRUNK = 0.999  # of the best radius: a new direction must do with it, else its bisection could gain nothing


@ATTACKS.register(
    "rays",
    title="RayS",
    paper="arXiv:2006.12792",
    group="black-box",
    summary="Needs only the class the model names: turns the signs of ever smaller blocks of pixels, no slope is estimated.",
)
@dataclass(frozen=True)
class RayS(RegionAttack):
    """The direction d is one sign a value, at first all +1. In turn the signs of each of 1, 2, 4, ... blocks of the values are
    turned around; where x0 + r d is then still a success at the best radius r, a bisection finds the new r (algorithm 2 and 3).

    Logits are asked for the class alone: they are shown, never used. Each step is one block, a query and the bisection's.
    differs: while no direction leads out of the class, the signs of whole blocks are drawn at random. r is at most eps.
    """

    budget = "minimal"
    threats: ClassVar[tuple[str, ...]] = ("linf",)
    loss = MARGIN
    formula: ClassVar[str] = (
        r"\min_{d \in \{-1, 1\}^n}\ r(d),\quad r(d) = \min\{r : x_0 + r\, d \text{ is named another class}\}"
    )
    explanation: ClassVar[str] = (
        r"In L∞ the strongest changes move every value by the same $r$, up or down: only the signs $d$ matter. Begin with all up. "
        r"Turn the signs of half of the picture around and ask: does the smaller change $r$ still fool the model? If so keep "
        r"them and shrink $r$ as far as it goes. Then a quarter, an eighth, and so on. It needs the named class alone."
    )
    presets = {"weak": {"steps": 100}, "standard": {}, "strong": {"steps": 2000}}

    steps: int = param(400, "blocks", lo=1, hi=2900, help="How many blocks are turned around, one query each at least.")
    draws: int = draws_per_query()

    @property
    def expected_passes(self) -> int:
        """Queries of an image at most; bisections, of 10 each, are few."""
        return (3 + 11 * self.steps) * self.draws

    def ascend(self, model: nn.Module, goal: Goal, region: Region, rng: torch.Generator) -> Iterator[Step]:
        oracle, x0 = Decisions(self, model, goal, region, rng), region.x0
        at = oracle.look(x0, oracle.everybody)
        yield (clean := oracle.recorder.step(x0, replace(at, forwards=oracle.spent())))
        rows = (~oracle.settled(clean)).nonzero()[:, 0]
        oracle.recorder.total = self.steps if len(rows) else 1
        signs = torch.ones_like(x0[rows]).flatten(1)  # (n,D)
        radius = torch.full((len(rows),), torch.inf).to(x0)  # (n,) the best so far
        shown = x0
        for k, block in zip(range(oracle.recorder.total), _blocks(signs.shape[1]), strict=False):
            turned = signs.clone()
            turned[:, block] *= -1
            if k:  # who has found nothing yet
                drawn = (noise(x0[rows], 2 ** (k % 6), rng) - 0.5).sign().flatten(1)
                turned = torch.where(radius.isfinite()[:, None], turned, drawn)
            better = self._nearer(oracle, turned, radius, rows)
            signs = torch.where((better < radius)[:, None], turned, signs)
            radius = torch.minimum(better, radius)
            found = radius.isfinite()
            here = rows[found]
            x = shown.index_copy(0, here, _point(oracle, signs[found], radius[found], here))
            moved = (x != shown).flatten(1).any(1).nonzero()[:, 0]
            if len(moved):
                now = oracle.look(x[moved], moved)
                at = replace(
                    at, logits=at.logits.index_copy(0, moved, now.logits), loss=at.loss.index_copy(0, moved, now.loss)
                )
            shown = x
            yield oracle.recorder.step(x, replace(at, forwards=oracle.spent()))

    def _nearer(self, oracle: Decisions, signs: Tensor, radius: Tensor, rows: Tensor) -> Tensor:
        """(n,) the radius along these signs where it is below `radius`, else infinite."""
        most = torch.as_tensor(oracle.region.eps).to(signs).expand(len(oracle.everybody))[rows].clamp(max=1)
        high = torch.minimum(radius * SHRUNK, most)
        hit = oracle.fooled(_point(oracle, signs, high, rows), rows)
        low, best = torch.zeros_like(high), torch.where(hit, high, torch.inf)
        live = hit.nonzero()[:, 0]
        while len(live):
            middle = (low[live] + best[live]) / 2
            inside = oracle.fooled(_point(oracle, signs[live], middle, rows[live]), rows[live])
            best[live], low[live] = torch.where(inside, middle, best[live]), torch.where(inside, low[live], middle)
            live = live[best[live] - low[live] > TOLERANCE * best[live].clamp(max=1)]
        return best


def _point(oracle: Decisions, signs: Tensor, radius: Tensor, rows: Tensor) -> Tensor:
    x0 = oracle.region.x0[rows]
    return oracle.region.rows(rows).project(x0 + radius.view(-1, 1, 1, 1) * signs.view_as(x0))


def _blocks(values: int) -> Iterator[slice]:
    """All values, then halves, quarters, ... of them; single values again and again in the end."""
    yield slice(0, 0)  # the direction as it is
    level = 0
    while True:
        parts = min(2**level, values)
        for k in range(parts):
            yield slice(k * values // parts, (k + 1) * values // parts)
        level += 1
