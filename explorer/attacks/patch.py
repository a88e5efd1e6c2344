"""Adversarial patch: a small rectangle that may hold anything (LaVAN, Karmon et al., arXiv:1801.02608), in L0."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from explorer.attacks import ATTACKS
from explorer.attacks.masks import MaskedRegion
from explorer.attacks.pgd import PGD
from explorer.core import Goal, Region, Step, fixed, param

PLACES = ("anywhere", "centre", "corner")


@ATTACKS.register(
    "patch",
    title="Patch",
    paper="arXiv:1801.02608; the idea arXiv:1712.09665",
    group="iterated",
    summary="A small rectangle of the picture, as many pixels as eps, may show anything; the rest stays as it is.",
)
@dataclass(frozen=True)
class Patch(PGD, steps=50, rel_step=fixed(0.0), random_start=fixed(True), restarts=4):
    """x <- clip(x + stride * sign(gradient)) inside a rectangle of at most eps pixels, as square as can be; x = x0 outside.

    Each restart has a place of its own, drawn for each image by itself (or the one asked for), and begins with noise in it.
    differs: the patch is made for one picture at one place, as LaVAN's; 1712.09665 trains one for all pictures and places.
    differs: the loss is `loss`, cross-entropy unless asked otherwise, where LaVAN takes the logits of target and label.
    differs: steps along the sign, of one length, as PGD's; a zero or not finite gradient gives way to a random direction.
    """

    threats: ClassVar[tuple[str, ...]] = ("l0",)
    formula: ClassVar[str] = (
        r"x_{t+1} = (1 - M) \odot x + M \odot \mathrm{clip}\big[x_t + \alpha\,\mathrm{sign}\,\nabla_x L(x_t, y)\big]"
    )
    explanation: ClassVar[str] = (
        r"As if a sticker lay on the picture: inside the rectangle $M$ every pixel may take any colour, outside nothing "
        r"changes. Begin with noise on the sticker, follow the slope of the loss there, and try several places. A patch is "
        r"not meant to go unseen, and it need not: it can be printed. L0 counts its pixels."
    )
    presets = {"weak": {"steps": 15, "restarts": 2}, "standard": {}, "strong": {"steps": 200, "restarts": 10}}

    stride: float = param(0.1, "step size", lo=0.001, hi=1.0, step=0.05, help="How far a value moves, in pixel units.")
    place: str = param(
        "anywhere",
        "place",
        choices=PLACES,
        strength=False,
        help="Where the patch lies; anywhere: drawn in each restart.",
    )

    def step_size(self, eps: float | Tensor) -> float | Tensor:
        return self.stride

    def ascend(self, model: nn.Module, goal: Goal, region: Region, rng: torch.Generator) -> Iterator[Step]:
        return super().ascend(model, goal, PatchRegion(region, self.place, rng), rng)

    def start(self, region: Region, rng: torch.Generator) -> Tensor:
        """Noise on the patch, at a new place."""
        assert isinstance(region, PatchRegion)
        region.lay(self.place, rng)
        return region.sample(rng)


class PatchRegion(MaskedRegion):
    """What differs from x0 in the rectangle only; `lay` puts the rectangles elsewhere."""

    def __init__(self, inner: Region, place: str, rng: torch.Generator):
        super().__init__(inner, torch.zeros_like(inner.x0[:, :1], dtype=torch.bool))
        self.lay(place, rng)

    def lay(self, place: str, rng: torch.Generator) -> None:
        """A rectangle for each image: anywhere, in the centre, or in the lower right corner."""
        x0 = self.x0
        height, width = sides(self._each_eps[:, 0].to(x0), *x0.shape[2:])  # (N,)
        free = torch.stack([x0.shape[2] - height, x0.shape[3] - width])  # (2,N)
        draw = torch.rand(free.shape, generator=rng, device=rng.device).to(x0) if place == "anywhere" else 0.5
        top, left = free if place == "corner" else (draw * (free + 1)).floor().minimum(free)
        rows, columns = (torch.arange(n, device=x0.device) for n in x0.shape[2:])
        beside = (columns >= left[:, None]) & (columns < (left + width)[:, None])  # (N,W)
        below = (rows >= top[:, None]) & (rows < (top + height)[:, None])  # (N,H)
        self.mask = (below[:, :, None] & beside[:, None])[:, None]

    def project(self, point: Tensor) -> Tensor:
        return torch.where(self.mask, point.clamp(0, 1), self.x0)

    def sample(self, rng: torch.Generator) -> Tensor:
        return self.project(torch.rand(self.x0.shape, generator=rng, device=rng.device).to(self.x0))

    def steepest(self, grad: Tensor) -> Tensor:
        return torch.where(self.mask, grad.sign(), 0)


def sides(pixels: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Height and width (N,) of the rectangle of at most `pixels` (N,) that is as square as can be and fits in."""
    tall = pixels.sqrt().floor().clamp(max=height)
    wide = (pixels / tall).floor().clamp(max=width)
    return (pixels / wide).floor().clamp(max=height), wide
