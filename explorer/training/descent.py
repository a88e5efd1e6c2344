"""How weights follow their gradients: torch's SGD as a function, without the optimiser object around it.

Making a `torch.optim.Optimizer` imports the whole compiler behind `torch.compile`, which takes over a second of every run's
start and is never used here. The computation is torch's own, `torch.optim.sgd.sgd`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim.sgd import sgd


class Descent:
    """SGD with Nesterov momentum of these groups: parameters, and how strongly each of the group decays.

    `momenta` holds each parameter's momentum, None before its first update, in the order of `parameters`.
    """

    def __init__(self, groups: Sequence[tuple[Sequence[nn.Parameter], float]], momentum: float):
        self._groups, self._momentum = [(list(parameters), decay) for parameters, decay in groups], momentum
        self.parameters: list[nn.Parameter] = [p for parameters, _ in self._groups for p in parameters]
        self.momenta: list[Tensor | None] = [None] * len(self.parameters)

    def clear(self) -> None:
        """Forget all gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """One update at this learning rate of all parameters that have a gradient."""
        first = 0
        for parameters, decay in self._groups:
            rows = [row for row, parameter in enumerate(parameters, first) if parameter.grad is not None]
            moved, momenta = [self.parameters[row] for row in rows], [self.momenta[row] for row in rows]
            sgd(
                moved, [parameter.grad for parameter in moved], momenta, weight_decay=decay, momentum=self._momentum, lr=rate,
                dampening=0.0, nesterov=self._momentum > 0, maximize=False,
            )  # fmt: skip
            for row, momentum in zip(rows, momenta, strict=True):
                self.momenta[row] = momentum
            first += len(parameters)
