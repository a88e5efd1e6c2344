"""The set an attack may choose from: all images within eps of the original, and within [0, 1]."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from explorer.core.errors import InvalidValue
from explorer.core.rng import sample_batch

Norm = Literal["linf", "l2"]
NORMS: tuple[str, ...] = get_args(Norm)
USUAL_EPS = {"linf": 8 / 255, "l2": 0.5}  # where nobody says otherwise: what most papers on CIFAR-10 test
EPS_LIMIT = {"linf": 1.0, "l2": 100.0}  # the whole pixel range; longer than any image's diagonal here
EPS_LEAST = 1e-5  # below this, float32 pixels near 1 cannot represent the perturbation


@dataclass(frozen=True)
class Ball:
    """{x : ||x - x0|| <= eps, 0 <= x <= 1}, in pixel units (eps = 8/255, not 8)."""

    norm: Norm
    eps: float

    def __post_init__(self) -> None:
        if self.norm not in NORMS:
            raise InvalidValue(f"norm must be one of {', '.join(NORMS)}; got {self.norm!r}.")
        limit = EPS_LIMIT[self.norm]
        ok = isinstance(self.eps, (int, float)) and not isinstance(self.eps, bool) and EPS_LEAST <= self.eps <= limit
        if not ok:  # also catches NaN
            hint = f" Did you mean {self.eps:g}/255?" if self._looks_like_levels(limit) else ""
            raise InvalidValue(f"eps must lie in [{EPS_LEAST:g}, {limit:g}] in pixel units; got {self.eps!r}.{hint}")

    def _looks_like_levels(self, limit: float) -> bool:
        return isinstance(self.eps, (int, float)) and limit < self.eps <= 255

    def around(self, x0: Tensor) -> Region:
        """The region around each image of x0 (N,C,H,W), prepared once for many projections."""
        return _LinfRegion(x0, self.eps) if self.norm == "linf" else _L2Region(x0, self.eps)

    def project(self, x: Tensor, x0: Tensor) -> Tensor:
        """Into the region, exactly, rounding included: to the nearest point of the ball, then clipped to [0, 1].

        In Linf that is the nearest point of the region; in L2 only nearly so where pixels are clipped, as is usual.
        """
        return self.around(x0).project(x)

    def sample(self, x0: Tensor, rng: torch.Generator) -> Tensor:
        """Uniform in the ball (L2: radius u^(1/d)), then clipped to [0, 1]."""
        return self.around(x0).sample(rng)

    def steepest(self, grad: Tensor) -> Tensor:
        """The unit-norm direction of steepest ascent: sign(g) for Linf, g/||g|| for L2. Zero stays zero."""
        if self.norm == "linf":
            return grad.sign()
        largest = grad.abs().amax((1, 2, 3), keepdim=True)
        grad = grad / torch.where(largest > 0, largest, torch.ones_like(largest))  # squares must not under- or overflow
        length = torch.linalg.vector_norm(grad, dim=(1, 2, 3), keepdim=True)
        return grad / torch.where(length > 0, length, torch.ones_like(length))

    def distance(self, x: Tensor, x0: Tensor) -> Tensor:
        """(N,) the norm of x - x0, in float64 so that it can be compared with eps (on the CPU if x is on MPS)."""
        return _length(self.norm, x, _exact(x0))


def _exact(x: Tensor) -> Tensor:
    """x in float64, on the CPU where the device has none (MPS)."""
    return x.double() if x.device.type != "mps" else x.cpu().double()


def _length(norm: Norm, x: Tensor, exact: Tensor) -> Tensor:
    """(N,) float64: the norm of x - exact, where `exact` is in float64 already, so that the difference is, too."""
    delta = ((x if x.device == exact.device else x.cpu()) - exact).flatten(1)
    return delta.abs().amax(1) if norm == "linf" else torch.linalg.vector_norm(delta, dim=1)


class Region:
    """A ball around given images, cut to [0, 1]."""

    norm: ClassVar[Norm]

    def __init__(self, x0: Tensor, eps: float):
        self.x0, self.eps, self.exact = x0, eps, _exact(x0)

    def project(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def sample(self, rng: torch.Generator) -> Tensor:
        raise NotImplementedError

    def distance(self, x: Tensor) -> Tensor:
        """(N,) float64, as `Ball.distance` to the images the region is around."""
        return _length(self.norm, x, self.exact)

    def _draw(self, draw: Callable[..., Tensor], shape: Sequence[int], rng: torch.Generator) -> Tensor:
        dtype = self.x0.dtype
        return sample_batch(lambda s: draw(s, generator=rng, device=rng.device, dtype=dtype), shape).to(self.x0.device)

    def rows(self, keep: Tensor) -> Region:
        """The region of a subset of the images (index or mask)."""
        return type(self)(self.x0[keep], self.eps)


class _LinfRegion(Region):
    norm = "linf"

    def __init__(self, x0: Tensor, eps: float):
        super().__init__(x0, eps)
        exact = self.exact
        low, high = (exact - eps).clamp(min=0).to(x0.dtype), (exact + eps).clamp(max=1).to(x0.dtype)
        # The cast may round outward by one ulp: step back inside, so that |x - x0| <= eps holds exactly.
        centre = exact.to(x0.dtype)
        self.low = torch.where(exact - low.double() > eps, torch.nextafter(low, centre), low).to(x0.device)
        self.high = torch.where(high.double() - exact > eps, torch.nextafter(high, centre), high).to(x0.device)

    def project(self, x: Tensor) -> Tensor:
        return x.clamp(self.low, self.high)

    def sample(self, rng: torch.Generator) -> Tensor:
        noise = self._draw(torch.rand, self.x0.shape, rng)
        return self.project(self.x0 + (2 * noise - 1) * self.eps)


class _L2Region(Region):
    norm = "l2"

    def __init__(self, x0: Tensor, eps: float):
        super().__init__(x0, eps)
        # Rounding x0 + delta to float32 moves each pixel by at most 2^-25, rounding delta * shrink its length by a
        # factor of at most 1 + 2^-23: keep that much away from the surface.
        self.radius = max((eps - math.sqrt(x0.shape[1:].numel()) * 2.0**-25) * (1 - 2.0**-22), 0.5 * eps)

    def project(self, x: Tensor) -> Tensor:
        delta = x - self.x0
        length = torch.linalg.vector_norm(
            _exact(delta), dim=(1, 2, 3), keepdim=True
        )  # in float32 it may be short by 1e-5
        shrink = (self.radius / length).clamp(max=1).to(delta)  # length 0 gives inf, clamped to 1
        return (self.x0 + delta * shrink).clamp(0, 1)  # clipping moves every pixel toward x0: still in the ball

    def sample(self, rng: torch.Generator) -> Tensor:
        shape = self.x0.shape
        direction = self._draw(torch.randn, shape, rng)
        direction = direction / direction.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        u = self._draw(torch.rand, shape[:1], rng)
        radius = self.radius * u ** (1 / shape[1:].numel())
        return self.project(self.x0 + direction * radius.view(-1, 1, 1, 1))
