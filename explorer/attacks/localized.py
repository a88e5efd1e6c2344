"""PGD that may touch only part of the picture: its border, its background, or a drawn region.

Localized attacks: Rothberg et al., arXiv:1909.04779, who change backgrounds only. The walk is PGD's (arXiv:1706.06083).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from explorer.attacks import ATTACKS
from explorer.attacks._ascent import View, check_norm, look_and_pull, revived
from explorer.attacks._climb import climb
from explorer.core import LOSSES, Ball, Goal, Hyper, InvalidValue, Region, Step, param

AREAS = ("border", "background", "drawn")
CELLS = 8  # the drawn mask is a grid of 8 x 8 cells, whatever the size of the picture
_MASK = re.compile(r"[0-9a-f]{16}")


@ATTACKS.register(
    "localized",
    title="Localized PGD",
    paper="arXiv:1909.04779; the walk arXiv:1706.06083",
    group="iterated",
    summary="PGD that may touch only a part of the picture: its border, its background, or what you draw.",
)
@dataclass(frozen=True)
class LocalizedPGD(Hyper):
    """x <- project(x + alpha * steepest(M * gradient of the loss at x)): the mask M is 1 where pixels may change.

    Outside the mask every yielded image is exactly the original. In L2 the direction is the steepest of those inside
    the mask, and eps is the length of the change there. Yields restarts * (steps + 1) steps, as PGD.
    differs: the background is guessed from the picture alone, see `background`.
    differs: an image whose gradient inside the mask is exactly zero or not finite takes a random step there.
    """

    budget: ClassVar[str] = "fixed"
    norms: ClassVar[tuple[str, ...]] = ("linf", "l2")
    formula: ClassVar[str] = r"x_{t+1} = \Pi\,\big[\,x_t + \alpha\, d\big(M \odot \nabla_x L(x_t, y)\big)\big]"
    explanation: ClassVar[str] = (
        r"PGD with a mask $M$: 1 where pixels may change, 0 where they must stay as they are. The slope of the loss is "
        r"set to 0 outside the mask before each step, so that the rest of the picture is untouched to the last bit. If "
        r"the model can be fooled through the border or the background alone, it looks at more than the object. The "
        r"*background* here is an approximation: from the picture's rim it spreads to neighbouring pixels of similar "
        r"colour, and so it may leak into an object of the background's colour, or miss parts cut off from the rim."
    )
    presets = {
        "weak": {"steps": 5, "rel_step": 0.5},
        "standard": {"steps": 20, "rel_step": 0.125},
        "strong": {"steps": 50, "rel_step": 0.1, "restarts": 5},
    }

    area: str = param("border", "what may change", choices=AREAS, strength=False, help="The rest stays exactly as it is.")
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
    steps: int = param(20, "steps", lo=1, hi=1000, help="How many times the image is updated.")
    rel_step: float = param(
        0.125, "step size", lo=0.001, hi=2.0, unit="x eps", step=0.005, help="Length of one update, relative to eps."
    )
    random_start: bool = param(True, "random start", help="Begin at a random point of the mask instead of at the image.")
    restarts: int = param(1, "restarts", lo=1, hi=100, help="Independent tries from new random starts; the best is kept.")
    draws: int = param(
        1, "draws per step", lo=1, hi=512, help="Gradients averaged over this many passes of a stochastic model (EOT)."
    )
    loss: str = param(
        "ce", "loss", choices=LOSSES, help="What is pushed up: cross-entropy, or the margin between the best two logits."
    )

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

    @property
    def aside(self) -> str:
        """What a title adds."""
        cells = int(self.mask, 16).bit_count()
        return {
            "border": f"only a border of {self.thickness} pixel{'s' * (self.thickness > 1)}",
            "background": "only the background, as far as it was recognised",
            "drawn": f"only {cells} of {CELLS**2} drawn cells",
        }[self.area]

    def allowed(self, x0: Tensor) -> Tensor:
        """(N,1,H,W) bool: where each image of x0 (N,C,H,W) may change. Raises InvalidValue if that is nowhere."""
        if self.area == "background":
            return background(x0, self.tolerance)
        height, width = x0.shape[2:]
        if self.area == "border":
            inner = torch.ones(height, width, dtype=torch.bool, device=x0.device)
            inner[self.thickness : height - self.thickness, self.thickness : width - self.thickness] = False
        else:
            inner = drawn(self.mask, height, width).to(x0.device)
        if not bool(inner.any()):
            raise InvalidValue(f"mask must cover a pixel of a picture of {height} x {width}; got {self.mask!r}.")
        return inner.expand(len(x0), 1, height, width)

    def walk(self, model: nn.Module, x0: Tensor, goal: Goal, ball: Ball, rng: torch.Generator) -> Iterator[Step]:
        check_norm(self, ball)
        mask = self.allowed(x0.detach())

        def start(region: Region, rng: torch.Generator) -> Tensor:
            return _start(region, mask, rng)

        def see(*where) -> View:
            view = look_and_pull(*where)
            return replace(view, gradient=torch.where(mask, view.gradient, 0))

        def turn(gradient: Tensor, degenerate: Tensor) -> tuple[Tensor, Tensor]:
            return torch.where(mask, revived(gradient, degenerate, rng), 0), torch.zeros_like(degenerate)

        return climb(
            model,
            x0,
            goal,
            ball,
            rng,
            steps=self.steps,
            alpha=self.rel_step * ball.eps,
            loss=self.loss,
            draws=self.draws,
            random_start=self.random_start,
            restarts=self.restarts,
            start=start,
            memory=lambda: turn,
            see=see,
        )


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


def drawn(mask: str, height: int, width: int) -> Tensor:
    """(H,W) bool: the 8 x 8 cells of 16 hexadecimal digits, stretched over a picture; the first bit is the top left."""
    bits = torch.tensor([int(bit) for bit in f"{int(mask, 16):064b}"], dtype=torch.bool).view(CELLS, CELLS)
    return bits[torch.arange(height) * CELLS // height][:, torch.arange(width) * CELLS // width]


def _start(region: Region, mask: Tensor, rng: torch.Generator) -> Tensor:
    """A random point of the region inside the mask; in L2 with radius u^(1/d) for the d values of the mask."""
    if region.norm == "linf":
        return torch.where(mask, region.sample(rng), region.x0)
    noise = torch.randn(region.x0.shape, generator=rng, device=rng.device, dtype=region.x0.dtype).to(region.x0.device)
    noise = torch.where(mask, noise, 0)
    u = torch.rand(len(noise), generator=rng, device=rng.device, dtype=noise.dtype).to(noise.device)
    radius = region.eps * u ** (1 / (mask.flatten(1).sum(1) * noise.shape[1]))
    length = torch.linalg.vector_norm(noise, dim=(1, 2, 3))
    return region.project(region.x0 + noise * (radius / length).view(-1, 1, 1, 1))
