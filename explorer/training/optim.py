"""The optimiser and the averaged weights of a run: SGD with Nesterov momentum, and the exponential moving average (EMA)."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim.sgd import sgd


class SGD:
    """SGD with Nesterov momentum of these groups: parameters, and the weight decay of each group.

    torch's own computation, `torch.optim.sgd.sgd`, without the optimiser object around it: making a `torch.optim.Optimizer`
    imports the whole compiler behind `torch.compile`, which takes over a second of every run's start and is not used here.
    `momentum_buffers` holds each parameter's momentum, None before its first update, in the order of `parameters`.
    """

    def __init__(self, groups: Sequence[tuple[Sequence[nn.Parameter], float]], momentum: float):
        self._groups, self._momentum = [(list(parameters), decay) for parameters, decay in groups], momentum
        self.parameters: list[nn.Parameter] = [p for parameters, _ in self._groups for p in parameters]
        self.momentum_buffers: list[Tensor | None] = [None] * len(self.parameters)

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """One update at this learning rate of all parameters that have a gradient."""
        first = 0
        for parameters, decay in self._groups:
            rows = [row for row, parameter in enumerate(parameters, first) if parameter.grad is not None]
            moved, buffers = [self.parameters[row] for row in rows], [self.momentum_buffers[row] for row in rows]
            sgd(
                moved, [parameter.grad for parameter in moved], buffers, weight_decay=decay, momentum=self._momentum, lr=lr,
                dampening=0.0, nesterov=self._momentum > 0, maximize=False,
            )  # fmt: skip
            for row, buffer in zip(rows, buffers, strict=True):
                self.momentum_buffers[row] = buffer
            first += len(parameters)


class EMA:
    """The exponential moving average of a model's parameters and batch-norm statistics; `model` is the averaged copy.

    `update` moves it toward the trained one by 1 - decay, faster in the first updates: min(decay, (1 + n) / (10 + n)).
    """

    def __init__(self, trained: nn.Module, decay: float):
        self.model = copy.deepcopy(trained).eval().requires_grad_(False)
        self.decay, self.updates = decay, 0
        self._pairs = self._floats(self.model), self._floats(trained)

    @staticmethod
    def _floats(module: nn.Module) -> list[Tensor]:
        return [t.detach() for t in module.state_dict(keep_vars=True).values() if t.is_floating_point()]

    def update(self) -> None:
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(self._pairs[0], self._pairs[1], 1 - decay)
