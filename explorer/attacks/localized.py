"""PGD that may touch only part of the picture: its border, its background, or a drawn region.

Localized attacks: Rothberg et al., arXiv:1909.04779, who change backgrounds only. The walk is PGD's (arXiv:1706.06083).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from explorer.attacks import ATTACKS
from explorer.attacks.gradient import Evaluation, Network
from explorer.attacks.masks import Mask, MaskedRegion
from explorer.attacks.pgd import PGD
from explorer.core import Goal, Region, Step


@ATTACKS.register(
    "localized",
    title="Localized PGD",
    paper="arXiv:1909.04779; the walk arXiv:1706.06083",
    group="iterated",
    summary="PGD that may touch only a part of the picture: its border, its background, or what you draw.",
)
@dataclass(frozen=True)
class LocalizedPGD(PGD, Mask):
    """x <- project(x + alpha * steepest(M * gradient of the loss at x)): the mask M is 1 where pixels may change.

    Outside the mask every yielded image is exactly the original. In L2 the direction is the steepest of those inside
    the mask, and eps is the length of the change there.
    differs: the background is guessed from the picture alone, see `background`.
    differs: an image whose gradient inside the mask is exactly zero or not finite takes a random step there.
    """

    formula: ClassVar[str] = r"x_{t+1} = \Pi\,\big[\,x_t + \alpha\, d\big(M \odot \nabla_x L(x_t, y)\big)\big]"
    explanation: ClassVar[str] = (
        r"PGD with a mask $M$: 1 where pixels may change, 0 where they must stay as they are. The slope of the loss is "
        r"set to 0 outside the mask before each step, so that the rest of the picture is untouched to the last bit. If "
        r"the model can be fooled through the border or the background alone, it looks at more than the object. The "
        r"*background* here is an approximation: from the picture's rim it spreads to neighbouring pixels of similar "
        r"colour, and so it may leak into an object of the background's colour, or miss parts cut off from the rim."
    )

    @property
    def aside(self) -> str:
        return self.describe()

    def ascend(self, model: nn.Module, goal: Goal, region: Region, rng: torch.Generator) -> Iterator[Step]:
        return super().ascend(model, goal, MaskedRegion(region, self.allowed(region.x0)), rng)

    def gradient(
        self, model: Network, x: Tensor, goal: Goal, region: Region, rng: torch.Generator, state: dict[str, Tensor]
    ) -> Evaluation:
        """Set to 0 outside the mask, so that what it is there matters to nobody."""
        assert isinstance(region, MaskedRegion)
        at = super().gradient(model, x, goal, region, rng, state)
        return replace(at, grad=torch.where(region.mask, at.gradient, 0))
