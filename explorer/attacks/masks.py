"""Masks: the part of a picture that a localized attack may change, and the region of images that leaves the rest alone."""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from explorer.attacks.gradient import gaussian
from explorer.core import Hyper, InvalidValue, Region, param
from explorer.core.regions import L2Region

AREAS = ("border", "background", "drawn")
CELLS = 8  # the drawn mask is a grid of 8 x 8 cells, whatever the size of the picture
_MASK = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class Mask(Hyper):
    """Where an image may change: its border, its background, or a drawn region."""

    area: str = param(
        "border", "what may change", choices=AREAS, strength=False, help="The rest stays exactly as it is."
    )
    thickness: int = param(
        4, "border", lo=1, hi=16, unit="pixels", when=("area", "border"), strength=False, help="How wide the border is."
    )
    tolerance: float = param(
        0.03, "colour tolerance", lo=0.0, hi=1.0, step=0.005, when=("area", "background"), strength=False,
        help="How much neighbouring pixels may differ in any channel for the background to spread from one to the other.",
    )  # fmt: skip
    mask: str = param(
        "ff818181818181ff", "drawn region", widget="mask", when=("area", "drawn"), strength=False,
        help="A grid of 8 x 8 cells, row by row from the top, two hexadecimal digits a row, the left cell's bit first.",
    )  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "mask", self.mask.lower())
        if not _MASK.fullmatch(self.mask):
            raise InvalidValue(
                "mask must be 16 hexadecimal digits, two for each of 8 rows of 8 cells, such as ff818181818181ff; "
                f"got {self.mask!r}."
            )
        if self.area == "drawn" and int(self.mask, 16) == 0:
            raise InvalidValue(f"mask must have at least one painted cell to change anything; got {self.mask!r}.")

    def allowed(self, x0: Tensor) -> Tensor:
        """(N,1,H,W) bool: where each image of x0 (N,C,H,W) may change. Raises InvalidValue if that is nowhere."""
        if self.area == "background":
            return background(x0, self.tolerance)
        height, width = x0.shape[2:]
        if self.area == "border":
            inner = torch.ones(height, width, dtype=torch.bool, device=x0.device)
            inner[self.thickness : height - self.thickness, self.thickness : width - self.thickness] = False
        else:
            inner = painted_mask(self.mask, height, width).to(x0.device)
        if not bool(inner.any()):
            raise InvalidValue(f"mask must cover a pixel of a picture of {height} x {width}; got {self.mask!r}.")
        return inner.expand(len(x0), 1, height, width)

    def describe(self) -> str:
        """In words: "only a border of 4 pixels"."""
        cells = int(self.mask, 16).bit_count()
        return {
            "border": f"only a border of {self.thickness} pixel{'s' * (self.thickness > 1)}",
            "background": "only the background, as far as it was recognised",
            "drawn": f"only {cells} of {CELLS**2} drawn cells",
        }[self.area]


def background(x0: Tensor, tolerance: float) -> Tensor:
    """(N,1,H,W) bool, an approximation: what is joined to the picture's rim by steps between similar neighbours.

    Similar: after a 3 x 3 mean, no channel differs by more than `tolerance`. The rim itself always belongs to it.
    """
    smooth = F.avg_pool2d(F.pad(x0, (1, 1, 1, 1), mode="replicate"), 3, 1)
    down = (smooth[:, :, 1:] - smooth[:, :, :-1]).abs().amax(1, keepdim=True) <= tolerance  # (N,1,H-1,W)
    right = (smooth[:, :, :, 1:] - smooth[:, :, :, :-1]).abs().amax(1, keepdim=True) <= tolerance
    found = torch.ones_like(x0[:, :1], dtype=torch.bool)
    found[:, :, 1:-1, 1:-1] = False
    while True:
        wider = found.clone()
        wider[:, :, 1:] |= found[:, :, :-1] & down
        wider[:, :, :-1] |= found[:, :, 1:] & down
        wider[:, :, :, 1:] |= found[:, :, :, :-1] & right
        wider[:, :, :, :-1] |= found[:, :, :, 1:] & right
        if torch.equal(wider, found):
            return found
        found = wider


def painted_mask(mask: str, height: int, width: int) -> Tensor:
    """(H,W) bool: the 8 x 8 cells of 16 hexadecimal digits, stretched over a picture; the first bit is the top left."""
    bits = torch.tensor([int(bit) for bit in f"{int(mask, 16):064b}"], dtype=torch.bool).view(CELLS, CELLS)
    return bits[torch.arange(height) * CELLS // height][:, torch.arange(width) * CELLS // width]


class MaskedRegion(Region):
    """Of a region of images, what differs from x0 only where `mask` (N,1,H,W) holds."""

    def __init__(self, inner: Region, mask: Tensor):
        super().__init__(inner.x0, inner.eps)
        self.inner, self.mask = inner, mask

    def project(self, point: Tensor) -> Tensor:
        return torch.where(self.mask, self.inner.project(point), self.x0)

    def distance(self, point: Tensor) -> Tensor:
        return self.inner.distance(point)

    def contains(self, point: Tensor) -> Tensor:
        return self.inner.contains(point) & ((point == self.x0) | self.mask).flatten(1).all(1)

    def steepest(self, grad: Tensor) -> Tensor:
        return self.inner.steepest(torch.where(self.mask, grad, 0))

    def rows(self, keep: Tensor) -> MaskedRegion:
        return MaskedRegion(self.inner.rows(keep), self.mask[keep])

    def sample(self, rng: torch.Generator) -> Tensor:
        """Uniform inside the mask; in L2 with radius u^(1/d) for the d values of the mask."""
        if not isinstance(self.inner, L2Region):
            return self.project(self.inner.sample(rng))
        noise = torch.where(self.mask, gaussian(self.x0, rng), 0)
        u = torch.rand(len(noise), generator=rng, device=rng.device, dtype=noise.dtype).to(noise.device)
        eps = self.eps.to(u) if isinstance(self.eps, Tensor) else self.eps
        radius = eps * u ** (1 / (self.mask.flatten(1).sum(1) * noise.shape[1]))
        length = torch.linalg.vector_norm(noise, dim=(1, 2, 3))
        return self.project(self.x0 + noise * (radius / length).view(-1, 1, 1, 1))
