"""A network that is 1-Lipschitz in L2 by construction: no change of the pixels is enlarged on its way to the features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from explorer.core import Classifier, InvalidValue
from explorer.models import ARCHITECTURES

TINY = 1e-12  # under a quotient
START = 0.01  # standard deviation of the noise around the identity kernel at the start, times the root of the channels


class SDPLayer(nn.Conv2d):
    """x - 2 W' T^-1 relu(W x + b), a residual layer that enlarges no difference (SLL; Araujo et al., arXiv:2303.03169, theorem 3).

    W is a convolution, W' its transpose, T diagonal with T_i = sum_j |W W'|_ij q_j / q_i, so that T - W W' is positive
    semidefinite and the layer's Jacobian is no longer than 1. The entries of W W' are those of the kernel's correlation
    with itself, the same at every place; zero padding only cuts the image, which makes W W' smaller in that order (the
    cut's projection P is at most 1, so W P W' <= W W'). T is computed in float32, whatever autocast says.
    """

    bias: Tensor
    padding: tuple[int, ...]

    def __init__(self, channels: int, kernel: int = 3):
        super().__init__(channels, channels, kernel, padding=kernel // 2)
        self.log_q = nn.Parameter(torch.zeros(channels))
        with torch.no_grad():
            self.weight.normal_(0, START / channels**0.5).add_(nn.init.dirac_(torch.empty_like(self.weight)))
            self.bias.zero_()

    def scale(self) -> Tensor:
        """(channels,) the diagonal of 2 T^-1."""
        with torch.autocast(self.weight.device.type, enabled=False):
            products = (
                F.conv2d(self.weight, self.weight, padding=self.weight.shape[-1] - 1).abs().sum((2, 3))
            )  # of all shifts
            q = self.log_q.exp()
            return 2 * q / (products @ q).clamp(min=TINY)

    def forward(self, x: Tensor) -> Tensor:
        inner = F.relu(super().forward(x)) * self.scale()[:, None, None]
        return x - F.conv_transpose2d(inner, self.weight, padding=self.padding)

    @torch.no_grad()
    def rounding(self, size: float, pixels: int, unit: float) -> tuple[float, float]:
        """How far a computed output can be from the exact one for an exact input of this length (L2), and how long it can be.

        Standard bounds: a sum of n products is off by at most n u / (1 - n u) times the sum of their sizes (Higham, Accuracy and
        Stability of Numerical Algorithms, section 3.1), u = `unit`; `pixels` are the places of the image.
        """
        sizes = self.weight.abs().double()
        rows, columns = sizes.sum((1, 2, 3)).max(), sizes.sum((0, 2, 3)).max()
        most = float((rows * columns).sqrt())  # the largest singular value of |W| is no larger
        terms = sizes[0].numel() + 2
        shift = float(self.bias.double().norm()) * pixels**0.5
        largest = float(self.scale().double().max())
        inner = most * size + shift
        wide = (2 * self.weight.shape[-1] - 1) ** 2 * len(sizes)  # what a diagonal entry adds up
        off = largest * inner * (_gamma(terms, unit) + _gamma(terms + wide + len(sizes) + 8, unit))
        beyond = float((F.relu(self.bias) * self.scale()).double().norm()) * pixels**0.5 * most  # of what zero becomes
        leaves = size + beyond
        return most * off + _gamma(terms, unit) * most * largest * inner + 2 * unit * (leaves + off), leaves


def _gamma(terms: int, unit: float) -> float:
    return terms * unit / (1 - terms * unit)


class UnitRows(nn.Linear):
    """A linear layer whose rows are divided by their length (last layer normalization; Singla et al., arXiv:2108.04062)."""

    def rows(self) -> Tensor:
        """(K,D) each of length 1, in float32 whatever autocast says."""
        with torch.autocast(self.weight.device.type, enabled=False):
            return F.normalize(self.weight, dim=1)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.rows(), self.bias)


@ARCHITECTURES.register("lipschitz-net", title="1-Lipschitz network", paper="arXiv:2303.03169")
class LipschitzNet(Classifier):
    """For each of `depths` a rearrangement of 2x2 pixels into channels and so many layers; features 1-Lipschitz in the pixels.

    `width`: channels of the first stage, four times as many in each next one; the image's own are filled up with zeros.
    `kernels`: of each stage's layers, odd; 1 mixes the channels of one place, which are pixels of 2x2 places of the stage before.
    At the end 2x2 pixels are averaged, times 2. Each of these is orthogonal, or part of something orthogonal, and the
    division by `std` is undone, so the length of a change of the pixels (in [0,1]) is an upper bound for that of the
    features'; the lead z_i - z_k changes by at most its product with `slopes()[i, k]`.
    Raises InvalidValue unless the width holds 4 times the image's channels, at most 3 depths are given, none below 0, and
    each has an odd kernel.
    """

    head: UnitRows

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        input_shape: Sequence[int] = (3, 32, 32),
        num_classes: int = 10,
        width: int = 32,
        depths: Sequence[int] = (5, 4),
        kernels: Sequence[int] = (3, 3, 3),
    ):
        super().__init__(mean, std, input_shape, num_classes)
        channels, height, across = input_shape
        if width < 4 * channels:
            raise InvalidValue(f"width must be at least 4 times the image's {channels} channels; got {width}.")
        if not 1 <= len(depths) <= 3 or min(depths) < 0:
            raise InvalidValue(f"depths must be the layers of 1 to 3 stages, each at least 0; got {list(depths)}.")
        if len(kernels) < len(depths) or any(kernel < 1 or kernel % 2 == 0 for kernel in kernels):
            raise InvalidValue(f"kernels must be odd, one for each of {len(depths)} stages; got {list(kernels)}.")
        self.filled = width - 4 * channels  # channels of zeros
        self.stages = nn.ModuleList(
            nn.Sequential(*(SDPLayer(width * 4**stage, kernels[stage]) for _ in range(depth)))
            for stage, depth in enumerate(depths)
        )
        shrink = 2 ** (len(depths) + 1)
        self.head = UnitRows(width * 4 ** (len(depths) - 1) * (height // shrink) * (across // shrink), num_classes)

    def embed(self, normalised: Tensor) -> Tensor:
        x = normalised * self.std  # pixels minus mean
        for place, stage in enumerate(self.stages):
            height, across = (size // 2 * 2 for size in x.shape[-2:])
            x = F.pixel_unshuffle(x[..., :height, :across], 2)  # (N, 4C, H/2, W/2)
            x = x if place else F.pad(x, (0, 0, 0, 0, 0, self.filled))
            x = stage(x.contiguous(memory_format=self.layout))
        return (2 * F.avg_pool2d(x, 2)).flatten(1)  # (N, D)

    @torch.no_grad()
    def rounding(self) -> float:
        """How far a computed lead z_i - z_k can be from that of exact arithmetic, at most, for any picture in [0,1].

        No layer enlarges what the ones before it have added, so the layers' own errors add up.
        """
        unit = torch.finfo(self.head.weight.dtype).eps / 2
        channels, height, across = self.input_shape
        size = (channels * height * across) ** 0.5  # |pixel - mean| is at most 1
        error = 8 * unit * size  # normalised, and back
        for stage in self.stages:
            height, across = height // 2, across // 2
            for layer in cast("Sequence[SDPLayer]", stage):
                off, size = layer.rounding(size, height * across, unit)
                error += off
        features = self.head.in_features
        error += (
            8 * unit * size + 3 * _gamma(features + 8, unit) * size + error * 1e-3
        )  # pooling; rows and products; higher orders
        bias = float(self.head.bias.abs().max()) if self.head.bias is not None else 0.0
        return 2 * (error + 4 * unit * (size + bias))

    def slopes(self) -> Tensor:
        """(K,K) float64: the most by which z_i - z_k changes for a change of the pixels of length 1, |w_i - w_k|."""
        rows = self.head.rows().double()
        return (rows[:, None] - rows).norm(dim=2) * (1 + 1e-10)  # what rounding can take off a length in float64
