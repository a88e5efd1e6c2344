"""The optimisers and the averaged weights of a run: SGD with Nesterov momentum, Adam, and the exponential moving average (EMA).

The computation is torch's own, `torch.optim.sgd.sgd` and `torch.optim.adam.adam`, without the optimiser object around it:
making a `torch.optim.Optimizer` imports the whole compiler behind `torch.compile`, which takes over a second of every run's
start and is not used here.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.optim.adam import adam
from torch.optim.sgd import sgd

M = TypeVar("M", bound=nn.Module)
Groups = Sequence[tuple[Sequence[nn.Parameter], float]]  # parameters, and the weight decay of each group
BETA2, EPS = 0.999, 1e-8  # of Adam: torch's defaults, as its authors'


class Optimizer:
    """Moves the parameters of its groups.

    `momentum_buffers` holds each parameter's momentum, None before its first update, in the order of `parameters`.
    """

    def __init__(self, groups: Groups, momentum: float):
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
            self._move(
                [row for row, parameter in enumerate(parameters, first) if parameter.grad is not None], decay, lr
            )
            first += len(parameters)

    def tensors(self) -> dict[str, Tensor]:
        """All that it remembers of the updates so far, by name."""
        return _named("momentum", self.momentum_buffers)

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Back to what `tensors` remembered; of others' tensors under other names nothing is taken."""
        self.momentum_buffers = self._restored(tensors, "momentum")

    def _move(self, rows: Sequence[int], decay: float, lr: float) -> None:
        """The update of the parameters at `rows`."""
        raise NotImplementedError

    def _restored(self, tensors: Mapping[str, Tensor], name: str) -> list[Tensor | None]:
        """Each on its parameter's device and laid out as it is."""
        found = [tensors.get(f"{name}.{row}") for row in range(len(self.parameters))]
        return [
            value if value is None else torch.empty_like(parameter, requires_grad=False).copy_(value)
            for parameter, value in zip(self.parameters, found, strict=True)
        ]


class SGD(Optimizer):
    """SGD with Nesterov momentum."""

    def _move(self, rows: Sequence[int], decay: float, lr: float) -> None:
        moved, gradients = _moved(self.parameters, rows)
        buffers = [self.momentum_buffers[row] for row in rows]
        sgd(
            moved, gradients, buffers, weight_decay=decay, momentum=self._momentum, lr=lr, dampening=0.0,
            nesterov=self._momentum > 0, maximize=False,
        )  # fmt: skip
        for row, buffer in zip(rows, buffers, strict=True):
            self.momentum_buffers[row] = buffer


class Adam(Optimizer):
    """Adam (Kingma and Ba, arXiv:1412.6980) with `momentum` as its beta1; a decay is added to the gradient.

    `squares` holds each parameter's mean squared gradient, None before its first update; `counts` its updates.
    """

    def __init__(self, groups: Groups, momentum: float):
        super().__init__(groups, momentum)
        self.squares: list[Tensor | None] = [None] * len(self.parameters)
        self.counts: list[Tensor | None] = [None] * len(self.parameters)

    def tensors(self) -> dict[str, Tensor]:
        return super().tensors() | _named("square", self.squares) | _named("count", self.counts)

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        super().restore(tensors)
        self.squares = self._restored(tensors, "square")
        self.counts = [
            tensors[f"count.{row}"].cpu() if f"count.{row}" in tensors else None for row in range(len(self.parameters))
        ]

    def _move(self, rows: Sequence[int], decay: float, lr: float) -> None:
        for row in rows:
            if self.momentum_buffers[row] is None:
                self.momentum_buffers[row], self.squares[row] = (
                    torch.zeros_like(self.parameters[row]) for _ in range(2)
                )
                self.counts[row] = torch.zeros(())
        moved, gradients = _moved(self.parameters, rows)
        momenta, squares, counts = (
            [value for row in rows if (value := values[row]) is not None]
            for values in (self.momentum_buffers, self.squares, self.counts)
        )
        adam(
            moved, gradients, momenta, squares, [], counts, amsgrad=False, beta1=self._momentum, beta2=BETA2,
            lr=lr, weight_decay=decay, eps=EPS, maximize=False,
        )  # fmt: skip


OPTIMIZERS = {"sgd": SGD, "adam": Adam}


def _moved(parameters: Sequence[nn.Parameter], rows: Sequence[int]) -> tuple[list[Tensor], list[Tensor]]:
    """The parameters at `rows`, which have gradients, and these."""
    pairs = [(parameters[row], parameters[row].grad) for row in rows]
    return [p for p, _ in pairs], [gradient for _, gradient in pairs if gradient is not None]


def _named(name: str, values: Sequence[Tensor | None]) -> dict[str, Tensor]:
    return {f"{name}.{row}": value for row, value in enumerate(values) if value is not None}


class EMA(Generic[M]):
    """The exponential moving average of a model's parameters and batch-norm statistics; `model` is the averaged copy.

    `update` moves it toward the trained one by 1 - decay, faster in the first updates: min(decay, (1 + n) / (10 + n)).
    """

    def __init__(self, trained: M, decay: float):
        self.model: M = copy.deepcopy(trained).eval().requires_grad_(False)
        self.decay, self.updates = decay, 0
        self._pairs = self._floats(self.model), self._floats(trained)

    @staticmethod
    def _floats(module: nn.Module) -> list[Tensor]:
        return [t.detach() for t in module.state_dict(keep_vars=True).values() if t.is_floating_point()]

    def update(self) -> None:
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(self._pairs[0], self._pairs[1], 1 - decay)
