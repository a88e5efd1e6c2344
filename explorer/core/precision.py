"""Precision of an attack's passes: gradients in bfloat16 where that is faster and climbs as well; verdicts never are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from explorer.core.classifier import Classifier
from explorer.core.device import computes_bfloat16
from explorer.core.errors import InvalidValue

if TYPE_CHECKING:
    from explorer.core.attack import Attack

PRECISIONS = ("auto", "float32", "bfloat16")
ENOUGH = 16  # images from which on "auto" takes bfloat16


def climbing_precision(asked: str, attack: Attack, n: int, model: Classifier) -> str:
    """In what n images are attacked on this model, "float32" or "bfloat16"; `asked` is one of PRECISIONS.

    "auto": bfloat16 from ENOUGH images on, for an attack that climbs as well in it (`Attack.bfloat16`), where the model's
    device multiplies in bfloat16 by itself. Raises InvalidValue for another word, and for bfloat16 where it cannot be.
    """
    if asked not in PRECISIONS:
        raise InvalidValue(f"precision must be one of {', '.join(PRECISIONS)}; got {asked!r}.")
    if asked == "bfloat16" and not model.rounds:
        raise InvalidValue("precision must be float32 or auto for a confined model, which computes in float32 alone.")
    if asked != "auto":
        return asked
    wanted = attack.bfloat16 and n >= ENOUGH and model.rounds
    return "bfloat16" if wanted and computes_bfloat16(model.device) else "float32"


def rounded(model: Classifier, precision: str) -> Classifier:
    """The model as an attack is to see it: itself, or with its passes, forward and backward, under bfloat16 autocast.

    What the attack itself computes stays in float32, logits and input gradients are given in it.
    """
    return Bfloat16(model) if precision == "bfloat16" else model


class Bfloat16(Classifier):
    """A Classifier whose passes run under bfloat16 autocast. It is wrapped, not copied."""

    def __init__(self, net: Classifier) -> None:
        super().__init__(net.mean.flatten().tolist(), net.std.flatten().tolist(), net.input_shape, net.num_classes)
        self.to(net.device)
        self.net, self.head, self.stochastic = net, net.head, net.stochastic
        self.training = net.training  # not by eval(), which would change the network's own modules

    def features(self, pixels: Tensor) -> Tensor:
        """(N,D) float32."""
        return self.both(pixels)[1]

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels (N,C,H,W) -> logits (N,K) float32."""
        with self._autocast():
            logits: Tensor = self.net(self._laid(pixels))
        return logits.float()

    def both(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N,K) and features (N,D), float32, of one and the same pass."""
        with self._autocast():
            logits, features = self.net.both(self._laid(pixels))
        return logits.float(), features.float()

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.net.device.type, dtype=torch.bfloat16)

    def _laid(self, pixels: Tensor) -> Tensor:
        """Channels last, which the convolutions in bfloat16 want; they hand it on."""
        return pixels.contiguous(memory_format=torch.channels_last)
