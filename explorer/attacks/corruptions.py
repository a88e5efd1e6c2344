"""Common corruptions as an attack: the worst of 15, up to a severity (Hendrycks & Dietterich, arXiv:1903.12261)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from explorer.attacks import ATTACKS
from explorer.attacks._fields import draws_per_query
from explorer.attacks._region import RegionAttack
from explorer.attacks.gradient import Recorder, forward
from explorer.attacks.random_search import MARGIN
from explorer.core import Corruption, Goal, Region, Step, ThreatModel, param
from explorer.core.corruptions import KINDS, SEVERITIES
from explorer.core.threat import Eps


@ATTACKS.register(
    "corruptions",
    title="Common corruptions",
    paper="arXiv:1903.12261",
    group="black-box",
    summary="Noise, blur, weather, JPEG: the worst of the 15 corruptions of CIFAR-10-C up to a severity; nobody means harm.",
)
@dataclass(frozen=True)
class Corruptions(RegionAttack):
    """Every kind at every severity from eps down to 1 (or at eps alone); the worst of them counts.

    differs: the paper averages over kinds and severities (`evaluate --corruptions` does); the worst is what an attack finds.
    """

    threats: ClassVar[tuple[str, ...]] = ("corruption",)
    loss = MARGIN
    formula: ClassVar[str] = r"\max_{k \le 15,\ s \le \varepsilon}\ L\big(C_{k,s}(x), y\big)"
    explanation: ClassVar[str] = (
        r"No adversary at all: snow, fog, a shaking hand, a low JPEG quality. Each of the 15 corruptions $C_k$ has five severities "
        r"$s$, which were fixed by eye so that people still see what is there. Try them all and keep the worst. A model that "
        r"withstands attacks on single pixels is not thereby safe from fog."
    )
    presets = {"weak": {"all_severities": False}, "standard": {}, "strong": {}}

    all_severities: bool = param(
        True, "lower severities, too", help="Whether severities below eps are tried; a lower one is rarely worse."
    )
    corruption_seed: int = param(
        0,
        "seed of the corruptions",
        lo=0,
        hi=2**31 - 1,
        strength=False,
        help="What is random about them follows from it.",
    )
    draws: int = draws_per_query()

    def threat_model(self, name: str, eps: Eps) -> ThreatModel:
        """Corruptions up to severity eps, drawn from the attack's own seed."""
        return Corruption(eps, self.corruption_seed) if name == "corruption" else super().threat_model(name, eps)

    @property
    def expected_frames(self) -> int:
        """At most: how many severities there are follows from eps."""
        return 1 + len(KINDS) * (SEVERITIES if self.all_severities else 1)

    @property
    def expected_passes(self) -> int:
        return self.expected_frames * self.draws

    def ascend(self, model: nn.Module, goal: Goal, region: Region, rng: torch.Generator) -> Iterator[Step]:
        most = region.project(torch.full_like(region.origin, SEVERITIES))[:, 1]  # (N,)
        severities = range(int(most.max()), 0, -1) if self.all_severities else [int(most.max())]
        recorder = Recorder(self, goal, region, len(KINDS) * len(severities))
        theta = region.origin
        for severity in [0, *severities]:
            for kind in range(len(KINDS) if severity else 1):
                if severity:
                    theta = torch.stack([torch.full_like(most, kind), most.clamp(max=severity)], 1)
                x = region.apply(theta)
                yield recorder.step(x, forward(model, x, goal, self.loss, self.draws, rng), theta=theta)
