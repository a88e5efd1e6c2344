"""Transformations as threat models: rotation, shift and scale (Engstrom et al., arXiv:1712.02779), common corruptions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from explorer.core.ball import THREAT_EPS, THREAT_LIMIT, least_eps
from explorer.core.corruptions import KINDS, corrupted
from explorer.core.errors import InvalidValue
from explorer.core.threat import Eps, Region, ThreatModel, check_eps, in_float64

ANGLE, SHIFT, SCALE = 180.0, 100.0, 0.9  # the largest that may be asked for: degrees, pixels, share of the size


@dataclass(frozen=True)
class RotationShift(ThreatModel):
    """theta = (angle, right, down), each within eps times its limit: a rotation by up to `angle` degrees around the
    middle (positive: counterclockwise), then shifts by up to `shift` pixels. What comes in from outside is black. With a
    `scale` above 0 there is a fourth parameter, larger: before all that the image becomes 1 + larger times its size.

    `distance` is the largest of |angle| / `angle`, |right|, |down| / `shift` and |larger| / `scale`: 1 is all that is allowed
    with eps = 1.

    Examples:
        >>> import torch
        >>> from explorer.core import RotationShift
        >>> x0 = torch.eye(3).view(1, 1, 3, 3)
        >>> region = RotationShift(angle=90, shift=1).around(x0)
        >>> region.apply(torch.tensor([[0.0, 1.0, 0.0]])).round().abs()  # one pixel to the right
        tensor([[[[0., 1., 0.],
                  [0., 0., 1.],
                  [0., 0., 0.]]]])
        >>> region.distance(torch.tensor([[45.0, 1.0, 0.0]]))
        tensor([1.], dtype=torch.float64)
    """

    angle: float = 30.0
    shift: float = 3.0
    eps: Eps = 1.0
    scale: float = 0.0

    def __post_init__(self) -> None:
        for name, value, limit in (
            ("angle", self.angle, ANGLE),
            ("shift", self.shift, SHIFT),
            ("scale", self.scale, SCALE),
        ):
            if not 0 <= value <= limit:  # also catches NaN
                raise InvalidValue(f"{name} must lie in [0, {limit:g}]; got {value!r}.")
        if self.angle == self.shift == self.scale == 0:
            raise InvalidValue("angle or shift must be above 0, or scale, or nothing could change.")
        check_eps(self.name, self.eps, 0, 1)

    @property
    def name(self) -> str:
        return "rotation"

    def around(self, x0: Tensor) -> RotationShiftRegion:
        limits = (self.angle, self.shift, self.shift, self.scale)
        return RotationShiftRegion(x0, self.eps, limits if self.scale else limits[:3])

    def __str__(self) -> str:
        """ "up to 30° and 3 pixels"."""
        share = self.eps if isinstance(self.eps, float | int) else 1
        parts = [f"{share * self.angle:.3g}°" * (self.angle > 0), f"{share * self.shift:.3g} pixels" * (self.shift > 0)]
        return "up to " + " and ".join(filter(None, [*parts, f"{share * self.scale:.3g} in size" * (self.scale > 0)]))

    def told(self, point: Sequence[float]) -> str:
        angle, right, down, larger = (*point, 0.0)[:4]
        parts = [
            f"turned by {abs(angle):.1f}° {'to the left' if angle > 0 else 'to the right'}" if angle else "not turned",
            f"moved by {abs(right):.1f} pixels to the {'right' if right > 0 else 'left'}" if right else "",
            f"{'moved by ' * (not right)}{abs(down):.1f} pixels {'down' if down > 0 else 'up'}" if down else "",
            f"{abs(larger):.1%} {'larger' if larger > 0 else 'smaller'}" if larger else "",
        ]
        return f"The picture is {', '.join(filter(None, parts))}."


class RotationShiftRegion(Region):
    """Points are theta (N,P): degrees, pixels to the right, pixels down, and what is larger if P = 4; in the images' precision."""

    def __init__(self, x0: Tensor, eps: Eps, limits: Sequence[float]):
        super().__init__(x0, eps)
        self.limits = limits
        # float32 may round a limit outward: one number further in, eps * limit is not exceeded
        whole = self.exact.new_tensor(limits) * self._each_eps
        most = whole.to(x0.dtype)
        self.most = torch.where(most.double() > whole, torch.nextafter(most, most * 0), most).to(x0.device)  # (N,P)

    @property
    def origin(self) -> Tensor:
        return torch.zeros_like(self.most)

    @property
    def size(self) -> Tensor:
        """(N,P): what eps comes to in degrees, pixels and share of the size."""
        return self.most

    def project(self, point: Tensor) -> Tensor:
        return point.clamp(-self.most, self.most)

    def sample(self, rng: torch.Generator) -> Tensor:
        return self.project((2 * self._draw(torch.rand, self.most.shape, rng) - 1) * self.most)

    def distance(self, point: Tensor) -> Tensor:
        theta = in_float64(point).abs()
        parts = theta / theta.new_tensor(self.limits)  # a limit of 0 gives inf, or NaN where nothing is asked of it
        return torch.where(theta == 0, 0.0, parts).amax(1)

    def contains(self, point: Tensor) -> Tensor:
        return (point.abs() <= self.most).all(1)

    def steepest(self, grad: Tensor) -> Tensor:
        return grad.sign()

    def rows(self, keep: Tensor) -> RotationShiftRegion:
        eps = self.eps[keep.to(self.eps.device)] if isinstance(self.eps, Tensor) else self.eps
        return RotationShiftRegion(self.x0[keep], eps, self.limits)

    def apply(self, point: Tensor) -> Tensor:
        """Each image scaled, turned and shifted, bilinear, differentiable in theta; theta = 0 gives x0 bit for bit.

        Computed in float64: rounding of the grid would else blur an image that is not to change.
        """
        theta, (height, width) = in_float64(point), self.x0.shape[2:]
        turn = theta[:, 0] * (math.pi / 180)
        cos, sin = (f(turn).view(-1, 1, 1) for f in (torch.cos, torch.sin))
        right, down = (theta[:, k].view(-1, 1, 1) for k in (1, 2))
        rows = torch.arange(height, dtype=theta.dtype, device=theta.device).view(1, -1, 1) - (height - 1) / 2 - down
        columns = torch.arange(width, dtype=theta.dtype, device=theta.device).view(1, 1, -1) - (width - 1) / 2 - right
        # where a new pixel comes from
        source = torch.stack([cos * columns - sin * rows, sin * columns + cos * rows], 3)
        if theta.shape[1] == 4:
            source = source / (1 + theta[:, 3]).view(-1, 1, 1, 1)
        grid = source / source.new_tensor([width, height]) * 2  # -1 and 1 are the image's edges
        moved = F.grid_sample(self.exact, grid, padding_mode="zeros", align_corners=False)
        return moved.to(self.x0).clamp(0, 1)


@dataclass(frozen=True)
class Corruption(ThreatModel):
    """theta = (kind, severity): one of the 15 common corruptions of `KINDS`, up to severity `eps` of 5; 0 changes nothing.

    What is random about a corruption follows from the `seed` and the picture alone, whatever else is in its batch, and
    is the same at all severities. `distance` is the severity.

    Examples:
        >>> import torch
        >>> from explorer.core import Corruption
        >>> region = Corruption(3).around(torch.full((1, 3, 32, 32), 0.5))
        >>> region.apply(torch.tensor([[10.0, 2.0]])).unique()  # brightness at severity 2: 0.1 more
        tensor([0.6000])
    """

    eps: Eps = THREAT_EPS["corruption"]
    seed: int = 0

    def __post_init__(self) -> None:
        check_eps(self.name, self.eps, least_eps(self.name), THREAT_LIMIT[self.name], whole=True)

    @property
    def name(self) -> str:
        return "corruption"

    def around(self, x0: Tensor) -> CorruptionRegion:
        return CorruptionRegion(x0, self.eps, self.seed)

    def told(self, point: Sequence[float]) -> str:
        kind, severity = (int(value) for value in point)
        return f"The picture has {KINDS[kind]}, severity {severity}." if severity else "The picture is as it was."


class CorruptionRegion(Region):
    """Points are theta (N,2), whole numbers in the images' precision: which of `KINDS`, and the severity."""

    def __init__(self, x0: Tensor, eps: Eps, seed: int):
        super().__init__(x0, eps)
        self.seed, self.most = seed, self._each_eps[:, 0].to(x0)  # (N,)

    @property
    def origin(self) -> Tensor:
        return self.x0.new_zeros(len(self.x0), 2)

    @property
    def size(self) -> Tensor:
        """(N,): the largest severity."""
        return self.most

    def project(self, point: Tensor) -> Tensor:
        kind, severity = point.round().T
        return torch.stack([kind.clamp(0, len(KINDS) - 1), torch.minimum(severity.clamp(min=0), self.most)], 1)

    def sample(self, rng: torch.Generator) -> Tensor:
        kind, severity = self._draw(torch.rand, (len(self.x0), 2), rng).T
        return torch.stack([(kind * len(KINDS)).floor(), 1 + (severity * self.most).floor()], 1)

    def distance(self, point: Tensor) -> Tensor:
        return in_float64(point[:, 1])

    def contains(self, point: Tensor) -> Tensor:
        return (point == self.project(point)).all(1)

    def steepest(self, grad: Tensor) -> Tensor:
        """Zero: a choice among kinds has no slope."""
        return torch.zeros_like(grad)

    def rows(self, keep: Tensor) -> CorruptionRegion:
        eps = self.eps[keep.to(self.eps.device)] if isinstance(self.eps, Tensor) else self.eps
        return CorruptionRegion(self.x0[keep], eps, self.seed)

    def apply(self, point: Tensor) -> Tensor:
        """Each image corrupted, on the CPU; not differentiable."""
        images = [
            self._one(pixels, int(kind), int(severity))
            for pixels, (kind, severity) in zip(self.x0.cpu(), point.tolist(), strict=True)
        ]
        return torch.stack(images).to(self.x0)

    def _one(self, pixels: Tensor, kind: int, severity: int) -> Tensor:
        exact = pixels.double().permute(1, 2, 0).contiguous().numpy()
        of_picture = int.from_bytes(sha256(exact.tobytes()).digest()[:7], "big")
        rng = np.random.default_rng([self.seed, kind, of_picture])
        return torch.from_numpy(corrupted(exact, kind, severity, rng).copy()).permute(2, 0, 1)
