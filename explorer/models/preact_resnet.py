"""Pre-activation ResNet-18 of any width (He et al., arXiv:1603.05027), the shape used by most robustness papers."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from explorer.core import Classifier
from explorer.models import ARCHITECTURES
from explorer.models._dropout import Dropout
from explorer.models._lwta import activation_of, kl_of_last_pass
from explorer.models._preact import PreActBlock
from explorer.models._spectral import convolution_of
from explorer.models.noise import InputNoise


@ARCHITECTURES.register("preact-resnet18", title="PreAct ResNet-18", paper="arXiv:1603.05027")
class PreActResNet18(Classifier):
    """Eight blocks; `width` channels in the first stage, doubled at each of three reductions.

    `units` 0: ReLU; 2 or more: stochastic local winner-takes-all with blocks of that size.
    `noise`: standard deviation of the Gaussian noise that it adds to its pixels in every pass, training or not.
    `dropout`: the share of the features that training hides from the last layer.
    `bound`: the largest norm of a convolution, as a map of images; 0: any.
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
        noise: float = 0.0,
        dropout: float = 0.0,
        bound: float = 0.0,
    ):
        super().__init__(mean, std, input_shape, num_classes)
        self.stochastic = units > 0 or noise > 0
        self.noise = InputNoise(noise)
        activation = activation_of(units, temperature)
        convolution = convolution_of(bound)
        self.stem = convolution(input_shape[0], width, 3, 1, 1, bias=False)
        blocks, inputs = [], width
        for stage, outputs in enumerate((width, 2 * width, 4 * width, 8 * width)):
            for index in range(2):
                blocks.append(
                    PreActBlock(inputs, outputs, 2 if stage > 0 and index == 0 else 1, activation, convolution)
                )
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.norm, self.act = nn.BatchNorm2d(inputs), activation()
        self.dropout = Dropout(dropout)
        self.head = nn.Linear(inputs, num_classes)

    def features(self, pixels: Tensor) -> Tensor:
        return super().features(self.noise(pixels))

    def embed(self, normalised: Tensor) -> Tensor:
        x = self.blocks(self.stem(normalised))  # (N, 8*width, H/8, W/8)
        return self.dropout(self.act(self.norm(x)).mean(dim=(2, 3)))  # (N, 8*width)

    def kl(self) -> Tensor:
        """Sum over the LWTA layers of the last training pass's KL(q || uniform), a scalar."""
        return kl_of_last_pass(self)
