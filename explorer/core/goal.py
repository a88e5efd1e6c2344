"""What an attack wants: any wrong class, or one chosen class."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from explorer.core.errors import InvalidValue

LossName = Literal["ce", "margin", "dlr", "probability", "jitter", "kl"]
LOSSES: tuple[LossName, ...] = get_args(LossName)[:-1]  # "kl" asks for logits of the untouched images besides
SOFT = ("probability", "jitter", "kl")  # of the probabilities; differentiated by torch
JITTER = 10.0  # how sharp Jitter's probabilities are (alpha of arXiv:2105.10304)
TINY = 1e-12  # the least denominator of DLR
LEAST = 1e-300  # of a slope of the probabilities, else it is flat


@dataclass(frozen=True, eq=False)
class Goal:
    """Untargeted: leave class `labels`. Targeted: reach class `labels`. `labels` is (N,) int64.

    `also` (N,) int64, untargeted: a second class of each image that is to be left, too, the same as in `labels` where there is none:
    the label of a photograph that the model takes for something like it first, and among its first five for what it is. The
    "true class" below is then the likelier of both, and cross-entropy that of the two together.

    Examples:
        >>> import torch
        >>> from explorer.core import Goal
        >>> logits = torch.tensor([[2.0, 5.0, 1.0]])
        >>> Goal.untargeted(torch.tensor([0])).reached(logits)  # the label is 0, the model says 1
        tensor([True])
        >>> Goal.targeted(torch.tensor([2])).margin(logits)
        tensor([-4.])
    """

    labels: Tensor
    is_targeted: bool = False
    clean: Tensor | None = None  # (N,K) logits of the untouched images, for "kl"
    also: Tensor | None = None

    def __post_init__(self) -> None:
        if self.labels.ndim != 1 or self.labels.dtype != torch.int64:
            raise InvalidValue(f"goal labels must be (N,) int64; got {tuple(self.labels.shape)} {self.labels.dtype}.")

    @classmethod
    def untargeted(cls, labels: Tensor, also: Tensor | None = None) -> Goal:
        return cls(labels, False, also=also)

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

        "probability": the margin of the probabilities instead of the logits. "jitter": how far the softmax of JITTER * logits /
        max |logits| lies from the true class's corner (minus that from the target's), as a length (Schwinn et al.,
        arXiv:2105.10304). differs: of centred logits, as a constant added to all of
        them means nothing; without its noise, and not divided by the change's norm once fooled. "kl": KL
        divergence of the answer from that to the untouched image, `clean` (TRADES' inner attack, Zhang et al., arXiv:1901.08573;
        0 without it). differs: toward a target it is cross-entropy.
        """
        if kind in SOFT:
            return self._soft(logits, kind)
        if kind == "margin":
            return self.margin(logits)
        if kind == "dlr":
            return self.margin(logits) / spread(logits, self.is_targeted)[0]
        if self.also is not None:
            return logits.logsumexp(1) - self._left(logits).logsumexp(1)
        cross_entropy = F.cross_entropy(logits, self.labels, reduction="none")
        return -cross_entropy if self.is_targeted else cross_entropy

    def _soft(self, logits: Tensor, kind: LossName) -> Tensor:
        """(N,) a loss of the probabilities."""
        if kind == "kl":
            if self.is_targeted:
                return self.loss(logits, "ce")
            clean = (logits.detach() if self.clean is None else self.clean.to(logits)).log_softmax(1)
            return (clean.exp() * (clean - logits.log_softmax(1))).sum(1)
        if kind == "probability":
            return self.margin(logits.softmax(1))
        centred = logits - logits.mean(1, keepdim=True)
        sharp = (JITTER * centred / centred.abs().amax(1, keepdim=True).clamp(min=TINY)).softmax(1)
        corner = F.one_hot(self._own(logits)[1][:, 0], logits.shape[1]).to(sharp)
        far: Tensor = torch.linalg.vector_norm(sharp - corner, dim=1)
        return -far if self.is_targeted else far

    def _soft_slope(self, logits: Tensor, kind: LossName) -> Tensor:
        """(N,K) the derivative of a loss of the probabilities, in float64, so that little of it is lost."""
        if kind == "probability":
            return self._slope_of_probabilities(logits)
        with torch.enable_grad():
            leaf = (logits.double() if logits.device.type != "mps" else logits).detach().requires_grad_(True)
            (slope,) = torch.autograd.grad(self._soft(leaf, kind).sum(), leaf)
        found: Tensor = slope
        return found

    def _slope_of_probabilities(self, logits: Tensor) -> Tensor:
        """(N,K) the derivative of the margin p_j - p_y of the probabilities, without differences of nearly equal numbers."""
        p, labels = (logits.double() if logits.device.type != "mps" else logits).softmax(1), self._own(logits)[1]
        others = p.scatter(1, labels, 0.0)
        own, rival = p.gather(1, labels), self._others(p).argmax(1, keepdim=True)
        best = p.gather(1, rival)
        slope = (p * (own - best)).scatter(1, labels, -own * (best + others.sum(1, keepdim=True)))
        slope = slope.scatter(1, rival, best * (own + p.scatter(1, rival, 0.0).sum(1, keepdim=True)))
        return -slope if self.is_targeted else slope

    def margin(self, logits: Tensor) -> Tensor:
        """(N,) largest other logit minus the true one (target: the reverse). Positive means reached (CW f, sign flipped)."""
        own, other = self._own(logits)[0], self._others(logits).amax(1)
        return own - other if self.is_targeted else other - own

    def _own(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """The logit (N,) and the number (N,1) of the class that is left or reached: of two the likelier."""
        labels = self.labels[:, None]
        if self.also is not None:
            both = torch.stack((self.labels, self.also), 1)
            labels = both.gather(1, logits.gather(1, both).argmax(1, keepdim=True))
        return logits.gather(1, labels)[:, 0], labels

    def _others(self, logits: Tensor) -> Tensor:
        """(N,K) the logits, -inf at `labels` and `also`."""
        others = logits.scatter(1, self.labels[:, None], -math.inf)
        return others if self.also is None else others.scatter(1, self.also[:, None], -math.inf)

    def _left(self, logits: Tensor) -> Tensor:
        """(N,K) the logits at `labels` and `also`, -inf at all others."""
        return torch.where(self._others(logits) == -math.inf, logits, -math.inf)

    def _slope_of_two(self, logits: Tensor) -> Tensor:
        """(N,K) the derivative of cross-entropy of two classes together, divided by the probability of all others."""
        return self._others(logits).softmax(1) - self._left(logits).softmax(1)

    def reached(self, logits: Tensor) -> Tensor:
        """(N,) bool. A tie is not reached, and neither is NaN."""
        return self.margin(logits) > 0

    def rivals(self, logits: Tensor, count: int) -> Tensor:
        """(N,R) int64: the `count` classes, or all if there are fewer, of the largest logits among all but `labels`."""
        if self.also is not None:
            return self._others(logits).topk(min(count, logits.shape[1] - 2), dim=1).indices
        others = torch.arange(logits.shape[1] - 1, device=logits.device)
        others = others + (others >= self.labels[:, None])  # (N,K-1); a mask of -inf could tie with a logit of -inf
        return others.gather(1, logits.gather(1, others).topk(min(count, others.shape[1]), dim=1).indices)

    def logit_grad(self, logits: Tensor, kind: LossName = "ce") -> Tensor:
        """d loss / d logits up to a positive factor per image, (N,K), free of underflow.

        Steps use only the direction of a gradient, so each row may be scaled. Cross-entropy's row is
        softmax - onehot; written as -sum of the other probabilities at the true class, and scaled to a largest
        entry of 1, it stays exact where float32 autograd would return zeros (a very confident network).
        """
        if kind in SOFT:
            slope = self._soft_slope(logits, kind)
            return (slope / slope.abs().amax(1, keepdim=True).clamp(min=LEAST)).to(logits)
        if kind == "ce" and self.also is not None:
            grad = self._slope_of_two(logits)
            return grad / grad.abs().amax(1, keepdim=True)
        others = self._others(logits)
        if kind == "ce":
            grad = torch.softmax(others, dim=1)  # 0 at the label, the others sum to 1
        else:
            grad = torch.zeros_like(logits).scatter_(1, others.argmax(1, keepdim=True), 1.0)
        grad = grad.scatter_(1, self._own(logits)[1], -1.0)
        grad = -grad if self.is_targeted else grad
        return dlr_logit_grad(grad, self.margin(logits), logits, self.is_targeted)[0] if kind == "dlr" else grad

    def log_grad_norm(self, logits: Tensor, kind: LossName = "ce") -> Tensor:
        """(N,) log of the factor that `logit_grad` leaves out: grad * exp(log_grad_norm) is the derivative. -inf where that is 0."""
        if kind == "margin":
            return logits.new_zeros(len(logits))
        if kind in SOFT:
            return self._soft_slope(logits, kind).abs().amax(1).log().to(logits)
        if kind == "dlr":
            return dlr_logit_grad(self.logit_grad(logits, "margin"), self.margin(logits), logits, self.is_targeted)[1]
        rest = self._others(torch.log_softmax(logits, 1)).logsumexp(1)  # 1 - p(label)
        return rest if self.also is None else rest + self._slope_of_two(logits).abs().amax(1).log()

    def rows(self, keep: Tensor) -> Goal:
        """The goal of a subset of the images (index or mask)."""
        return self._each(lambda values: values[keep])

    def repeated(self, times: int) -> Goal:
        """Each label `times` times in a row: for averaging over a stochastic model's draws."""
        return self._each(lambda values: values.repeat_interleave(times, dim=0))

    def _each(self, of: Callable[[Tensor], Tensor]) -> Goal:
        clean, also = (None if values is None else of(values) for values in (self.clean, self.also))
        return Goal(of(self.labels), self.is_targeted, clean, also)

    def beside(self, clean: Tensor) -> Goal:
        """With the logits (N,K) of the untouched images."""
        return replace(self, clean=clean)


def spread(logits: Tensor, targeted: bool) -> tuple[Tensor, Tensor]:
    """DLR's denominator, (N,) > 0, and its derivative (N,K): z1 - z3 of the sorted logits; targeted, z1 - (z3 + z4)/2."""
    least = 4 if targeted else 3
    if logits.shape[1] < least:
        aimed = "the targeted DLR loss" if targeted else "the DLR loss"
        raise InvalidValue(f"{aimed} must have at least {least} classes to compare; got {logits.shape[1]}.")
    best, classes = logits.topk(least, dim=1)
    weights = _weights(targeted, logits.dtype, logits.device)
    value = ((best[:, 2:] - best[:, :1]) * weights[2:]).sum(1)  # of differences: exact however large the logits are
    return value.clamp(min=TINY), torch.zeros_like(logits).scatter(1, classes, weights.expand_as(best))


@cache  # made once: a copy to a GPU makes the host wait
def _weights(targeted: bool, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Those of the sorted logits in `spread`."""
    with torch.inference_mode(False):
        return torch.tensor([1.0, 0.0, -0.5, -0.5] if targeted else [1.0, 0.0, -1.0], dtype=dtype, device=device)


def dlr_logit_grad(rise: Tensor, gap: Tensor, logits: Tensor, targeted: bool) -> tuple[Tensor, Tensor]:
    """The derivative of gap / spread as `logit_grad` (N,K) and `log_grad_norm` (N,); rise (N,K) is the derivative of gap (N,).

    Where the true class comes third DLR is 1 whatever the logits are. Such an image is fooled, so its gradient hides
    nothing: `rise` itself is the gradient there, and the slope is 0.
    """
    value, slope = spread(logits, targeted)
    grad = rise * value[:, None] - gap[:, None] * slope  # the derivative times value ** 2
    largest = grad.abs().amax(1)
    return torch.where(largest[:, None] == 0, rise, grad / largest[:, None]), largest.log() - 2 * value.log()
