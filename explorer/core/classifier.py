"""The network as everything else sees it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

VECTOR = 16  # input channels of a convolution, from which on channels last pays: a vector of float32 on today's CPUs


class Classifier(nn.Module):
    """Pixels (N,C,H,W) in [0,1] -> logits (N,K). Normalisation happens inside.

    A subclass provides `embed` (normalised pixels -> penultimate features (N,D)) and `head` (features -> logits).
    """

    stochastic: bool = False  # two passes over the same input may differ
    head: nn.Module
    mean: Tensor  # (1,C,1,1)
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float], input_shape: Sequence[int], num_classes: int):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, -1, 1, 1))
        self.input_shape = tuple(int(n) for n in input_shape)
        self.num_classes = int(num_classes)

    def embed(self, normalised: Tensor) -> Tensor:
        raise NotImplementedError

    def features(self, pixels: Tensor) -> Tensor:
        """(N,D): what the last linear layer sees."""
        return self.embed((pixels - self.mean) / self.std)

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(pixels))
        return logits

    def both(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N,K) and features (N,D) of one and the same pass."""
        features = self.features(pixels)
        return self.head(features), features

    @property
    def device(self) -> torch.device:
        return self.mean.device

    @property
    def layout(self) -> torch.memory_format:
        """How the weights of its convolutions lie where they are fastest: channels last on a CPU, unless there are few."""
        convolutions = [m for m in self.modules() if isinstance(m, nn.Conv2d)]
        few = any(m.in_channels < VECTOR for m in convolutions[1:])  # the first sees the image's own few
        return torch.channels_last if self.device.type == "cpu" and not few else torch.contiguous_format

    def freeze(self) -> Classifier:
        """Ready to be shared: eval mode, no parameter asks for gradients."""
        return self.eval().requires_grad_(False)


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Every module in eval mode inside the block and exactly as before after it (attacks during training)."""
    modes = [(module, module.training) for module in model.modules() if module.training]
    for module, _ in modes:
        module.training = False
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
