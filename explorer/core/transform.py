"""Transformations as threat models: rotation and shift of the whole image (Engstrom et al., arXiv:1712.02779)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from explorer.core.errors import InvalidValue
from explorer.core.threat import Eps, Region, ThreatModel, check_eps, in_float64

ANGLE, SHIFT = 180.0, 100.0  # the largest that may be asked for: degrees, pixels


@dataclass(frozen=True)
class RotationShift(ThreatModel):
    """theta = (angle, right, down), each within eps times its limit: a rotation by up to `angle` degrees around the
    middle (positive: counterclockwise), then shifts by up to `shift` pixels. What comes in from outside is black.

    `distance` is the largest of |angle| / `angle` and |right|, |down| / `shift`: 1 is all that is allowed with eps = 1.
    """

    angle: float = 30.0
    shift: float = 3.0
    eps: Eps = 1.0

    def __post_init__(self) -> None:
        for name, value, limit in (("angle", self.angle, ANGLE), ("shift", self.shift, SHIFT)):
            if not 0 <= value <= limit:  # also catches NaN
                raise InvalidValue(f"{name} must lie in [0, {limit:g}]; got {value!r}.")
        if self.angle == self.shift == 0:
            raise InvalidValue("angle or shift must be above 0, or nothing could change.")
        check_eps(self.name, self.eps, 0, 1)

    @property
    def name(self) -> str:
        return "rotation"

    def around(self, x0: Tensor) -> RotationShiftRegion:
        return RotationShiftRegion(x0, self.eps, (self.angle, self.shift, self.shift))


class RotationShiftRegion(Region):
    """Points are theta (N,3): degrees, pixels to the right, pixels down; in the images' precision."""

    def __init__(self, x0: Tensor, eps: Eps, limits: tuple[float, float, float]):
        super().__init__(x0, eps)
        self.limits = limits
        # float32 may round a limit outward: one number further in, eps * limit is not exceeded
        whole = self.exact.new_tensor(limits) * self._each_eps
        most = whole.to(x0.dtype)
        self.most = torch.where(most.double() > whole, torch.nextafter(most, most * 0), most).to(x0.device)  # (N,3)

    @property
    def origin(self) -> Tensor:
        return self.x0.new_zeros(len(self.x0), 3)

    @property
    def size(self) -> Tensor:
        """(N,3): what eps comes to in degrees and pixels."""
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
        """Each image turned and shifted, bilinear, differentiable in theta; theta = 0 gives x0 bit for bit.

        Computed in float64: rounding of the grid would else blur an image that is not to change.
        """
        theta, (height, width) = in_float64(point), self.x0.shape[2:]
        turn = theta[:, 0] * (math.pi / 180)
        cos, sin = (f(turn).view(-1, 1, 1) for f in (torch.cos, torch.sin))
        right, down = (theta[:, k].view(-1, 1, 1) for k in (1, 2))
        rows = torch.arange(height, dtype=theta.dtype, device=theta.device).view(1, -1, 1) - (height - 1) / 2 - down
        columns = torch.arange(width, dtype=theta.dtype, device=theta.device).view(1, 1, -1) - (width - 1) / 2 - right
        source = torch.stack(
            [cos * columns - sin * rows, sin * columns + cos * rows], 3
        )  # where a new pixel comes from
        grid = source / source.new_tensor([width, height]) * 2  # -1 and 1 are the image's edges
        moved = F.grid_sample(self.exact, grid, padding_mode="zeros", align_corners=False)
        return moved.to(self.x0).clamp(0, 1)
