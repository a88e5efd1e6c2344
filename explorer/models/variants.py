"""A stochastic network as an attack may see it: its draw fixed, with soft or expected winners, or without its noise."""

from __future__ import annotations

import copy
from typing import Any, Literal

from torch import Tensor, nn

from explorer.core import Classifier, InvalidValue, seeded, use_generator
from explorer.models._lwta import WinnerTakesAll
from explorer.models.noise import InputNoise


class FixedDraw(nn.Module):
    """The deterministic network that a stochastic one is under one draw: the same for every image and every pass."""

    stochastic = False

    def __init__(self, model: Classifier, seed: int):
        super().__init__()
        self.model, self.seed = model, seed
        self.training = model.training

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("model"), name)

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels (N,C,H,W) in [0,1] to logits (N,K)."""
        with use_generator(seeded(self.seed, pixels.device), shared=True):
            return self.model(pixels)


def with_winners(model: Classifier, winners: Literal["drawn", "relaxed", "expected"]) -> Classifier:
    """A copy of an LWTA network whose evaluation has drawn, relaxed or expected winners (see `WinnerTakesAll`).

    With expected winners it is deterministic. Raises InvalidValue for another word, or a network without such units.
    """
    if winners not in ("drawn", "relaxed", "expected"):
        raise InvalidValue(f"winners must be drawn, relaxed or expected; got {winners!r}.")
    other = copy.deepcopy(model)
    layers = lwta_layers(other)
    if not layers:
        raise InvalidValue("the model must have winner-takes-all units; this one has none.")
    for layer in layers:
        layer.winners = winners
    other.stochastic = winners != "expected"
    return other


def has_winners(model: Classifier) -> bool:
    """Whether the network has winner-takes-all units."""
    return bool(lwta_layers(model))


def lwta_layers(model: Classifier) -> list[WinnerTakesAll]:
    """Its layers of competing units, in the order in which they were made."""
    return [module for module in model.modules() if isinstance(module, WinnerTakesAll)]


def without_noise(model: Classifier) -> Classifier:
    """A deterministic copy of a network that adds noise to its input, which does so no more.

    Raises InvalidValue for one that adds none, or is random in another way, too.
    """
    other = copy.deepcopy(model)
    layers = [module for module in other.modules() if isinstance(module, InputNoise) and module.sigma]
    if not layers or has_winners(model):
        raise InvalidValue("the model must add noise to its input and be random in no other way; this one does not.")
    for layer in layers:
        layer.sigma = 0.0
    other.stochastic = False
    return other


def in_float64(model: Classifier) -> Classifier:
    """A frozen copy of a network that computes in float64 with the very same weights."""
    return copy.deepcopy(model).double().eval().requires_grad_(False)
