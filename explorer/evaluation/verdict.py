"""The last word on an attacked image: is it inside the ball, does it fool the model, and does it survive being saved?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from explorer.core import Ball, Classifier, Goal, InvalidValue, ThreatModel, as_classifier, use_generator

STOCHASTIC_DRAWS = 20  # fresh passes that decide about one image of a stochastic model
NOT_FINITE = "the model's logits are not finite"
SAME = 1e-6  # by so much pixels may differ that are made again, in another batch or on another device
PASS = 512  # images in one forward pass, unless more were given at once


@dataclass(frozen=True, eq=False)
class Verdict:
    """Per image; every tensor is (N,), on the CPU."""

    reached: Tensor  # bool: the goal holds, in more than half of the draws
    reached_8bit: Tensor  # bool: it still does after rounding to 8 bits
    predicted: Tensor  # int64, the class of most draws (the lowest of equals)
    predicted_8bit: Tensor  # int64
    inside: Tensor  # bool: allowed and within [0, 1], in float64, without tolerance
    linf: Tensor  # float64, largest change of any pixel
    l2: Tensor  # float64, Euclidean length of the change
    distance: Tensor  # float64, how far in the threat model's own unit
    draws: int
    share: Tensor  # float64, share of the draws at which the goal holds; 0 or 1 for a deterministic model


def verify(
    model: nn.Module,
    x: Tensor,
    x0: Tensor,
    goal: Goal,
    threat: ThreatModel,
    rng: torch.Generator,
    draws: int | None = None,
    theta: Tensor | None = None,
) -> Verdict:
    """Judge the images x (N,C,H,W), made from x0, in float32 and on draws the attack has not seen. Any `as_classifier` model.

    `draws` None: 1 for a deterministic model, 20 for a stochastic one. `theta` (N,P): the parameters that made x, under a
    transformation; it is inside if they are allowed and make x again. Raises InvalidValue for draws below 1, and without theta
    under a transformation; FloatingPointError if the model's logits are not finite (neither "robust" nor "fooled" would be
    true then).

    Examples:
        >>> from explorer.core import Ball, Goal, seeded
        >>> from explorer.evaluation import verify
        >>> from explorer.testing import small_case
        >>> model, x, y = small_case()
        >>> brighter = (x + 0.25).clamp(0, 1)
        >>> verdict = verify(model, brighter, x, Goal.untargeted(y), Ball("linf", 0.1), seeded(0))
        >>> bool(verdict.inside.any())
        False
    """
    model = as_classifier(model, like=x)
    draws = verdict_draws(model, draws)
    votes = [*_vote(model, x, goal, rng, draws), *_vote(model, round_to_8bit(x), goal, rng, draws)]
    # One copy for all that is whole: each of its own would make the host wait for a GPU.
    inside, distance = _standing(threat, x, x0, theta)
    whole = torch.stack([*votes, inside.long()]).cpu()
    finite, hits, predicted, finite_8bit, hits_8bit, predicted_8bit, allowed = whole
    if not bool((finite & finite_8bit).all()):
        raise FloatingPointError(NOT_FINITE)
    sizes = [Ball("linf", 1.0).distance(x, x0), Ball("l2", 1.0).distance(x, x0), distance]
    linf, l2, distance = torch.stack(sizes).cpu()
    share, share_8bit = hits.double() / draws, hits_8bit.double() / draws
    reached, reached_8bit = share > 0.5, share_8bit > 0.5
    return Verdict(reached, reached_8bit, predicted, predicted_8bit, allowed > 0, linf, l2, distance, draws, share)


def _standing(threat: ThreatModel, x: Tensor, x0: Tensor, theta: Tensor | None) -> tuple[Tensor, Tensor]:
    """(N,) bool and float64: is it allowed, and how far from changing nothing."""
    region = threat.around(x0)
    if isinstance(threat, Ball):
        return region.contains(x), region.distance(x)
    if theta is None:
        raise InvalidValue(f"theta, the parameters that made the images, must be given under {threat.name}; got none.")
    again = (region.apply(theta) - x).abs().flatten(1).amax(1) <= SAME
    return region.contains(theta) & again, region.distance(theta)


def verdict_draws(model: Classifier, draws: int | None = None) -> int:
    """How many draws decide about one image: as asked, else 20 for a stochastic model and 1 for any other."""
    if draws is None:
        return STOCHASTIC_DRAWS if model.stochastic else 1
    if draws < 1:
        raise InvalidValue(f"draws must be a whole number of at least 1; got {draws!r}.")
    return draws


def round_to_8bit(x: Tensor) -> Tensor:
    """Pixels as an 8-bit file would keep them: the nearest multiple of 1/255, ties to the even level."""
    return (x * 255).round() / 255


def draw_logits(model: Classifier, x: Tensor, rng: torch.Generator, draws: int) -> Iterator[Tensor]:
    """(d,N,K) float32 logits of `draws` passes over x, d of them at a time. Nothing is yielded inside `no_grad`."""
    for logits in _unchecked_logits(model, x, rng, draws):
        if not bool(torch.isfinite(logits).all()):
            raise FloatingPointError(NOT_FINITE)
        yield logits


def _unchecked_logits(model: Classifier, x: Tensor, rng: torch.Generator, draws: int) -> Iterator[Tensor]:
    at_once = max(1, PASS // max(len(x), 1))
    for done in range(0, draws, at_once):
        now = min(at_once, draws - done)
        with torch.no_grad(), use_generator(rng), torch.autocast(x.device.type, enabled=False):
            logits = model(x.float().repeat(now, 1, 1, 1)).float()
        yield logits.view(now, len(x), -1)


def _vote(model: Classifier, x: Tensor, goal: Goal, rng: torch.Generator, draws: int) -> tuple[Tensor, Tensor, Tensor]:
    """(N,) int64 each: 1 if all logits are finite, at how many of the draws the goal holds, the class of most draws."""
    finite, hits = torch.ones_like(goal.labels), torch.zeros_like(goal.labels)
    votes = torch.zeros_like(goal.labels)[:, None]
    for logits in _unchecked_logits(model, x, rng, draws):
        finite = finite * torch.isfinite(logits).all(2).all(0)  # (N,)
        more_hits, more_votes = count_votes(goal, logits)
        hits, votes = hits + more_hits, votes + more_votes
    return finite, hits, votes.argmax(1)


def count_votes(goal: Goal, logits: Tensor) -> tuple[Tensor, Tensor]:
    """Of looks (d,N,K): (N,) at how many of them the goal holds, and (N,K) how many see each class."""
    hits = torch.stack([goal.reached(one) for one in logits]).sum(0)
    return hits, F.one_hot(logits.argmax(2), logits.shape[2]).sum(0)
