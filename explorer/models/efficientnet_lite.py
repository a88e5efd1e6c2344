"""EfficientNet-Lite0 (Tan and Le, arXiv:1905.11946; Google's Lite variant): inverted residuals for pictures of 224 x 224."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from explorer.core import Classifier, InvalidValue
from explorer.models import ARCHITECTURES


class Stage(NamedTuple):
    """A row of the paper's table 1, of width and depth 1."""

    blocks: int
    kernel: int
    stride: int  # of the first block; the others have 1
    expansion: int  # channels inside a block, as a multiple of its input's
    channels: int


STAGES = (
    Stage(1, 3, 1, 1, 16), Stage(2, 3, 2, 6, 24), Stage(2, 5, 2, 6, 40), Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112), Stage(4, 5, 2, 6, 192), Stage(1, 3, 1, 6, 320),
)  # fmt: skip
HALVINGS = 1 + sum(stage.stride == 2 for stage in STAGES)  # the stem's, and those of the stages
STEM, FEATURES = 32, 1280  # channels of the first and the last convolution
BN_EPS, BN_MOMENTUM = 1e-3, 0.01  # as TensorFlow trained it


@ARCHITECTURES.register("efficientnet-lite0", title="EfficientNet-Lite0", paper="arXiv:1905.11946")
class EfficientNetLite0(Classifier):
    """Table 1 of the paper without squeeze-and-excitation and with ReLU6 for swish, which is what "Lite" means.

    4,652,008 weights for 1,000 classes. Padding is TensorFlow's "same": what is odd goes to the right and the bottom.
    `unstrided`: so many of the five halvings are left out, the first ones first, for small pictures (2 for 32 x 32, which end
    as 4 x 4); the weights fit all the same.
    differs: no drop-connect and no dropout before the last layer, which matter in training alone.
    Raises InvalidValue for unstrided outside [0, 5].
    """

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        input_shape: Sequence[int] = (3, 224, 224),
        num_classes: int = 1000,
        unstrided: int = 0,
    ):
        super().__init__(mean, std, input_shape, num_classes)
        if not 0 <= unstrided <= HALVINGS:
            raise InvalidValue(f"unstrided must be between 0 and {HALVINGS}; got {unstrided!r}.")
        self.stem = _unit(input_shape[0], STEM, 3, 1 if unstrided else 2)
        left = unstrided - 1  # halvings still to leave out
        blocks: list[nn.Module] = []
        inputs = STEM
        for stage in STAGES:
            stride = 1 if left > 0 else stage.stride
            left -= stage.stride - 1
            for k in range(stage.blocks):
                blocks.append(InvertedResidual(inputs, stage, stride if k == 0 else 1))
                inputs = stage.channels
        self.blocks = nn.Sequential(*blocks)
        self.top = _unit(inputs, FEATURES, 1)
        self.head = nn.Linear(FEATURES, num_classes)

    def embed(self, normalised: Tensor) -> Tensor:
        """(N,1280): the last convolution's channels, averaged over all places."""
        return self.top(self.blocks(self.stem(normalised))).mean(dim=(2, 3))


class InvertedResidual(nn.Module):
    """Widen (1x1), filter each channel (depthwise), narrow (1x1, no activation); a shortcut where the shape stays.

    arXiv:1801.04381, figure 3b.
    """

    def __init__(self, inputs: int, stage: Stage, stride: int):
        super().__init__()
        inside = inputs * stage.expansion
        self.expand = _unit(inputs, inside, 1) if stage.expansion > 1 else nn.Identity()
        self.depthwise = _unit(inside, inside, stage.kernel, stride, groups=inside)
        self.project = _unit(inside, stage.channels, 1, active=False)
        self.shortcut = stride == 1 and inputs == stage.channels

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.project(self.depthwise(self.expand(x)))
        return out + x if self.shortcut else out


class SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's "same" padding: the output has ceil(size / stride) places."""

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        high, wide = (max((-(-size // stride) - 1) * stride + kernel - size, 0) for size in x.shape[2:])
        if high % 2 or wide % 2:
            x = F.pad(x, (wide // 2, wide - wide // 2, high // 2, high - high // 2))
            return self._conv_forward(x, self.weight, self.bias)
        return F.conv2d(x, self.weight, self.bias, self.stride, (high // 2, wide // 2), self.dilation, self.groups)


def _unit(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, active: bool = True
) -> nn.Sequential:
    convolution = SameConv2d(inputs, outputs, kernel, stride, groups=groups, bias=False)
    norm = nn.BatchNorm2d(outputs, eps=BN_EPS, momentum=BN_MOMENTUM)
    return nn.Sequential(convolution, norm, nn.ReLU6(inplace=True)) if active else nn.Sequential(convolution, norm)
