"""The base of column smoothing: a residual network that looks at a few neighbouring columns of a picture at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from explorer.core import Classifier, InvalidValue
from explorer.models import ARCHITECTURES
from explorer.models._preact import PreActBlock

CHUNK = 2048  # looks in one pass of the base, for memory's sake


class MeanOfLooks(nn.Module):
    """The logits (N,W*K) of W looks -> the logarithm (N,K) of their mean probabilities."""

    def __init__(self, num_classes: int):
        super().__init__()
        self.num_classes = num_classes

    def forward(self, looks: Tensor) -> Tensor:
        each = looks.float().unflatten(1, (-1, self.num_classes)).log_softmax(-1)  # (N, W, K)
        return each.logsumexp(1) - math.log(each.shape[1])


class _Convolution(nn.Conv2d):
    """Halves a width of 1 or 2 by leaving out every second column: the same outputs. With a stride of 2 there torch 2.14.1
    leaves outputs (on processors with AMX) and gradients (on all that compute in bfloat16) partly unwritten in bfloat16.
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[3] > 2 or self.stride[1] == 1:
            return super().forward(x)
        return F.conv2d(x, self.weight, None, (self.stride[0], 1), self.padding)[..., ::2]


@ARCHITECTURES.register("column-resnet", title="Column ResNet", paper="arXiv:2002.10733")
class ColumnResNet(Classifier):
    """A base network sees `columns` neighbouring columns, from each of the W positions once (the last ones wrap around).

    As a classifier it answers with the mean of the W looks' probabilities, so a patch that touches few looks moves it
    little; `looks` gives each look's logits, which a certificate counts. Its features are those logits, (N,W*K).
    `width`: channels of the base's first stage, doubled at each of three reductions.
    differs: the base is given the kept columns alone, not the whole image with the others blanked: it is as informed and
    costs an eighth. Where a kernel looks beyond them it finds "nothing here": zeros, also in a channel that is 1 on every
    pixel (the paper's six channels x and 1 - x serve the same end). Two more channels tell the position on the circle.
    Raises InvalidValue unless 1 <= columns <= W.
    """

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        input_shape: Sequence[int] = (3, 32, 32),
        num_classes: int = 10,
        width: int = 32,
        columns: int = 4,
    ):
        super().__init__(mean, std, input_shape, num_classes)
        channels, _, across = input_shape
        if not 1 <= columns <= across:
            raise InvalidValue(f"columns must be in [1, {across}], the width of the images; got {columns}.")
        self.columns = columns
        blocks, inputs = [], width
        for stage, outputs in enumerate((width, 2 * width, 4 * width, 8 * width)):
            for index in range(2):
                stride = 2 if stage > 0 and index == 0 else 1
                blocks.append(PreActBlock(inputs, outputs, stride, nn.ReLU, _Convolution))
                inputs = outputs
        self.base = nn.Sequential(
            nn.Conv2d(channels + 3, width, 3, 1, 1, bias=False), *blocks, nn.BatchNorm2d(inputs), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, num_classes),
        )  # fmt: skip
        self.head = MeanOfLooks(num_classes)

    def forward(self, pixels: Tensor, first: Tensor | None = None) -> Tensor:
        """Logits (N,K); with `first` (N,) int64, those of one look at each image, whose leftmost column that is."""
        if first is None:
            return super().forward(pixels)
        rows = torch.arange(len(pixels), device=pixels.device)
        strips = self._strips((pixels - self.mean) / self.std)[rows, first]  # (N, C, H, columns)
        return self.base(self._marked(strips, first))

    def looks(self, pixels: Tensor) -> Tensor:
        """(N,W,K): the base's logits for the columns w, w+1, ... of each image, for every w."""
        return self.features(pixels).unflatten(1, (self.input_shape[2], self.num_classes))

    def embed(self, normalised: Tensor) -> Tensor:
        strips = self._strips(normalised)  # (N, W, C, H, columns)
        first = torch.arange(strips.shape[1], device=strips.device).repeat(len(strips))
        marked = self._marked(strips.flatten(0, 1), first)  # (N*W, C+3, H, columns)
        logits = torch.cat([self.base(part) for part in marked.split(CHUNK)])
        return logits.view(len(strips), strips.shape[1] * self.num_classes)  # (N, W*K)

    def _strips(self, normalised: Tensor) -> Tensor:
        """(N,W,C,H,columns) of images (N,C,H,W)."""
        around = torch.cat((normalised, normalised[..., : self.columns - 1]), 3)
        return around.unfold(3, self.columns, 1).permute(0, 3, 1, 2, 4)

    def _marked(self, strips: Tensor, first: Tensor) -> Tensor:
        """(M,C+3,H,columns): strips (M,C,H,columns) whose leftmost columns are `first` (M,), and what tells where they are."""
        angle = 2 * math.pi / self.input_shape[2] * first
        marks = torch.stack((torch.ones_like(angle), angle.sin(), angle.cos()), 1)[:, :, None, None]
        return torch.cat((strips, marks.to(strips.dtype).expand(-1, -1, *strips.shape[2:])), 1)
