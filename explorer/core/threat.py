"""Threat models: what an attack may change about an image, and by how much.

Two kinds share one protocol. In a *pixel threat model* (`Ball`: Linf, L2, L1, L0) the points of a region are images
(N,C,H,W). In a *transformation* (`RotationShift`, `Corruption`) they are parameters theta (N,P), and `apply` makes images
of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Self

import torch
from torch import Tensor

from explorer.core.errors import InvalidValue
from explorer.core.rng import sample_batch

Eps = float | Tensor  # how much may change: a number, or (N,) one for each image of the batch


class ThreatModel(ABC):
    """A set of allowed changes, as a value: a frozen dataclass with `eps`, which says how large they may be."""

    eps: Eps

    @property
    @abstractmethod
    def name(self) -> str:
        """What attacks list among their `threats`: "linf", "l2", "rotation", ..."""

    @abstractmethod
    def around(self, x0: Tensor) -> Region:
        """What is allowed for each image of x0 (N,C,H,W), prepared once for many projections."""

    def told(self, point: Sequence[float]) -> str:
        """One sentence about the parameters (P,) of a transformation; empty where points are images."""
        return ""

    def rows(self, keep: Tensor) -> Self:
        """The threat model of a subset of the images (index or mask)."""
        return replace(self, eps=self.eps[keep.to(self.eps.device)]) if isinstance(self.eps, Tensor) else self  # type: ignore[type-var]


class Region(ABC):
    """The allowed points around given images x0 (N,C,H,W). Rounding included, none that is returned lies outside."""

    def __init__(self, x0: Tensor, eps: Eps):
        if isinstance(eps, Tensor) and len(eps) != len(x0):
            raise InvalidValue(f"eps must be a number or hold one for each of {len(x0)} images; got {len(eps)}.")
        self.x0, self.eps, self.exact = x0, eps, in_float64(x0)

    @property
    def origin(self) -> Tensor:
        """The points that change nothing: the images themselves, or parameters of 0."""
        return self.x0.clone()

    @abstractmethod
    def project(self, point: Tensor) -> Tensor:
        """The nearest allowed points (L2: nearly, see `Ball`)."""

    @abstractmethod
    def sample(self, rng: torch.Generator) -> Tensor:
        """A random allowed point for each image."""

    @abstractmethod
    def distance(self, point: Tensor) -> Tensor:
        """(N,) float64 how far from changing nothing, in the unit of eps (on the CPU if the images are on MPS)."""

    @abstractmethod
    def steepest(self, grad: Tensor) -> Tensor:
        """The direction of length 1 in which a slope `grad`, shaped as the points, rises most. Zero stays zero."""

    def apply(self, point: Tensor) -> Tensor:
        """(N,C,H,W) the images at these points, differentiable."""
        return point

    def contains(self, point: Tensor) -> Tensor:
        """(N,) bool: allowed, in float64 and without tolerance. NaN is nowhere."""
        distance = self.distance(point)
        limit = self.eps.to(distance) if isinstance(self.eps, Tensor) else self.eps
        return (distance <= limit).to(point.device)

    def rows(self, keep: Tensor) -> Region:
        """The region of a subset of the images (index or mask)."""
        return type(self)(
            self.x0[keep], self.eps[keep.to(self.eps.device)] if isinstance(self.eps, Tensor) else self.eps
        )

    @property
    def size(self) -> Eps:
        """eps as a factor of points: a number, or (N,1,1,1) in the images' precision."""
        return self.eps.to(self.x0).view(-1, 1, 1, 1) if isinstance(self.eps, Tensor) else self.eps

    @property
    def _size64(self) -> Eps:
        """eps as a factor of float64 points."""
        return self.eps.to(self.exact).view(-1, 1, 1, 1) if isinstance(self.eps, Tensor) else self.eps

    @property
    def _each_eps(self) -> Tensor:
        """(N,1) float64."""
        eps = self.eps if isinstance(self.eps, Tensor) else self.exact.new_tensor(self.eps)
        return eps.to(self.exact).expand(len(self.exact))[:, None]

    def _draw(self, draw: Callable[..., Tensor], shape: Sequence[int], rng: torch.Generator) -> Tensor:
        dtype = self.x0.dtype
        return sample_batch(lambda s: draw(s, generator=rng, device=rng.device, dtype=dtype), shape).to(self.x0.device)


def in_float64(x: Tensor) -> Tensor:
    """x in float64, on the CPU where the device has none (MPS)."""
    return x.double() if x.device.type != "mps" else x.cpu().double()


def check_eps(name: str, eps: Any, least: float, limit: float, whole: bool = False) -> None:
    """Raises InvalidValue unless eps, a number or a tensor (N,), lies in [least, limit] (and is a `whole` number)."""
    values = eps.tolist() if isinstance(eps, Tensor) and eps.ndim == 1 else [eps]
    for value in values:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not is_number or not least <= value <= limit or (whole and value != int(value)):  # also catches NaN
            kind = "be a whole number of pixels in" if whole else "lie in"
            unit = " in pixel units" if name in ("linf", "l2", "l1") else ""
            levels = name in ("linf", "l2") and is_number and limit < value <= 255
            hint = f" Did you mean {value:g}/255?" if levels else ""
            raise InvalidValue(f"eps must {kind} [{least:g}, {limit:g}]{unit}; got {value!r}.{hint}")
