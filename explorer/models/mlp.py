"""A fully connected network, as reports on Fashion-MNIST use it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import prod

from torch import Tensor, nn

from explorer.core import Classifier, InvalidValue
from explorer.models import ARCHITECTURES


@ARCHITECTURES.register("mlp", title="Multilayer perceptron")
class MLP(Classifier):
    """All pixels, then for each of the `hidden` widths a linear layer and ReLU, then the head: 784-100-10 by default.

    Raises InvalidValue unless there is a hidden layer and each has a unit.
    """

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        input_shape: Sequence[int] = (1, 28, 28),
        num_classes: int = 10,
        hidden: Sequence[int] = (100,),
    ):
        super().__init__(mean, std, input_shape, num_classes)
        if not hidden or min(hidden) < 1:
            raise InvalidValue(f"hidden must be the widths of one layer or more, each at least 1; got {hidden!r}.")
        layers = [nn.Sequential(nn.Linear(a, b), nn.ReLU()) for a, b in pairwise((prod(input_shape), *hidden))]
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(hidden[-1], num_classes)

    def embed(self, normalised: Tensor) -> Tensor:
        return self.layers(normalised.flatten(1))  # (N, hidden[-1])

    def chain(self) -> Iterable[nn.Module]:
        """All layers in order, from normalised pixels to logits."""
        return (nn.Flatten(), self.layers, self.head)
