"""How weights follow their gradients: torch's SGD and Adam as functions, without the optimiser object around them.

Making a `torch.optim.Optimizer` imports the whole compiler behind `torch.compile`, which takes over a second of every run's
start and is never used here. The computation is torch's own, `torch.optim.sgd.sgd` and `torch.optim.adam.adam`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.optim.adam import adam
from torch.optim.sgd import sgd

Groups = Sequence[tuple[Sequence[nn.Parameter], float]]  # parameters, and how strongly each of the group decays
BETA2, EPS = 0.999, 1e-8  # of Adam: torch's defaults, as its authors'


class Descent:
    """SGD with Nesterov momentum of these groups.

    `momenta` holds each parameter's momentum, None before its first update, in the order of `parameters`.
    """

    def __init__(self, groups: Groups, momentum: float):
        self._groups, self._momentum = [(list(parameters), decay) for parameters, decay in groups], momentum
        self.parameters: list[nn.Parameter] = [p for parameters, _ in self._groups for p in parameters]
        self.momenta: list[Tensor | None] = [None] * len(self.parameters)

    def tensors(self) -> dict[str, Tensor]:
        """All that it remembers of the updates so far, by name."""
        return {f"momentum.{row}": value for row, value in enumerate(self.momenta) if value is not None}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Back to what `tensors` remembered; of others' tensors under other names nothing is taken."""
        self.momenta = self._restored(tensors, "momentum")

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

    def _restored(self, tensors: Mapping[str, Tensor], name: str) -> list[Tensor | None]:
        """Each on its parameter's device and laid out as it is."""
        found = [tensors.get(f"{name}.{row}") for row in range(len(self.parameters))]
        return [
            value if value is None else torch.empty_like(parameter, requires_grad=False).copy_(value)
            for parameter, value in zip(self.parameters, found, strict=True)
        ]


class Adam(Descent):
    """Adam (Kingma and Ba, arXiv:1412.6980) with `momentum` as its beta1; a decay is added to the gradient.

    `squares` holds each parameter's mean squared gradient, None before its first update; `counts` its updates.
    """

    def __init__(self, groups: Groups, momentum: float):
        super().__init__(groups, momentum)
        self.squares: list[Tensor | None] = [None] * len(self.parameters)
        self.counts: list[Tensor | None] = [None] * len(self.parameters)

    def tensors(self) -> dict[str, Tensor]:
        kept = super().tensors()
        for name, values in (("square", self.squares), ("count", self.counts)):
            kept |= {f"{name}.{row}": value for row, value in enumerate(values) if value is not None}
        return kept

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        super().restore(tensors)
        self.squares = self._restored(tensors, "square")
        self.counts = [tensors[f"count.{row}"].cpu() if f"count.{row}" in tensors else None for row in range(len(self.parameters))]

    @torch.no_grad()
    def step(self, rate: float) -> None:
        first = 0
        for parameters, decay in self._groups:
            rows = [row for row, parameter in enumerate(parameters, first) if parameter.grad is not None]
            for row in rows:
                if self.momenta[row] is None:
                    self.momenta[row], self.squares[row] = (torch.zeros_like(self.parameters[row]) for _ in range(2))
                    self.counts[row] = torch.zeros(())
            moved = [self.parameters[row] for row in rows]
            adam(
                moved, [p.grad for p in moved], [self.momenta[row] for row in rows], [self.squares[row] for row in rows], [],
                [self.counts[row] for row in rows], amsgrad=False, beta1=self._momentum, beta2=BETA2, lr=rate,
                weight_decay=decay, eps=EPS, maximize=False,
            )  # fmt: skip
            first += len(parameters)


DESCENTS = {"sgd": Descent, "adam": Adam}
