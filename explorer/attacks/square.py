"""Square attack (Andriushchenko et al., arXiv:1912.00049): random squares, kept where they help; no gradient at all."""

import math
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import torch
from torch import Tensor

from explorer.attacks import ATTACKS
from explorer.attacks._fields import draws_per_query, stop_when_fooled
from explorer.attacks.random_search import SearchAttack
from explorer.core import LOSSES, LossName, Region, param
from explorer.core.dense import LinfRegion
from explorer.core.sparse import L1Region

HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # of the squares' area, at these of PLANNED queries
PLANNED = 10_000
REDRAWN = 10  # times at most, where a square would change nothing


@ATTACKS.register(
    "square",
    title="Square",
    paper="arXiv:1912.00049",
    group="black-box",
    summary="Random squares, kept where they help: needs only the model's output, so hidden gradients do not stop it.",
)
@dataclass(frozen=True)
class Square(SearchAttack):
    """Linf: the start is vertical stripes of +-eps; then squares of one random +-eps a channel are put at random places.
    L2, L1: the start is a grid of bumps; then all change within one random window is moved into another, as a new bump (L1:
    as in Croce & Hein, arXiv:2103.01208, appendix).

    A try is kept where it raises the loss. Squares shrink: their area is `side`'s p of the image. One forward pass a
    query and draw, none backward; each step is the best point so far.
    differs: every image has its own random places (the authors' later code shares one in a batch), which reach the last
    row and column; a square that would change nothing is drawn again; the margin is raised toward a target, too, where
    the paper takes cross-entropy, unless `loss` says so. The halvings are those of the authors' code.
    """

    threats: ClassVar[tuple[str, ...]] = ("linf", "l2", "l1")
    formula: ClassVar[str] = (
        r"x_{t+1} = \Pi\,[x_t + \delta_t]\ \text{ if it raises the margin, else } x_t;\quad "
        r"\delta_t:\ \text{a random square of area } p_t"
    )
    explanation: ClassVar[str] = (
        r"Put a square of a random color, as strong as $\varepsilon$ allows, at a random place of the picture, and ask "
        r"the model: if the true class lost ground, the square stays. Begin with large squares and let them shrink. "
        r"It asks only for the model's output, so where it succeeds and gradients fail, the gradients were hidden."
    )
    presets = {"weak": {"queries": 200}, "standard": {}, "strong": {"queries": 2500}}

    queries: int = param(1000, "queries", lo=1, hi=100_000, help="How often the model is asked about each image.")
    p_init: float = param(
        0.8, "first square", lo=0.001, hi=1.0, step=0.05, help="Share of the image that the first squares cover."
    )
    rescale: bool = param(
        True,
        "schedule fits the queries",
        help="Squares shrink as planned for 10,000 queries, in proportion; off: as is.",
    )
    draws: int = draws_per_query()
    loss: LossName = param(
        "margin", "loss", choices=LOSSES, help="What a try must raise: the margin, cross-entropy, or the DLR loss."
    )
    early_stop: bool = stop_when_fooled()

    @property
    def count(self) -> int:
        return self.queries

    def start(self, region: Region, rng: torch.Generator) -> Tensor:
        return stripes(region, rng) if isinstance(region, LinfRegion) else tiles(region, rng)

    def propose(self, region: Region, x: Tensor, tried: int, rng: torch.Generator) -> Tensor:
        side = math.sqrt(self.share(tried) * x.shape[2] * x.shape[3])
        return (one_color if isinstance(region, LinfRegion) else moved_bump)(region, x, side, rng)

    def share(self, tried: int) -> float:
        """p, the share of the image that a square covers when `tried` have been tried before it."""
        at = int(tried / self.queries * PLANNED) if self.rescale else tried
        return self.p_init / float(2 ** sum(at > limit for limit in HALVINGS))


def stripes(region: Region, rng: torch.Generator) -> Tensor:
    """Linf: every column of +-eps, of one sign a channel."""
    x0 = region.x0
    return region.project(x0 + region.size * _signs((*x0.shape[:2], 1, x0.shape[3]), x0, rng))


def one_color(region: Region, x: Tensor, side: float, rng: torch.Generator) -> Tensor:
    """Linf: x with a square of one sign a channel, +-eps, at a random place of each image."""
    n, channels, height, width = x.shape
    side = min(max(round(side), 1), height, width)
    inside = _mask(*_corner(x, side, rng), side, x)

    def painted(signs: Tensor | int) -> Tensor:
        return torch.where(inside, region.project(region.x0 + region.size * signs), x)

    if x.device.type != "cpu":  # the same, all draws at once: to ask whether another is needed makes the host wait
        down, up = ((painted(sign) == x).flatten(2).all(2) for sign in (-1, 1))  # (n,C): a sign would change nothing
        draws = _signs((REDRAWN, n, channels), x, rng)
        changing = ~torch.where(draws > 0, up, down).all(2)  # (REDRAWN,n)
        first = changing.int().argmax(0).view(1, n, 1).expand(1, n, channels)
        return painted(draws.gather(0, first).view(n, channels, 1, 1))
    signs = _signs((n, channels, 1, 1), x, rng)
    for _ in range(REDRAWN):
        tried = painted(signs)
        same = (tried == x).flatten(1).all(1)
        if not bool(same.any()):
            break
        signs = torch.where(same.view(-1, 1, 1, 1), _signs(signs.shape, x, rng), signs)
    return tried


def tiles(region: Region, rng: torch.Generator) -> Tensor:
    """L2, L1: a grid of bumps, whose lengths share eps."""
    x0, order = region.x0, _order(region)
    n, channels, height, width = x0.shape
    side = max(min(height, width) // 5, 1)
    rows, columns = height // side, width // side
    top, left = (height - rows * side) // 2, (width - columns * side) // 2
    delta = torch.zeros_like(x0)
    for row in range(top, top + rows * side, side):
        for column in range(left, left + columns * side, side):
            tile = _bumps(side, x0, rng, order) * _signs((n, channels, 1, 1), x0, rng)
            delta[:, :, row : row + side, column : column + side] = tile
    return region.project(x0 + (delta if order == 1 else region.size * _unit(delta, (1, 2, 3))))


def moved_bump(region: Region, x: Tensor, side: float, rng: torch.Generator) -> Tensor:
    """L2, L1: x with all that has changed within one random window moved into another, as a new bump."""
    order = _order(region)
    n, channels, height, width = x.shape
    side = max(round(side), 3)
    side = min(side + (side + 1) % 2, _odd(min(height, width)))
    delta = x - region.x0
    here, there = _corner(x, side, rng), _corner(x, side, rng)
    window = _window(*here, side, x)
    old = delta[window]
    bumps = _bumps(side, x, rng, order) * _signs((n, channels, 1, 1), x, rng)
    new = _unit(_unit(old, (2, 3), order) + bumps, (2, 3), order)
    both = _mask(*here, side, x) | _mask(*there, side, x)
    spent = delta.abs() ** order
    freed = (spent * both).sum((2, 3), keepdim=True)  # (n,C,1,1)
    unused = (region.size**order - spent.sum((1, 2, 3), keepdim=True)).clamp(min=0) / channels
    delta = delta.masked_fill(both, 0)
    if order == 1:  # more than there is: the projection takes it from all values, so that small ones vanish
        delta[window] = new * (freed + unused) * channels
        return region.project(region.x0 + delta)
    delta[window] = new * (freed + unused).sqrt()
    return region.project(region.x0 + region.size * _unit(delta, (1, 2, 3)))


def _order(region: Region) -> int:
    return 1 if isinstance(region, L1Region) else 2


def bump(height: int, width: int, order: int = 2) -> Tensor:
    """(height, width) unit length: rings around the middle, each higher than the one outside it, in L1 more so."""
    rows, columns = ((torch.arange(n) - n // 2).abs() for n in (height, width))
    ring = torch.maximum(rows[:, None], columns[None])
    heights = 1 / torch.arange(1, max(height, width) // 2 + 2) ** (4 if order == 1 else 2)
    return _unit(heights.flip(0).cumsum(0).flip(0)[ring], (0, 1), order)


def two_bumps(side: int, order: int = 2) -> Tensor:
    """(side, side) unit length: a bump up in the upper half and one down in the lower half."""
    upper = side // 2
    return _unit(torch.cat([bump(upper, side, order), -bump(side - upper, side, order)]), (0, 1), order)


@cache  # made once: a copy to a GPU makes the host wait
def _two_bumps_on(device: torch.device, side: int, dtype: torch.dtype, order: int) -> Tensor:
    with torch.inference_mode(False):
        return two_bumps(side, order).to(device, dtype)


def _bumps(side: int, like: Tensor, rng: torch.Generator, order: int) -> Tensor:
    """(n,1,side,side): `two_bumps`, for half of the images on its side."""
    shape = _two_bumps_on(like.device, side, like.dtype, order)
    lying = _signs((len(like), 1, 1, 1), like, rng) > 0
    return torch.where(lying, shape.T, shape)


def _unit(values: Tensor, dims: tuple[int, ...], order: int = 2) -> Tensor:
    """Of length 1 over the dimensions, in the norm of this order; zero stays zero."""
    length = torch.linalg.vector_norm(values, order, dim=dims, keepdim=True)
    return values / torch.where(length > 0, length, 1)


def _odd(n: int) -> int:
    """The largest odd number up to n."""
    return n - (n + 1) % 2


def _signs(shape: tuple[int, ...], like: Tensor, rng: torch.Generator) -> Tensor:
    """-1 or 1 at random."""
    return (torch.randint(0, 2, shape, generator=rng, device=rng.device) * 2 - 1).to(like)


def _corner(x: Tensor, side: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """(n,) first row and (n,) first column of a random window that lies within the image."""
    free = (x.shape[2] - side + 1, x.shape[3] - side + 1)
    top, left = (torch.randint(0, n, (len(x),), generator=rng, device=rng.device).to(x.device) for n in free)
    return top, left


def _mask(top: Tensor, left: Tensor, side: int, x: Tensor) -> Tensor:
    """(n,1,H,W) bool: inside each image's window."""
    rows, columns = (torch.arange(n, device=x.device) for n in x.shape[2:])
    in_rows = (rows >= top[:, None]) & (rows < top[:, None] + side)  # (n,H)
    in_columns = (columns >= left[:, None]) & (columns < left[:, None] + side)  # (n,W)
    return (in_rows[:, :, None] & in_columns[:, None])[:, None]


def _window(top: Tensor, left: Tensor, side: int, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The index of each image's window: x[_window(...)] is (n,C,side,side)."""
    n, channels = x.shape[:2]
    along = torch.arange(side, device=x.device)
    images, colors = torch.arange(n, device=x.device).view(-1, 1, 1, 1), torch.arange(channels, device=x.device)
    rows, columns = (top[:, None] + along)[:, None, :, None], (left[:, None] + along)[:, None, None]
    return images, colors.view(-1, 1, 1), rows, columns
