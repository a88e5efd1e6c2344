"""What attacks share that need no more of a threat model than the region around each image."""

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from explorer.core import Attack, Goal, Region, Step, ThreatModel
from explorer.core.rng import rng_on


@dataclass(frozen=True)
class RegionAttack(Attack):
    """An attack says in `ascend` what it does within the region; its threat model is checked before."""

    def walk(
        self, model: nn.Module, x0: Tensor, goal: Goal, threat: ThreatModel, rng: torch.Generator
    ) -> Iterator[Step]:
        self.check_threat(threat)
        return self.ascend(model, goal, threat.around(x0.detach()), rng_on(x0.device, rng))

    @abstractmethod
    def ascend(self, model: nn.Module, goal: Goal, region: Region, rng: torch.Generator) -> Iterator[Step]:
        """The steps of `walk`, up the goal's loss; `region.x0` (N,C,H,W) are the images, `rng` is on their device."""
