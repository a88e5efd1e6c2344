"""The block of pre-activation residual networks (He et al., arXiv:1603.05027)."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn


class PreActBlock(nn.Module):
    """BN-activation-conv twice, with a 1x1 shortcut where the shape changes."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        stride: int | tuple[int, int],
        activation: Callable[[], nn.Module],
        convolution: Callable[..., nn.Conv2d] = nn.Conv2d,
    ):
        super().__init__()
        self.bn1, self.act1 = nn.BatchNorm2d(inputs), activation()
        self.conv1 = convolution(inputs, outputs, 3, stride, 1, bias=False)
        self.bn2, self.act2 = nn.BatchNorm2d(outputs), activation()
        self.conv2 = convolution(outputs, outputs, 3, 1, 1, bias=False)
        self.shortcut = None
        if stride not in (1, (1, 1)) or inputs != outputs:
            self.shortcut = convolution(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        active = self.act1(self.bn1(x))
        skip = x if self.shortcut is None else self.shortcut(active)
        return self.conv2(self.act2(self.bn2(self.conv1(active)))) + skip
