"""ResNet-18 (He et al., arXiv:1512.03385) as torchvision has it, with a stem for small pictures."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from explorer.core import Classifier
from explorer.models import ARCHITECTURES


@ARCHITECTURES.register("resnet18", title="ResNet-18", paper="arXiv:1512.03385")
class ResNet18(Classifier):
    """Weights bear torchvision's names (but `head` for `fc`), so that those trained on ImageNet fit where `width` is 64.

    differs: the 7 x 7 convolution moves one pixel at a time instead of two, and no pooling follows it, so that a picture
    of 32 x 32 still has 4 x 4 places in the last stage.
    """

    layer1: nn.Sequential
    layer2: nn.Sequential
    layer3: nn.Sequential
    layer4: nn.Sequential

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        input_shape: Sequence[int] = (3, 32, 32),
        num_classes: int = 10,
        width: int = 64,
    ):
        super().__init__(mean, std, input_shape, num_classes)
        self.conv1 = nn.Conv2d(input_shape[0], width, 7, 1, 3, bias=False)
        self.bn1, self.relu = nn.BatchNorm2d(width), nn.ReLU()
        inputs = width
        for stage, outputs in enumerate((width, 2 * width, 4 * width, 8 * width)):
            blocks = nn.Sequential(Block(inputs, outputs, 2 if stage else 1), Block(outputs, outputs, 1))
            setattr(self, f"layer{stage + 1}", blocks)
            inputs = outputs
        self.head = nn.Linear(inputs, num_classes)

    def embed(self, normalised: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(normalised)))
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
        return x.mean(dim=(2, 3))  # (N, 8*width)


class Block(nn.Module):
    """Conv-BN twice around a shortcut, which gets a 1x1 convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1, self.relu = nn.BatchNorm2d(outputs), nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        skip = x if self.downsample is None else self.downsample(x)
        return self.relu(self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x))))) + skip)
