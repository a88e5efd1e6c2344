"""Spatial attack: the worst rotation, shift and scale of the whole picture (Engstrom et al., arXiv:1712.02779)."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from explorer.attacks import ATTACKS
from explorer.attacks._fields import draws_per_query
from explorer.attacks._region import RegionAttack
from explorer.attacks.gradient import Recorder, forward
from explorer.attacks.random_search import MARGIN
from explorer.core import Goal, Region, RotationShift, Step, ThreatModel, param
from explorer.core.threat import Eps
from explorer.core.transform import ANGLE, SCALE, SHIFT

FRAMES = 60  # of all tries about this many are yielded, each the worst of some


@ATTACKS.register(
    "rotation",
    title="Rotation and shift",
    paper="arXiv:1712.02779",
    group="black-box",
    summary="Turns and moves the picture as a whole, and keeps the worst of a grid or of random tries; no pixel is painted.",
)
@dataclass(frozen=True)
class Rotation(RegionAttack):
    """The worst of `tries` random points theta = (angle, right, down, larger), or of a grid with both ends of each limit.

    Within the threat model, and within the attack's own `angle`, `shift` and `scale`, which are also what a request allows.
    The grid is the paper's: 31 angles x 5 x 5 shifts, and 5 sizes if scale > 0. A step is the worst of the tries
    since the last one; each try is a forward pass a draw.
    differs: scale, which the paper leaves out; pixels that come in are black, as there. Its search by gradients, which it
    finds weaker than both, is left out.
    """

    threats: ClassVar[tuple[str, ...]] = ("rotation",)
    loss = MARGIN
    formula: ClassVar[str] = (
        r"\max_{\theta \in \Theta}\ L\big(T_\theta(x), y\big),\quad \theta = (\alpha, \Delta u, \Delta v)"
    )
    explanation: ClassVar[str] = (
        r"Nothing is painted: the picture is turned by an angle $\alpha$ and moved by a few pixels. There are only three numbers "
        r"to choose, so simply try many and keep the worst. A network that sees a cat in one place and not three pixels further "
        r"has not learned what a cat is; and a model that withstands small changes of every pixel need not withstand these."
    )
    presets = {"weak": {"tries": 10}, "standard": {}, "strong": {"search": "grid"}}

    angle: float = param(
        30.0, "largest angle", lo=0.0, hi=ANGLE, unit="degrees", step=5.0, strength=False, help="To either side."
    )
    shift: float = param(
        3.0, "largest shift", lo=0.0, hi=SHIFT, unit="pixels", step=1.0, strength=False, help="In each direction."
    )
    scale: float = param(
        0.0, "scale", lo=0.0, hi=SCALE, step=0.05, strength=False,
        help="By what share of its size the picture may become larger or smaller.",
    )  # fmt: skip
    search: str = param("random", "search", choices=("random", "grid"), help="Random tries, or all points of a grid.")
    tries: int = param(
        100, "tries", lo=1, hi=10_000, when=("search", "random"), help="How many random rotations and shifts are tried."
    )
    angles: int = param(
        31,
        "angles",
        lo=2,
        hi=361,
        when=("search", "grid"),
        help="Points of the grid along the angle; 5 along all others.",
    )
    draws: int = draws_per_query()

    def threat_model(self, name: str, eps: Eps) -> ThreatModel:
        """Rotations and shifts up to eps times the attack's own limits."""
        return (
            RotationShift(self.angle, self.shift, eps, self.scale)
            if name == "rotation"
            else super().threat_model(name, eps)
        )

    @property
    def count(self) -> int:
        """How many points are tried."""
        return self.tries if self.search == "random" else self.angles * 25 * (5 if self.scale else 1)

    @property
    def together(self) -> int:
        """How many of them a step is the worst of."""
        return math.ceil(self.count / FRAMES)

    @property
    def expected_frames(self) -> int:
        return 1 + math.ceil(self.count / self.together)

    @property
    def expected_passes(self) -> int:
        return (1 + self.count) * self.draws

    def ascend(self, model: nn.Module, goal: Goal, region: Region, rng: torch.Generator) -> Iterator[Step]:
        recorder = Recorder(self, goal, region, self.expected_frames - 1)
        theta = region.origin
        x = region.apply(theta)
        yield recorder.step(x, forward(model, x, goal, self.loss, self.draws, rng), theta=theta)
        points = self._points(region, rng)
        for first in range(0, self.count, self.together):
            tried = min(self.together, self.count - first)
            theta = region.project(next(points))
            x = region.apply(theta)
            worst = forward(model, x, goal, self.loss, self.draws, rng)
            for _ in range(tried - 1):
                other = region.project(next(points))
                there = region.apply(other)
                at = forward(model, there, goal, self.loss, self.draws, rng)
                more = (at.loss > worst.loss) | worst.loss.isnan()
                theta = torch.where(more[:, None], other, theta)
                x = torch.where(more.view(-1, 1, 1, 1), there, x)
                worst = replace(
                    at,
                    logits=torch.where(more[:, None], at.logits, worst.logits),
                    loss=torch.where(more, at.loss, worst.loss),
                )
            yield recorder.step(x, replace(worst, forwards=tried * self.draws), theta=theta)

    def _points(self, region: Region, rng: torch.Generator) -> Iterator[Tensor]:
        """(N,P) each: what is tried."""
        own = region.x0.new_tensor([self.angle, self.shift, self.shift, self.scale])[: region.origin.shape[1]]
        most = torch.minimum(region.project(torch.full_like(region.origin, math.inf)), own)  # (N,P)
        if self.search == "random":
            for _ in range(self.tries):
                draw = torch.rand(most.shape, generator=rng, device=rng.device, dtype=most.dtype).to(most.device)
                yield (2 * draw - 1) * most
            return
        for share in torch.cartesian_prod(*(torch.linspace(-1, 1, n) for n in (self.angles, 5, 5, 5)[: most.shape[1]])):
            yield share.to(most) * most
