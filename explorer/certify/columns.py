"""Column smoothing counted: how many looks vote for each class, and whether a patch anywhere could turn the vote.

Levine and Feizi, arXiv:2002.10733: an m x m patch touches at most m + s - 1 of the looks at s columns, so each class gains
or loses at most that many votes.
"""

from __future__ import annotations

import torch
from torch import Tensor

THETA = 0.3  # the paper's, for CIFAR-10: a look votes for each class that it finds more probable


def votes(looks: Tensor, theta: float = THETA) -> Tensor:
    """(N,K) int64: how many of the looks (N,W,K), logits, vote for each class; one look may vote for several, or none."""
    return (looks.float().softmax(-1) > theta).sum(1)


def touched(patch: int, columns: int, across: int) -> int:
    """How many looks at `columns` columns a patch of this width may touch, in images `across` pixels wide."""
    return min(patch + columns - 1, across)


def certified(counts: Tensor, looks_touched: int) -> Tensor:
    """(N,) bool: no change of so many looks moves the vote of counts (N,K) from its winner, `counts.argmax(1)`.

    Theorem 1 of the paper: n_c >= max over c' != c of (n_c' + 1[c' < c]) + 2 * touched; of equal counts the class of the
    smaller number wins.
    """
    winner = counts.argmax(1, keepdim=True)  # the first of equal ones
    classes = torch.arange(counts.shape[1], device=counts.device)
    needed = counts + (classes < winner) + 2 * looks_touched
    return ((counts.gather(1, winner) >= needed) | (classes == winner)).all(1)
