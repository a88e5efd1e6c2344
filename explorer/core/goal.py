"""What an attack wants: any wrong class, or one chosen class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from explorer.core.errors import InvalidValue

LossName = Literal["ce", "margin"]
LOSSES = ("ce", "margin")


@dataclass(frozen=True, eq=False)
class Goal:
    """Untargeted: leave class `labels`. Targeted: reach class `labels`. `labels` is (N,) int64."""

    labels: Tensor
    is_targeted: bool = False

    def __post_init__(self) -> None:
        if self.labels.ndim != 1 or self.labels.dtype != torch.int64:
            raise InvalidValue(f"goal labels must be (N,) int64; got {tuple(self.labels.shape)} {self.labels.dtype}.")

    @classmethod
    def untargeted(cls, labels: Tensor) -> Goal:
        return cls(labels, False)

    @classmethod
    def targeted(cls, labels: Tensor) -> Goal:
        return cls(labels, True)

    def loss(self, logits: Tensor, kind: LossName = "ce") -> Tensor:
        """(N,), always ascended. "ce": cross-entropy of the true class (minus that of the target); "margin": `margin`."""
        if kind == "margin":
            return self.margin(logits)
        cross_entropy = F.cross_entropy(logits, self.labels, reduction="none")
        return -cross_entropy if self.is_targeted else cross_entropy

    def margin(self, logits: Tensor) -> Tensor:
        """(N,) largest other logit minus the true one (target: the reverse). Positive means reached (CW f, sign flipped)."""
        own = logits.gather(1, self.labels[:, None])[:, 0]
        other = logits.scatter(1, self.labels[:, None], float("-inf")).amax(1)
        return own - other if self.is_targeted else other - own

    def reached(self, logits: Tensor) -> Tensor:
        """(N,) bool. A tie is not reached, and neither is NaN."""
        return self.margin(logits) > 0

    def pull(self, logits: Tensor, kind: LossName = "ce") -> Tensor:
        """d loss / d logits up to a positive factor per image, (N,K), free of underflow.

        Steps use only the direction of a gradient, so each row may be scaled. Cross-entropy's row is
        softmax - onehot; written as -sum of the other probabilities at the true class, and scaled to a largest
        entry of 1, it stays exact where float32 autograd would return zeros (a very confident network).
        """
        onehot = F.one_hot(self.labels, logits.shape[1]).bool()
        if kind == "margin":
            best_other = logits.masked_fill(onehot, float("-inf")).argmax(1)
            pull = F.one_hot(best_other, logits.shape[1]).to(logits.dtype) - onehot.to(logits.dtype)
        else:
            others = torch.softmax(logits.masked_fill(onehot, float("-inf")), dim=1)  # (N,K), 0 at the label
            pull = torch.where(onehot, -torch.ones_like(others), others)
        return -pull if self.is_targeted else pull

    def rows(self, keep: Tensor) -> Goal:
        """The goal of a subset of the images (index or mask)."""
        return Goal(self.labels[keep], self.is_targeted)

    def repeated(self, times: int) -> Goal:
        """Each label `times` times in a row: for averaging over a stochastic model's draws."""
        return Goal(self.labels.repeat_interleave(times), self.is_targeted)
