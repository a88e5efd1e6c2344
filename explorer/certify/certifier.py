"""Certifier: one way to prove how far a picture's class cannot change, and the radius that it found (`CertifiedRadius`).

All kinds answer by one protocol, `certificates(model, x)`; each is a file of `explorer.certify.certifiers`. A deterministic
one holds always, a probabilistic one except with probability alpha over its own draws.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_FLOOR, Decimal
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from explorer.core import Classifier, Hyper, InvalidValue

Norm = Literal["l2", "linf", "patch"]  # patch: the side of a square that may hold anything, anywhere
UNITS: Mapping[str, str] = {"l2": "pixel range", "linf": "pixel range", "patch": "pixels"}


@dataclass(frozen=True)
class CertifiedRadius:
    """Within `radius` of the picture, in `norm`, the model's class is `label`."""

    label: int | None  # None: abstained
    radius: float  # in [0,1] pixels (l2, linf) or whole pixels (patch); 0: nothing is proven; inf: no change of pixels matters
    norm: Norm
    confidence: float  # probability that it holds, at least; 1: always
    passes: int  # of the picture, or of copies or parts of it, through the network; bounds count as one each
    seconds: float
    detail: Mapping[str, Any] = field(
        default_factory=dict
    )  # votes (K,), seed, ...: what the kind can show, plain values

    @property
    def abstained(self) -> bool:
        return self.label is None

    def text(self, digits: int = 3) -> str:
        """The radius rounded down: a proven radius may be understated, never overstated."""
        if not math.isfinite(self.radius):
            return "any"
        digits = 0 if self.norm == "patch" else digits
        return str(Decimal(self.radius).quantize(Decimal(1).scaleb(-digits), rounding=ROUND_FLOOR))


@dataclass(frozen=True)
class Certifier(Hyper, ABC):
    """A kind of certificate with its settings. Registered in `certifiers.CERTIFIERS`."""

    norm: ClassVar[Norm]
    deterministic: ClassVar[bool]
    caveat: ClassVar[str]  # what the proof does not cover, as a sentence

    @abstractmethod
    def reason_against(self, model: Classifier) -> str | None:
        """Why this kind says nothing about the model, as a sentence; None where it applies."""

    @abstractmethod
    def certificates(
        self, model: Classifier, x: Tensor, *, seeds: Sequence[int] | None = None
    ) -> Iterator[CertifiedRadius | None]:
        """One for each picture of x (N,C,H,W) in [0,1], in their order; None in between, where a caller may stop.

        `seeds`: one for each picture, for kinds that draw; None: fresh ones, which the answers name.
        Raises InvalidValue for a model that the kind cannot read (`reason_against`), and for pixels that are no picture.
        """

    def certificate(self, model: Classifier, x: Tensor, *, seed: int | None = None) -> CertifiedRadius:
        """Of one picture (C,H,W)."""
        seeds = None if seed is None else [seed]
        (found,) = (one for one in self.certificates(model, x[None], seeds=seeds) if one is not None)
        return found

    def check(self, model: Classifier, x: Tensor) -> None:
        """Raises InvalidValue unless the kind applies and x is a batch of pictures of the model's shape."""
        if (reason := self.reason_against(model)) is not None:
            raise InvalidValue(reason)
        shape = tuple(model.input_shape)
        if x.dim() != 4 or tuple(x.shape[1:]) != shape or not x.is_floating_point():
            raise InvalidValue(f"x must be float pictures (N, {', '.join(map(str, shape))}); got {tuple(x.shape)}.")
        if len(x) and not bool(((x >= 0) & (x <= 1)).all()):  # NaN is neither
            raise InvalidValue("pixels must be finite and lie in [0, 1].")


def parts(x: Tensor, size: int) -> tuple[Tensor, ...]:
    """The pictures, at most so many at a time; none of none."""
    return torch.split(x, size) if len(x) else ()
