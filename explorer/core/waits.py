"""Host synchronisation: what a loop asks a GPU makes the host wait, so each round asks once, and for counts only."""

from __future__ import annotations

import torch
from torch import Tensor


def counts(*masks: Tensor) -> list[int]:
    """How many entries of each mask are True: one wait for all of them."""
    return [int(count) for count in torch.stack([mask.sum() for mask in masks]).tolist()]


def where_true(mask: Tensor, count: int) -> Tensor:
    """(count,) int64: where a mask (N,) is True, which is so `count` times. `mask.nonzero()` would wait for that number."""
    return torch.nonzero_static(mask, size=count)[:, 0]


def surely_none(mask: Tensor) -> bool:
    """No entry is True: for a shortcut that changes nothing. On a GPU it is not asked, since that would make the host wait."""
    return mask.device.type == "cpu" and not bool(mask.any())


def put(whole: Tensor, rows: Tensor, values: Tensor, only: Tensor) -> Tensor:
    """`whole` (N,...) with `values` (n,...) in its `rows` (n,), which ascend, but for those that are not True in `only` (n,).

    With a mask as an index the host would wait.
    """
    everybody = len(rows) == len(whole)
    chosen = torch.where(only.view(-1, *[1] * (values.ndim - 1)), values, whole if everybody else whole[rows])
    return chosen if everybody else whole.index_copy(0, rows, chosen)
