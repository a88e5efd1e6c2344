"""The small convolutional network of PyTorch's tutorial, as courses hand it out: LeNet-5 in colour, with ReLU."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor, nn

from explorer.core import Classifier
from explorer.models import ARCHITECTURES
from explorer.models.noise import InputNoise


@ARCHITECTURES.register("lenet", title="LeNet")
class LeNet(Classifier):
    """Two 5x5 convolutions of 6 and 16 channels, each with a 2x2 maximum, then 120, 84 and the classes.

    62,006 weights for 3x32x32 pixels and 10 classes. `halves`: pixels are centred at 0.5 and divided by 0.5 as the
    course's template does, whatever `mean` and `std` are. `noise`: standard deviation of the Gaussian noise that it adds
    to its pixels in every pass, training or not.
    """

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        input_shape: Sequence[int] = (3, 32, 32),
        num_classes: int = 10,
        halves: bool = False,
        noise: float = 0.0,
    ):
        channels, height, width = input_shape
        if halves:
            mean, std = (0.5,) * channels, (0.5,) * channels
        super().__init__(mean, std, input_shape, num_classes)
        self.stochastic = noise > 0
        self.noise = InputNoise(noise)
        self.convolutions = nn.Sequential(
            nn.Conv2d(channels, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)
        )
        flat = 16 * ((height - 12) // 4) * ((width - 12) // 4)
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(flat, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU())
        self.head = nn.Linear(84, num_classes)

    def features(self, pixels: Tensor) -> Tensor:
        return super().features(self.noise(pixels))

    def embed(self, normalised: Tensor) -> Tensor:
        return self.layers(self.convolutions(normalised))  # (N, 84)

    def chain(self) -> Iterable[nn.Module]:
        """All layers in order, from pixels (noisy ones, where it adds noise) normalised to logits."""
        return (self.convolutions, self.layers, self.head)
