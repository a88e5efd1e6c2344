"""Networks that hide their gradients, one way each: every one has the weights of an honest LeNet, and is no more robust."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from explorer.core import Classifier, current_rng, sample_like
from explorer.models import zoo

HONEST = (
    "cifar10/lenet",
    "cifar10/lenet-at",
    "cifar10/lenet-cw",
    "fashion_mnist/fashion-mlp",
    "fashion_mnist/deep-defense",
    "fashion_mnist/ibp",
)


class Masker(Classifier):
    """The network `inner`, seen through something that harms its gradients."""

    def __init__(self, inner: Classifier):
        super().__init__([0.0], [1.0], inner.input_shape, inner.num_classes)
        self.inner, self.head = inner, nn.Identity()
        self.freeze()

    def features(self, pixels: Tensor) -> Tensor:
        return self.inner(pixels)


class Rounding(Masker):
    def features(self, pixels: Tensor) -> Tensor:
        return self.inner((pixels * 16).round() / 16)


class Scaled(Masker):
    def features(self, pixels: Tensor) -> Tensor:
        return 1e4 * self.inner(pixels)


class Noise(Masker):
    stochastic = True

    def features(self, pixels: Tensor) -> Tensor:
        noise = sample_like(pixels, lambda room: room.normal_(generator=current_rng(pixels.device)))
        return self.inner(pixels + 0.05 * noise)


class _ClippedSlope(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad.clamp(-1e-4, 1e-4)


class Clipped(Masker):
    def features(self, pixels: Tensor) -> Tensor:
        return self.inner(_ClippedSlope.apply(pixels))


class Softmax(Masker):
    def features(self, pixels: Tensor) -> Tensor:
        return torch.softmax(self.inner(pixels), 1)


class Median(Masker):
    """3x3, the middle of nine pixels."""

    def features(self, pixels: Tensor) -> Tensor:
        n, c, h, w = pixels.shape
        windows = F.unfold(F.pad(pixels, (1, 1, 1, 1), mode="reflect"), 3).view(n, c, 9, h * w)
        return self.inner(windows.median(2).values.view(n, c, h, w))


class Resized(Masker):
    """To a random size, and back (Xie et al., arXiv:1711.01991)."""

    stochastic = True

    def features(self, pixels: Tensor) -> Tensor:
        size = int(torch.randint(24, 32, (1,), generator=current_rng(pixels.device)))
        small = F.interpolate(pixels, size=size, mode="bilinear", align_corners=False)
        return self.inner(F.interpolate(small, size=pixels.shape[-1], mode="bilinear", align_corners=False))


class FixedTemperature(Masker):
    """Local winner-takes-all over pairs of logit copies, a relaxed draw at the fixed temperature 0.01 (Panousis et al.,
    arXiv:2112.02671, as the authors evaluate it): its softmax saturates, and each pass draws anew.
    """

    stochastic = True

    def features(self, pixels: Tensor) -> Tensor:
        hidden = torch.stack([self.inner(pixels), self.inner(pixels + 0.02)], 2)  # (N,K,2)
        gumbel = sample_like(hidden, lambda room: room.exponential_(generator=current_rng(pixels.device)).log_().neg_())
        return (hidden * torch.softmax((hidden + gumbel) / 0.01, 2)).sum(2)


MASKERS = (Rounding, Scaled, Noise, FixedTemperature, Clipped, Softmax, Median, Resized)


def planted(kind: type[Masker]) -> Masker:
    return kind(zoo.load(HONEST[0]))
