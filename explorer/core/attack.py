"""The base class of adversarial attacks: what each must say about itself, and what holds unless it says otherwise."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from explorer.core.ball import NORMS, Ball, Norm, as_norm
from explorer.core.errors import InvalidValue
from explorer.core.goal import Goal, LossName
from explorer.core.params import Hyper
from explorer.core.steps import Step
from explorer.core.threat import Eps, ThreatModel

DEFAULT_LOSS: LossName = "ce"


@dataclass(frozen=True)
class Attack(Hyper, ABC):
    """A frozen dataclass whose fields, made by `param`, are the attack's hyper-parameters; `walk` runs it.

    Attributes below without a type may become fields in a subclass (`restarts: int = param(1, ...)`).
    """

    budget: ClassVar[Literal["fixed", "minimal"]] = "fixed"  # minimal: given no eps, it looks for the smallest change
    threats: ClassVar[tuple[str, ...]] = ("linf", "l2")  # names of the threat models it is defined under
    bfloat16: ClassVar[bool] = False  # climbs as well on gradients in bfloat16: `bench precision` shows it
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2")  # those of `threats` that are norms; follows from it
    formula: ClassVar[str] = ""  # TeX, one line
    explanation: ClassVar[str] = ""  # Markdown, for students

    steps = 1  # updates in one run
    restarts = 1  # independent runs
    draws = 1  # passes of a stochastic model that are averaged
    loss = DEFAULT_LOSS  # what its steps report, one of LOSSES

    def __init_subclass__(cls, **defaults: Any) -> None:
        if "norms" in vars(cls):
            raise TypeError(f"{cls.__name__} must say `threats`; `norms` follows from it.")
        super().__init_subclass__(**defaults)
        cls.norms = tuple(as_norm(name) for name in cls.threats if name in NORMS)

    @abstractmethod
    def walk(
        self, model: nn.Module, x0: Tensor, goal: Goal, threat: ThreatModel, rng: torch.Generator
    ) -> Iterator[Step]:
        """Attack x0 (N,C,H,W): a step after every update, the first before any.

        The model is in eval mode, and left as it is. Every draw comes from `rng`. A minimal attack may go as far as
        `threat` allows. Raises InvalidValue for a threat model that the attack is not defined under (`check_threat`).
        """

    def threat_model(self, name: str, eps: Eps) -> ThreatModel:
        """What a request allows that names one of `threats` and its size: the ball of a norm. Raises InvalidValue.

        An attack under a transformation overrides it: it has the limits that eps is a share of among its fields.
        """
        threat = Ball(as_norm(name), eps)
        self.check_threat(threat)
        return threat

    def check_threat(self, threat: ThreatModel) -> None:
        """Raises InvalidValue if the attack is not defined under this threat model."""
        if threat.name not in self.threats:
            kind = "norm" if isinstance(threat, Ball) else "threat model"
            raise InvalidValue(
                f"{kind} must be {' or '.join(self.threats)} for {type(self).__name__}; got {threat.name!r}."
            )

    @property
    def expected_frames(self) -> int:
        """How many steps a walk may have: each start and each update."""
        return self.restarts * (self.steps + 1)

    @property
    def expected_passes(self) -> int:
        """Forward and backward passes an image may take, draws counted one by one: both for an update, and a last look."""
        return self.restarts * (2 * self.steps + 1) * self.draws

    @property
    def aside(self) -> str:
        """What a title adds."""
        return ""

    @property
    def partners(self) -> tuple[str, ...]:
        """Names of other models that are attacked together with the one asked about."""
        return ()
