"""Convolutions whose own norm is bounded: that of the linear map from images to images, not of the kernel as a matrix."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv2d_input

from explorer.core import seeded

QUICK, THOROUGH = (
    10,
    50,
)  # power iterations: after every change of weights that are trained; once for those that are not
TINY = 1e-12


class SpectralConv2d(nn.Conv2d):
    """A convolution with kernel W / max(1, norm / bound); norm is the largest ||W * x|| / ||x|| over images of its input's size.

    Power iteration on the convolution and its transpose at the input's size, stride and padding (Farnia et al.,
    arXiv:1811.07457; Gouk et al., arXiv:1804.04368) finds the norm; gradients pass through it. It begins anew at the
    same image whenever the weights have changed, so the map depends on the weights alone: they are all that is stored,
    under the names that a plain convolution gives them, and equal weights give equal answers.
    Weights that are trained get few iterations, which find slightly too small a norm; frozen ones get many.
    """

    def __init__(self, *args, bound: float, **kwargs):
        super().__init__(*args, **kwargs)
        self.bound = bound
        self._found: tuple | None = None  # for which weights and size, and the two images and the norm found for them

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.kernel(x.shape[-2:]), self.bias)

    def kernel(self, size: Sequence[int]) -> Tensor:
        """The bounded kernel, for inputs of this height and width."""
        return self.weight / (self.norm(size) / self.bound).clamp(min=1)

    def norm(self, size: Sequence[int]) -> Tensor:
        """Of the convolution with the kernel as it is stored, for inputs of this height and width; a scalar."""
        before, after, norm = self._extremes(size)
        if not (self.weight.requires_grad and torch.is_grad_enabled()):
            return norm
        with torch.autocast(before.device.type, enabled=False):
            return (after * self._moved(before)).sum()  # its derivative by the kernel is that of the norm

    def _moved(self, image: Tensor) -> Tensor:
        return F.conv2d(image, self.weight, None, self.stride, self.padding, self.dilation, self.groups)

    def _extremes(self, size: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """The image of length 1 that is enlarged most, what it becomes, at length 1, and by how much it grew."""
        weight, rounds = self.weight, THOROUGH if not self.weight.requires_grad else QUICK
        made_for = (weight._version, weight.device, tuple(size), rounds)
        found = self._found  # one read: another thread may replace it
        if found is not None and found[0] is weight and found[1] == made_for:
            return found[2]
        with torch.inference_mode(False), torch.no_grad(), torch.autocast(weight.device.type, enabled=False):
            image = torch.randn((1, self.in_channels, *size), generator=seeded(0)).to(weight)
            for _ in range(rounds):
                after = _unit(self._moved(_unit(image)))
                image = conv2d_input(image.shape, weight, after, self.stride, self.padding, self.dilation, self.groups)
            image = _unit(image)
            moved = self._moved(image)
            extremes = image, _unit(moved), _length(moved)
        self._found = (weight, made_for, extremes)
        return extremes


def _length(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x).clamp(min=TINY)


def _unit(x: Tensor) -> Tensor:
    return x / _length(x)


def convolution_of(bound: float) -> Callable[..., nn.Conv2d]:
    """Makes the convolutions of a network: plain ones for `bound` 0, else of a norm at most this."""
    return partial(SpectralConv2d, bound=bound) if bound else nn.Conv2d
