"""Classifier, the image classifier interface: pixels in [0,1] in, logits out; `as_classifier` makes one of any torch module."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Self

import torch
from torch import Tensor, nn

from explorer.core.errors import InvalidValue
from explorer.core.rng import seeded, use_generator

VECTOR = 16  # input channels of a convolution, from which on channels last pays: a vector of float32 on today's CPUs


class Classifier(nn.Module):
    """Pixels (N,C,H,W) in [0,1] -> logits (N,K). Normalisation happens inside.

    A subclass provides `embed` (normalised pixels -> penultimate features (N,D)) and `head` (features -> logits).
    """

    stochastic: bool = False  # two passes over the same input may differ
    rounds: bool = True  # autocast reaches its passes
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

    def freeze(self) -> Self:
        """Ready to be shared: eval mode, no parameter asks for gradients."""
        return self.eval().requires_grad_(False)


def as_classifier(model: nn.Module, *, like: Tensor) -> Classifier:
    """`model` as a Classifier of images like these, (C,H,W) or (N,C,H,W); a Classifier is returned as it is.

    Any other module must map pixels in [0,1] to logits (N,K), so it normalises by itself. One pass over a gray image finds
    K. No penultimate layer of it is known: its logits stand for its features. It counts as deterministic unless it says
    `stochastic` of itself. It is wrapped, not copied. Raises InvalidValue for a model in training mode (batch statistics
    make images depend on each other), and for answers that are not (1,K) or not finite.

    Examples:
        >>> import torch
        >>> from explorer.core import as_classifier
        >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 10)).eval()
        >>> model = as_classifier(net, like=torch.zeros(3, 4, 4))
        >>> model.num_classes, model.input_shape, model.stochastic
        (10, (3, 4, 4), False)
        >>> as_classifier(net, like=torch.zeros(1, 4, 4))
        Traceback (most recent call last):
            ...
        explorer.core.errors.InvalidValue: the model does not take images of shape (1, 4, 4): ...
    """
    if not isinstance(model, nn.Module):
        raise InvalidValue(f"the model must be a torch.nn.Module; got {type(model).__name__}.")
    if model.training:
        raise InvalidValue("the model must be in evaluation mode (model.eval()); got one in training mode.")
    if isinstance(model, Classifier):
        return model
    if not isinstance(like, Tensor) or like.ndim not in (3, 4):
        got = f"shape {tuple(like.shape)}" if isinstance(like, Tensor) else type(like).__name__
        raise InvalidValue(f"images must be a tensor (C,H,W) or (N,C,H,W); got {got}.")
    shape, device = tuple(like.shape[-3:]), device_of(model, like.device)
    gray = torch.full((1, *shape), 0.5, device=device)
    try:
        with torch.no_grad(), use_generator(seeded(0, device)):
            logits = model(gray)
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        raise InvalidValue(f"the model does not take images of shape {shape}: {reason}") from error
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != 1:
        got = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
        raise InvalidValue(f"the model must give logits of shape (N, K), here (1, K); got {got}.")
    if not bool(logits.isfinite().all()):
        raise InvalidValue("the model's logits must be finite; got NaN or infinity for a gray image.")
    return _Wrapped(model, shape, logits.shape[1], device)


class _Wrapped(Classifier):
    """A module that normalises by itself and whose logits stand for its features."""

    def __init__(self, net: nn.Module, input_shape: Sequence[int], num_classes: int, device: torch.device):
        super().__init__([0.0] * input_shape[0], [1.0] * input_shape[0], input_shape, num_classes)
        self.to(device)  # the constants; the network is there already
        self.net, self.head = net, nn.Identity()
        self.stochastic = bool(getattr(net, "stochastic", False))
        self.training = self.head.training = False  # not by eval(), which would change the network's own modules

    def features(self, pixels: Tensor) -> Tensor:
        """(N,K): the logits."""
        return self.embed(pixels)

    def embed(self, normalised: Tensor) -> Tensor:
        logits: Tensor = self.net(normalised)
        return logits


def device_of(model: nn.Module, default: torch.device | str = "cpu") -> torch.device:
    """Where the module's first parameter or buffer lies; `default` if it has none."""
    first = next(chain(model.parameters(), model.buffers()), None)
    return torch.device(default) if first is None else first.device


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
