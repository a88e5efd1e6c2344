"""Column smoothing counted: how many looks vote for each class, and whether a patch anywhere could turn the vote.

Levine and Feizi, arXiv:2002.10733: an m x m patch touches at most m + s - 1 of the looks at s columns, so each class gains
or loses at most that many votes.
"""

from __future__ import annotations

import torch
from torch import Tensor

THETA = 0.3  # the paper's, for CIFAR-10: a look votes for each class that it finds more probable


def ballots(looks: Tensor, theta: float = THETA) -> Tensor:
    """(N,W,K) bool: for which classes each of the looks (N,W,K), logits, votes: for several, or for none."""
    return looks.float().softmax(-1) > theta


def votes(looks: Tensor, theta: float = THETA) -> Tensor:
    """(N,K) int64: how many of the looks (N,W,K), logits, vote for each class."""
    return ballots(looks, theta).sum(1)


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


def touches(columns: int, patch: int, across: int) -> Tensor:
    """(P,W) bool: which of the W looks a patch of this width touches whose leftmost column is p; P = W - patch + 1 positions."""
    left = torch.arange(across - patch + 1)[:, None]
    first = torch.arange(across)  # leftmost column of each look; the last ones wrap around
    return (first - left + columns - 1) % across < touched(patch, columns, across)


def turned(ballots: Tensor, columns: int, patch: int) -> Tensor:
    """(P,K) bool: whether a patch whose leftmost column is p could make class k win, which does not win now.

    `ballots` (W,K) bool: for which classes each look votes. Exact for the vote: the touched looks may all vote for k and for
    nothing else, and no other look changes. Theorem 1 of the paper asks the same of every position at once, so what it
    certifies nothing here turns.
    """
    reached = touches(columns, patch, len(ballots)).to(ballots.device)
    total, classes = ballots.sum(0), ballots.shape[1]
    rest = total - (reached[:, :, None] & ballots).sum(1)  # (P, K)
    after = rest[:, None] + reached.sum(1)[:, None, None] * torch.eye(classes, dtype=torch.int64, device=ballots.device)
    wins = after.argmax(2) == torch.arange(
        classes, device=ballots.device
    )  # (P, K): after[p, k] is the count if k is helped
    return wins & (torch.arange(classes, device=ballots.device) != total.argmax())


def largest_patch(counts: Tensor, columns: int, across: int) -> Tensor:
    """(N,) int64: the largest side m of an m x m patch that moves no vote of counts (N,K); 0 where one pixel might."""
    sides = [certified(counts, touched(side, columns, across)) for side in range(1, across + 1)]
    return torch.stack(sides).sum(0)  # a smaller patch touches no more
