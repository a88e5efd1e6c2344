"""Wide ResNet (Zagoruyko & Komodakis, arXiv:1605.07146), with ReLU or with stochastic local winner-takes-all units."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from explorer.core import Classifier, InvalidValue
from explorer.models import ARCHITECTURES
from explorer.models._lwta import activation_of, kl_of_last_pass
from explorer.models._preact import PreActBlock


@ARCHITECTURES.register("wide-resnet", title="Wide ResNet", paper="arXiv:1605.07146")
class WideResNet(Classifier):
    """Depth 6n+4, channels 16, 16k, 32k, 64k. `units` 0: ReLU; 2 or more: stochastic LWTA with blocks of that size."""

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        input_shape: Sequence[int] = (3, 32, 32),
        num_classes: int = 10,
        depth: int = 34,
        widen: int = 1,
        units: int = 0,
        temperature: float = 0.67,
    ):
        super().__init__(mean, std, input_shape, num_classes)
        if (depth - 4) % 6:
            raise InvalidValue(f"depth must be 6n + 4 (10, 16, 22, 28, 34, ...); got {depth}.")
        self.stochastic = units > 0
        activation = activation_of(units, temperature)

        channels = (16, 16 * widen, 32 * widen, 64 * widen)
        self.stem = nn.Conv2d(input_shape[0], channels[0], 3, 1, 1, bias=False)
        blocks = []
        for stage in range(3):
            for index in range((depth - 4) // 6):
                inputs = channels[stage] if index == 0 else channels[stage + 1]
                blocks.append(PreActBlock(inputs, channels[stage + 1], 2 if stage and index == 0 else 1, activation))
        self.blocks = nn.Sequential(*blocks)
        self.norm, self.act = nn.BatchNorm2d(channels[3]), activation()
        self.head = nn.Linear(channels[3], num_classes)

    def embed(self, normalised: Tensor) -> Tensor:
        x = self.blocks(self.stem(normalised))
        return self.act(self.norm(x)).mean(dim=(2, 3))  # (N, 64*widen)

    def kl(self) -> Tensor:
        """Sum over the LWTA layers of the last training pass's KL(q || uniform), a scalar."""
        return kl_of_last_pass(self)
