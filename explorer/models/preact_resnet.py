"""Pre-activation ResNet-18 of any width (He et al., arXiv:1603.05027), the shape used by most robustness papers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from explorer.core import Classifier
from explorer.models import ARCHITECTURES
from explorer.models._lwta import activation_of, kl_of_last_pass


class PreActBlock(nn.Module):
    """BN-activation-conv twice, with a 1x1 shortcut where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int, activation: Callable[[], nn.Module]):
        super().__init__()
        self.bn1, self.act1 = nn.BatchNorm2d(inputs), activation()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn2, self.act2 = nn.BatchNorm2d(outputs), activation()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.shortcut = None
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        active = self.act1(self.bn1(x))
        skip = x if self.shortcut is None else self.shortcut(active)
        return self.conv2(self.act2(self.bn2(self.conv1(active)))) + skip


@ARCHITECTURES.register("preact-resnet18", title="PreAct ResNet-18", paper="arXiv:1603.05027")
class PreActResNet18(Classifier):
    """Eight blocks; `width` channels in the first stage, doubled at each of three reductions.

    `units` 0: ReLU; 2 or more: stochastic local winner-takes-all with blocks of that size.
    """

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        input_shape: Sequence[int] = (3, 32, 32),
        num_classes: int = 10,
        width: int = 64,
        units: int = 0,
        temperature: float = 0.67,
    ):
        super().__init__(mean, std, input_shape, num_classes)
        self.stochastic = units > 0
        activation = activation_of(units, temperature)
        self.stem = nn.Conv2d(input_shape[0], width, 3, 1, 1, bias=False)
        blocks, inputs = [], width
        for stage, outputs in enumerate((width, 2 * width, 4 * width, 8 * width)):
            for index in range(2):
                blocks.append(PreActBlock(inputs, outputs, 2 if stage > 0 and index == 0 else 1, activation))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.norm, self.act = nn.BatchNorm2d(inputs), activation()
        self.head = nn.Linear(inputs, num_classes)

    def embed(self, normalised: Tensor) -> Tensor:
        x = self.blocks(self.stem(normalised))  # (N, 8*width, H/8, W/8)
        return self.act(self.norm(x)).mean(dim=(2, 3))  # (N, 8*width)

    def kl(self) -> Tensor:
        """Sum over the LWTA layers of the last training pass's KL(q || uniform), a scalar."""
        return kl_of_last_pass(self)
