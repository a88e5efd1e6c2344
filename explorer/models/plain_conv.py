"""A plain convolutional network: convolutions and linear layers with ReLU, one after the other and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor, nn

from explorer.core import Classifier, InvalidValue
from explorer.models import ARCHITECTURES


@ARCHITECTURES.register("plain-conv", title="Plain convolutional network", paper="arXiv:1810.12715")
class PlainConv(Classifier):
    """For each of `convolutions` (channels, kernel, stride) a convolution and ReLU, then such layers of `hidden` units.

    No batch norm, no pooling, no shortcut: what interval and linear bounds read best. Padding is (kernel - 1) // 2. The
    default is the small network of Gowal et al., with a stride of 2 in its second convolution, too.
    Raises InvalidValue unless there is a convolution, all numbers are at least 1, and a pixel is left after the last.
    """

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        input_shape: Sequence[int] = (3, 32, 32),
        num_classes: int = 10,
        convolutions: Sequence[Sequence[int]] = ((16, 4, 2), (32, 4, 2)),
        hidden: Sequence[int] = (100,),
    ):
        super().__init__(mean, std, input_shape, num_classes)
        if (
            not convolutions
            or any(len(c) != 3 for c in convolutions)
            or min(*hidden, 1, *(min(c) for c in convolutions)) < 1
        ):
            raise InvalidValue(
                f"convolutions must be (channels, kernel, stride) each, at least one, and hidden widths, all at least 1; "
                f"got {convolutions!r} and {hidden!r}."
            )
        inputs, height, width = input_shape
        layers: list[nn.Module] = []
        for channels, kernel, stride in convolutions:
            pad = (kernel - 1) // 2
            layers += [nn.Conv2d(inputs, channels, kernel, stride, pad), nn.ReLU()]
            inputs, height, width = channels, *((size + 2 * pad - kernel) // stride + 1 for size in (height, width))
            if min(height, width) < 1:
                raise InvalidValue(
                    f"a {kernel}x{kernel} convolution leaves no pixel: {convolutions!r} on {tuple(input_shape)}."
                )
        layers.append(nn.Flatten())
        inputs *= height * width
        for units in hidden:
            layers += [nn.Linear(inputs, units), nn.ReLU()]
            inputs = units
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(inputs, num_classes)

    def embed(self, normalised: Tensor) -> Tensor:
        return self.layers(normalised)  # (N, D)

    def chain(self) -> Iterable[nn.Module]:
        """All layers in order, from normalised pixels to logits."""
        return (self.layers, self.head)
