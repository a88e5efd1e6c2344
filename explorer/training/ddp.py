"""Distributed data-parallel training (DDP): each process takes a part of every batch, and all take the same step.

What one process computes on the whole batch, several compute together: the gradient is that of the mean loss over the
whole batch, however unequal the parts; batch norm takes its statistics from all of it; every image gets the draws it
would have got (`batch_shard`). What remains is rounding, as sums are taken in another order.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from explorer.core.ranks import Ranks


def part(n: int, ranks: Ranks) -> tuple[int, int]:
    """Which rows of a batch of `n` are this process's: from, to. The parts differ by one row at most."""
    return n * ranks.rank // ranks.world, n * (ranks.rank + 1) // ranks.world


def sum_gradients(parameters: Iterable[Tensor], extra: list[float], ranks: Ranks) -> list[float]:
    """Every gradient becomes the sum over all processes; returns the sums of `extra`. One exchange for all of it.

    Raises PeerFailed.
    """
    gradients = []
    for p in parameters:
        if p.grad is None:
            p.grad = torch.zeros_like(p)
        gradients.append(p.grad)
    numbers = gradients[0].new_tensor(extra)
    flat = torch.cat([*(gradient.reshape(-1) for gradient in gradients), numbers])
    flat = ranks.all_reduce_mean(flat) * ranks.world
    sizes = [*(gradient.numel() for gradient in gradients), len(extra)]
    for gradient, total in zip(gradients, flat.split(sizes), strict=False):
        gradient.copy_(total.view(gradient.shape))
    return flat[-len(extra) :].tolist()


def share_rows(tensor: Tensor, start: int, stop: int, total: int, ranks: Ranks) -> None:
    """Every process gets the first `total` rows as they are where they belong; `start` to `stop` are this one's own."""
    mine = torch.zeros_like(tensor[:total])
    mine[start:stop] = tensor[start:stop]
    tensor[:total] = ranks.all_reduce_mean(mine) * ranks.world


class SharedBatchNorm(nn.BatchNorm2d):
    """Batch norm whose training statistics are those of all processes' images together.

    differs: torch's SyncBatchNorm computes the same, but on CUDA alone.
    """

    ranks: Ranks
    momentum: float  # these four are never None: `_shared` refuses such a batch norm
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """(N,C,H,W), in float32 inside."""
        if not self.training:
            return super().forward(x)
        wide = x.float()
        here = wide.sum((0, 2, 3)), wide.new_tensor([wide.numel() / wide.shape[1]])
        sums = _Mean.apply(torch.cat(here), self.ranks)
        count = sums[-1].detach()
        mean = sums[:-1] / count
        centred = wide - mean.view(1, -1, 1, 1)
        variance = _Mean.apply(centred.square().sum((0, 2, 3)), self.ranks) / count
        self._follow(mean.detach(), variance.detach(), float(count) * self.ranks.world)
        scale = torch.rsqrt(variance + self.eps) * self.weight
        return (centred * scale.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)).to(x.dtype)

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor, count: float) -> None:
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * (count / max(count - 1, 1)), self.momentum)


class _Mean(torch.autograd.Function):
    """The mean over the processes; backward it is one, too, as every process's loss depends on it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, ranks: Ranks) -> Tensor:
        ctx.ranks = ranks
        return ranks.all_reduce_mean(x.clone())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.ranks.all_reduce_mean(gradient.clone()), None


def share_statistics(model: nn.Module, ranks: Ranks) -> None:
    """Every batch norm of `model` becomes a shared one, with the very parameters and buffers it has."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.BatchNorm2d:
                setattr(parent, name, _shared(child, ranks))


def _shared(norm: nn.BatchNorm2d, ranks: Ranks) -> SharedBatchNorm:
    if norm.momentum is None or not (norm.affine and norm.track_running_stats):
        raise TypeError("a batch norm must have weights, running statistics and a momentum to be shared by processes")
    other = SharedBatchNorm(norm.num_features, norm.eps, norm.momentum)
    other.ranks = ranks
    other.training = norm.training
    other.weight, other.bias = norm.weight, norm.bias
    for name, buffer in norm.named_buffers():
        setattr(other, name, buffer)
    return other
