"""Sparse-RS (Croce et al., arXiv:2006.12834): random search over which few pixels to repaint, by the model's scores alone."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from explorer.attacks import ATTACKS
from explorer.attacks._fields import draws_per_query, stop_when_fooled
from explorer.attacks.random_search import SearchAttack
from explorer.core import Region, param

SHARES = ((50, 2), (200, 4), (500, 5), (1000, 6), (2000, 8), (4000, 10), (6000, 12), (8000, 15), (10_000, 20))
PLANNED = 10_000  # queries for which SHARES says by what the first share is divided up to which


@ATTACKS.register(
    "sparse-rs",
    title="Sparse-RS",
    paper="arXiv:2006.12834",
    group="black-box",
    summary="Repaints eps pixels, moves some of them elsewhere, and keeps what the scores say helps: the strongest without slopes.",
)
@dataclass(frozen=True)
class SparseRS(SearchAttack):
    """A set M of eps pixels, each repainted in a random corner of the colour cube. A query takes alpha * eps pixels at random
    out of M, which become what they were, and puts as many in, repainted; it is kept where the loss rises (algorithm 1).

    alpha falls from `alpha` by the authors' schedule for 10,000 queries, stretched to `queries`. One forward pass a query.
    differs: a pixel that came out may come in again, in another colour: else the best one stays in a wrong colour for good. A
    pixel that is repainted in its own colour counts as not changed.
    """

    threats: ClassVar[tuple[str, ...]] = ("l0",)
    formula: ClassVar[str] = (
        r"M' = (M \setminus A) \cup B,\ |A| = |B| = \alpha_t\,\epsilon,\quad "
        r"x_{t+1} = x_{M'} \text{ if } L(x_{M'}) > L(x_t), \text{ else } x_t"
    )
    explanation: ClassVar[str] = (
        r"Repaint $\epsilon$ pixels at random, each in one of the strongest colours. Then again and again: give some of them ($A$) "
        r"their old colour back, repaint as many others ($B$) instead, ask the model, and keep the new picture if the loss rose. "
        r"At first many move at once, later one alone. It asks for scores only, and finds what attacks along slopes find."
    )
    presets = {"weak": {"queries": 200}, "standard": {}, "strong": {"queries": 5000}}

    queries: int = param(1000, "queries", lo=1, hi=100_000, help="How often the model is asked about each image.")
    alpha: float = param(
        0.3,
        "first share",
        lo=0.0,
        hi=1.0,
        step=0.05,
        help="Of the repainted pixels, how many move at first (halved at once).",
    )
    draws: int = draws_per_query()
    early_stop: bool = stop_when_fooled()

    @property
    def count(self) -> int:
        return self.queries

    def start(self, region: Region, rng: torch.Generator) -> Tensor:
        """eps random pixels repainted."""
        return _swapped(region, region.x0, _most(region), rng)

    def propose(self, region: Region, x: Tensor, tried: int, rng: torch.Generator) -> Tensor:
        """Some of the repainted pixels moved elsewhere."""
        at = tried / self.queries * PLANNED
        share = self.alpha / next(by for limit, by in SHARES if at <= limit)
        return _swapped(region, x, (share * _most(region)).floor().clamp(min=1), rng)


def _most(region: Region) -> Tensor:
    """(N,) pixels that may change."""
    return torch.as_tensor(region.eps, dtype=torch.float64).to(region.x0.device).expand(len(region.x0)).to(region.x0)


def _swapped(region: Region, x: Tensor, count: Tensor, rng: torch.Generator) -> Tensor:
    """x with `count` (N,) of its changed pixels as in x0, and others repainted, up to the region's eps."""
    x0, most = region.x0, _most(region)[:, None]
    changed = (x != x0).any(1).flatten(1)  # (N,P)
    order, again = torch.rand((2, *changed.shape), generator=rng, device=rng.device).to(x.device)
    out = changed & (_ranks(order.masked_fill(~changed, 2.0)) < count[:, None])
    kept = changed & ~out
    room = most - kept.sum(1, keepdim=True)  # for what came out, or was never used
    new = ~kept & (_ranks(again.masked_fill(kept, 2.0)) < room)
    colours = torch.randint(0, 2, x.shape, generator=rng, device=rng.device).to(x)
    shape = (len(x), 1, *x.shape[2:])
    return torch.where(new.view(shape), colours, torch.where(kept.view(shape), x, x0))


def _ranks(values: Tensor) -> Tensor:
    """(N,P) the place of each value in its row, from the smallest on."""
    return values.argsort(dim=1, stable=True).argsort(dim=1)
