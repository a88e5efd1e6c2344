"""Averaged weights: an exponential moving average of parameters and batch-norm statistics."""

from __future__ import annotations

import copy

import torch
from torch import nn


class Averaged:
    """`model` is the average; `update` moves it toward the trained one by 1 - decay, faster in the first updates."""

    def __init__(self, trained: nn.Module, decay: float):
        self.model = copy.deepcopy(trained).eval().requires_grad_(False)
        self.decay, self.updates = decay, 0
        self._pairs = self._floats(self.model), self._floats(trained)

    @staticmethod
    def _floats(module: nn.Module) -> list[torch.Tensor]:
        return [t.detach() for t in module.state_dict(keep_vars=True).values() if t.is_floating_point()]

    def update(self) -> None:
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(self._pairs[0], self._pairs[1], 1 - decay)
