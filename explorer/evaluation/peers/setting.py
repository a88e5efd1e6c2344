"""Setting of an attack that other libraries are to repeat, and the adapters that translate it, by library and attack."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from torch import Tensor, nn

from explorer.attacks.pgd import PGD
from explorer.core import Attack, Ball
from explorer.evaluation.measure import single_eps

NORM_NAMES = {"linf": "Linf", "l2": "L2", "l1": "L1"}  # as torchattacks and pyautoattack call them
NORM_ORDERS = {"linf": math.inf, "l2": 2, "l1": 1, "l0": 0}  # as ART and adv-lib do
FIRST_C = 0.1  # of C&W, one for all images: the libraries' c weighs logits, our `first_c` is relative to each image's boundary
A = TypeVar("A", bound=Attack, covariant=True)


@dataclass(frozen=True)
class Setting(Generic[A]):
    """What an adapter translates: our attack, its ball (minimal attacks look at the norm only), the number of classes."""

    attack: A
    ball: Ball
    classes: int
    seed: int

    @property
    def eps(self) -> float:
        return single_eps(self.ball)

    @property
    def order(self) -> float:
        return NORM_ORDERS[self.ball.norm]

    @property
    def name(self) -> str:
        return NORM_NAMES[self.ball.norm]

    @property
    def step(self: Setting[PGD]) -> float:
        """Of PGD's relatives, in pixel units; 0 stands for 1 / steps."""
        return (self.attack.rel_step or 1 / self.attack.steps) * self.eps


Adapter = Callable[[nn.Module, Tensor, Tensor, Setting[Any]], Tensor]  # of whichever attack it is registered for
ADAPTERS: dict[tuple[str, str, str], Adapter] = {}  # (library, our attack's key, norm)


def adapts(library: str, attack: str, *norms: str) -> Callable[[Adapter], Adapter]:
    """Registers the adapter of our `attack` (its key) to a library, in these norms."""

    def keep(adapter: Adapter) -> Adapter:
        ADAPTERS.update({(library, attack, norm): adapter for norm in norms})
        return adapter

    return keep
