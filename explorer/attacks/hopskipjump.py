"""HopSkipJump (Chen, Jordan & Wainwright, arXiv:1904.02144): decision-based, it sees only which class the model names."""

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
from explorer.attacks.random_search import MARGIN
from explorer.core import Goal, Region, Step, param

FIRST_WIDTH = 0.1  # of the pixel range: how far around the first point its normal is looked for
AT_ONCE = 256  # images in one forward pass of the estimate, if there are no more in the batch
SHRINKS = 10  # halvings of a step at most


@ATTACKS.register(
    "hopskipjump",
    title="HopSkipJump",
    paper="arXiv:1904.02144",
    group="black-box",
    summary="Needs only the class the model names, not even its scores: walks along the boundary by random tries.",
)
@dataclass(frozen=True)
class HopSkipJump(RegionAttack):
    """From a random image of another class: bisect to the boundary, estimate its normal there, step along it, bisect again.

    The normal at x is the mean of (phi(x + delta u) - mean phi) u over B_t = B_0 sqrt(t) random unit directions u, phi = 1 where
    the class is a success and -1 where it is not (eq. 16), its sign in Linf; the step ||x - x0|| / sqrt(t), halved until it
    ends in a success; delta_t = d theta ||x - x0|| (L2: sqrt(d) theta), where bisections end at a share theta = d^-2 (L2:
    d^-1.5), algorithms 1 and 2. Yields the boundary's point after each iteration. Logits are asked for the class alone: they
    are shown, never used. An image whose start failed in `starts` tries is left as it is, and costs no more.
    differs: the start is noise of several coarsenesses, in colours or black and white. With a target, too, where it often
    finds nothing: the paper starts at an image of the target's class.
    """

    budget = "minimal"
    threats: ClassVar[tuple[str, ...]] = ("l2", "linf")
    loss = MARGIN
    formula: ClassVar[str] = (
        r"v_t = \frac{1}{B_t - 1} \sum_b \big(\phi(x_t + \delta_t u_b) - \bar\phi\big)\, u_b,\quad \phi = \pm 1"
    )
    explanation: ClassVar[str] = (
        r"Start at any picture that the model takes for something else, and go back toward the original up to the very boundary. "
        r"There ask about many random points around: which side of the boundary is each on ($\phi = \pm 1$)? Those answers "
        r"add up to the direction $v_t$ straight away from the boundary. Take a step along it, go back toward the original "
        r"again, and each round ends nearer. It needs only the named class: neither gradients nor scores can hide it."
    )
    presets = {
        "weak": {"steps": 6, "samples": 30},
        "standard": {},
        "strong": {"steps": 25, "samples": 120},
    }

    steps: int = param(12, "iterations", lo=1, hi=200, help="How often the normal is estimated and stepped along.")
    samples: int = param(
        60,
        "first samples",
        lo=2,
        hi=1000,
        help="Points asked about in the first iteration (B_0); it grows with sqrt(t).",
    )
    starts: int = tries_for_a_start()
    draws: int = draws_per_query()

    @property
    def expected_passes(self) -> int:
        """Queries of an image at most; a bisection takes as many as theta asks for, 25 for 3 x 32 x 32 values."""
        normals = sum(self._count(t) for t in range(1, self.steps + 1))
        return (1 + self.starts + normals + self.steps * SHRINKS + (self.steps + 1) * (HALVINGS + 1)) * self.draws

    def _count(self, t: int) -> int:
        return math.ceil(self.samples * math.sqrt(t))

    def ascend(self, model: nn.Module, goal: Goal, region: Region, rng: torch.Generator) -> Iterator[Step]:
        oracle, x0, d = _Normals(self, model, goal, region, rng), region.x0, region.x0[0].numel()
        theta = d**-2 if oracle.flat else d**-1.5
        yield (clean := oracle.show(x0))
        x, rows = oracle.start(oracle.settled(clean), self.starts)
        if len(rows) == 0:
            oracle.recorder.total = 1
        x = oracle.bisect(x, rows, theta)
        for t in range(1, self.steps + 1):
            if len(rows):
                far = oracle.distance(x, rows)
                width = FIRST_WIDTH if t == 1 else (d if oracle.flat else math.sqrt(d)) * theta * far.view(-1, 1, 1, 1)
                normal = oracle.normal(x, rows, width, self._count(t))
                x = oracle.bisect(oracle.step(x, rows, normal, far / math.sqrt(t)), rows, theta)
            yield oracle.show(x0.index_copy(0, rows, x))
            if len(rows) == 0:
                return


class _Normals(Decisions):
    """With the estimate of the boundary's normal, and the step along it."""

    def normal(self, x: Tensor, rows: Tensor, width: float | Tensor, count: int) -> Tensor:
        """(n,C,H,W) the estimate of the boundary's normal at x, of length 1; its sign in Linf."""
        total, weighed, plain = torch.zeros(len(x), 1, 1, 1).to(x), torch.zeros_like(x), torch.zeros_like(x)
        many = max(AT_ONCE // len(x), 1)
        for k in range(0, count, many):
            m = min(many, count - k)
            near, far = (v.repeat_interleave(m, dim=0) if isinstance(v, Tensor) else v for v in (x, width))
            assert isinstance(near, Tensor)
            u = self._draw(near)
            u = u / u.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
            there = (near + far * u).clamp(0, 1)
            phi = self.fooled(there, rows.repeat_interleave(m)).to(x).view(-1, m, 1, 1, 1) * 2 - 1
            u = ((there - near) / far).view(len(x), m, *x.shape[1:])
            total, weighed, plain = total + phi.sum(1), weighed + (phi * u).sum(1), plain + u.sum(1)
        mean = total / count
        same = mean.abs() == 1  # all on one side: the differences would be 0
        return self.region.steepest(torch.where(same, mean * plain, weighed - mean * plain))

    def step(self, x: Tensor, rows: Tensor, normal: Tensor, length: Tensor) -> Tensor:
        """x + length * normal, the length (n,) halved until it is a success; else x."""
        ahead, going = x, torch.ones_like(rows, dtype=torch.bool)
        for _ in range(SHRINKS):
            tried = (x + length.view(-1, 1, 1, 1) * normal).clamp(0, 1)
            hit = torch.zeros_like(going)
            hit[going] = self.fooled(tried[going], rows[going])
            ahead = torch.where(hit.view(-1, 1, 1, 1), tried, ahead)
            going, length = going & ~hit, length / 2
            if not bool(going.any()):
                break
        return ahead

    def _draw(self, like: Tensor) -> Tensor:
        draw = torch.rand if self.flat else torch.randn
        u = draw(like.shape, generator=self.rng, device=self.rng.device, dtype=like.dtype).to(like.device)
        return 2 * u - 1 if self.flat else u
