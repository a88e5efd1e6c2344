"""BPDA, backward pass differentiable approximation (Athalye et al., arXiv:1802.00420): the way through a defence without slope."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from explorer.core import Classifier, as_classifier


class BPDA(Classifier):
    """logits = model(g(x)): the forward pass is exact, the backward pass takes g for the identity, which it is nearly.

    Every attack of ours, and every verdict, takes it as it is: what is attacked is the true defended model.

    Examples:
        >>> import torch
        >>> from explorer.models.bpda import BPDA
        >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 3)).eval()
        >>> defended = BPDA(net, lambda x: (x * 7).round() / 7, like=torch.zeros(3, 4, 4))  # 3 bits a value: no slope
        >>> x = torch.rand(2, 3, 4, 4, requires_grad=True)
        >>> bool(torch.autograd.grad(defended(x).sum(), x)[0].abs().sum() > 0)
        True
    """

    def __init__(self, model: nn.Module, preprocess: Callable[[Tensor], Tensor], *, like: Tensor) -> None:
        """`preprocess`: g, pixels (N,C,H,W) in [0,1] to pixels of the same shape. `model`, `like`: as `as_classifier` wants."""
        net = as_classifier(model, like=like)
        super().__init__(net.mean.flatten().tolist(), net.std.flatten().tolist(), net.input_shape, net.num_classes)
        self.to(net.device)
        self.net, self.preprocess, self.head, self.stochastic = net, preprocess, net.head, net.stochastic
        self.training = False

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits (N,K) of the preprocessed pixels."""
        logits: Tensor = self.net(_StraightThrough.apply(pixels, self.preprocess))
        return logits

    def both(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N,K) and features (N,D) of the preprocessed pixels."""
        return self.net.both(_StraightThrough.apply(pixels, self.preprocess))

    def features(self, pixels: Tensor) -> Tensor:
        """(N,D)."""
        return self.both(pixels)[1]


class _StraightThrough(torch.autograd.Function):
    """g forward, the identity backward."""

    @staticmethod
    def forward(ctx: Any, pixels: Tensor, preprocess: Callable[[Tensor], Tensor]) -> Tensor:
        return preprocess(pixels.detach())

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None
