"""What an attack wants: any wrong class, or one chosen class."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from explorer.core.errors import InvalidValue

LossName = Literal["ce", "margin", "dlr"]
LOSSES: tuple[LossName, ...] = ("ce", "margin", "dlr")
TINY = 1e-12  # the least denominator of DLR


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
        """(N,), always ascended.

        "ce": cross-entropy of the true class (minus that of the target). "margin": `margin`. "dlr": the margin divided
        by how far the best logits lie apart (`spread`), so that no scale of the logits matters (Croce & Hein,
        arXiv:2003.01690, eqs. 6 and 7); it needs 3 classes, targeted 4.
        differs: toward a target, the strongest other class stands where eq. 7 has the true one, which the goal does not
        know and which may be beaten long before the target wins.
        """
        if kind == "margin":
            return self.margin(logits)
        if kind == "dlr":
            return self.margin(logits) / spread(logits, self.is_targeted)[0]
        cross_entropy = F.cross_entropy(logits, self.labels, reduction="none")
        return -cross_entropy if self.is_targeted else cross_entropy

    def margin(self, logits: Tensor) -> Tensor:
        """(N,) largest other logit minus the true one (target: the reverse). Positive means reached (CW f, sign flipped)."""
        labels = self.labels[:, None]
        own = logits.gather(1, labels)[:, 0]
        other = logits.scatter(1, labels, -math.inf).amax(1)
        return own - other if self.is_targeted else other - own

    def reached(self, logits: Tensor) -> Tensor:
        """(N,) bool. A tie is not reached, and neither is NaN."""
        return self.margin(logits) > 0

    def rivals(self, logits: Tensor, count: int) -> Tensor:
        """(N,R) int64: the `count` classes, or all if there are fewer, of the largest logits among all but `labels`."""
        others = torch.arange(logits.shape[1] - 1, device=logits.device)
        others = others + (others >= self.labels[:, None])  # (N,K-1); a mask of -inf could tie with a logit of -inf
        return others.gather(1, logits.gather(1, others).topk(min(count, others.shape[1]), dim=1).indices)

    def logit_grad(self, logits: Tensor, kind: LossName = "ce") -> Tensor:
        """d loss / d logits up to a positive factor per image, (N,K), free of underflow.

        Steps use only the direction of a gradient, so each row may be scaled. Cross-entropy's row is
        softmax - onehot; written as -sum of the other probabilities at the true class, and scaled to a largest
        entry of 1, it stays exact where float32 autograd would return zeros (a very confident network).
        """
        labels = self.labels[:, None]
        others = logits.scatter(1, labels, -math.inf)
        if kind == "ce":
            grad = torch.softmax(others, dim=1)  # 0 at the label, the others sum to 1
        else:
            grad = torch.zeros_like(logits).scatter_(1, others.argmax(1, keepdim=True), 1.0)
        grad = grad.scatter_(1, labels, -1.0)
        grad = -grad if self.is_targeted else grad
        return dlr_logit_grad(grad, self.margin(logits), logits, self.is_targeted)[0] if kind == "dlr" else grad

    def log_grad_norm(self, logits: Tensor, kind: LossName = "ce") -> Tensor:
        """(N,) log of the factor that `logit_grad` leaves out: grad * exp(log_grad_norm) is the derivative. -inf where that is 0."""
        if kind == "margin":
            return logits.new_zeros(len(logits))
        if kind == "dlr":
            return dlr_logit_grad(self.logit_grad(logits, "margin"), self.margin(logits), logits, self.is_targeted)[1]
        return torch.log_softmax(logits, 1).scatter(1, self.labels[:, None], -math.inf).logsumexp(1)  # 1 - p(label)

    def rows(self, keep: Tensor) -> Goal:
        """The goal of a subset of the images (index or mask)."""
        return Goal(self.labels[keep], self.is_targeted)

    def repeated(self, times: int) -> Goal:
        """Each label `times` times in a row: for averaging over a stochastic model's draws."""
        return Goal(self.labels.repeat_interleave(times), self.is_targeted)


def spread(logits: Tensor, targeted: bool) -> tuple[Tensor, Tensor]:
    """DLR's denominator, (N,) > 0, and its derivative (N,K): z1 - z3 of the sorted logits; targeted, z1 - (z3 + z4)/2."""
    least = 4 if targeted else 3
    if logits.shape[1] < least:
        aimed = "the targeted DLR loss" if targeted else "the DLR loss"
        raise InvalidValue(f"{aimed} must have at least {least} classes to compare; got {logits.shape[1]}.")
    best, classes = logits.topk(least, dim=1)
    weights = logits.new_tensor([1.0, 0.0, -0.5, -0.5] if targeted else [1.0, 0.0, -1.0])
    value = ((best[:, 2:] - best[:, :1]) * weights[2:]).sum(1)  # of differences: exact however large the logits are
    return value.clamp(min=TINY), torch.zeros_like(logits).scatter(1, classes, weights.expand_as(best))


def dlr_logit_grad(rise: Tensor, gap: Tensor, logits: Tensor, targeted: bool) -> tuple[Tensor, Tensor]:
    """The derivative of gap / spread as `logit_grad` (N,K) and `log_grad_norm` (N,); rise (N,K) is the derivative of gap (N,).

    Where the true class comes third DLR is 1 whatever the logits are. Such an image is fooled, so its gradient hides
    nothing: `rise` itself is the gradient there, and the slope is 0.
    """
    value, slope = spread(logits, targeted)
    grad = rise * value[:, None] - gap[:, None] * slope  # the derivative times value ** 2
    largest = grad.abs().amax(1)
    return torch.where(largest[:, None] == 0, rise, grad / largest[:, None]), largest.log() - 2 * value.log()
