"""The last word on an attacked image: is it inside the ball, does it fool the model, and does it survive being saved?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from explorer.core import Ball, Classifier, Goal, InvalidValue, as_classifier, use_generator

STOCHASTIC_DRAWS = 20  # fresh passes that decide about one image of a stochastic model
PASS = 512  # images in one forward pass, unless more were given at once


@dataclass(frozen=True, eq=False)
class Verdict:
    """Per image; every tensor is (N,), on the CPU."""

    reached: Tensor  # bool: the goal holds, in more than half of the draws
    reached_8bit: Tensor  # bool: it still does after rounding to 8 bits
    predicted: Tensor  # int64, the class of most draws (the lowest of equals)
    predicted_8bit: Tensor  # int64
    inside: Tensor  # bool: within the ball and [0, 1], in float64, without tolerance
    linf: Tensor  # float64, largest change of any pixel
    l2: Tensor  # float64, Euclidean length of the change
    draws: int
    share: Tensor  # float64, share of the draws at which the goal holds; 0 or 1 for a deterministic model


def verify(
    model: nn.Module, x: Tensor, x0: Tensor, goal: Goal, ball: Ball, rng: torch.Generator, draws: int | None = None
) -> Verdict:
    """Judge the images x (N,C,H,W), made from x0, in float32 and on draws the attack has not seen. Any `as_classifier` model.

    `draws` None: 1 for a deterministic model, 20 for a stochastic one. Raises InvalidValue for draws below 1 and
    FloatingPointError if the model's logits are not finite (neither "robust" nor "fooled" would be true then).
    """
    model = as_classifier(model, like=x)
    draws = verdict_draws(model, draws)
    share, predicted = _vote(model, x, goal, rng, draws)
    share_8bit, predicted_8bit = _vote(model, round_to_8bit(x), goal, rng, draws)
    linf, l2 = Ball("linf", 1.0).distance(x, x0).cpu(), Ball("l2", 1.0).distance(x, x0).cpu()
    inside = ball.around(x0).contains(x).cpu()
    return Verdict(share > 0.5, share_8bit > 0.5, predicted, predicted_8bit, inside, linf, l2, draws, share)


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
    at_once = max(1, PASS // max(len(x), 1))
    for done in range(0, draws, at_once):
        yield _logits(model, x, rng, min(at_once, draws - done))


def _logits(model: Classifier, x: Tensor, rng: torch.Generator, draws: int) -> Tensor:
    with torch.no_grad(), use_generator(rng), torch.autocast(x.device.type, enabled=False):
        logits = model(x.float().repeat(draws, 1, 1, 1)).float()
    if not bool(torch.isfinite(logits).all()):
        raise FloatingPointError("the model's logits are not finite")
    return logits.view(draws, len(x), -1)


def _vote(model: Classifier, x: Tensor, goal: Goal, rng: torch.Generator, draws: int) -> tuple[Tensor, Tensor]:
    """(N,) share of the draws at which the goal holds, and (N,) the class of most draws."""
    hits, votes = 0, 0
    for logits in draw_logits(model, x, rng, draws):
        hits = hits + torch.stack([goal.reached(one) for one in logits]).sum(0)  # (N,)
        votes = votes + F.one_hot(logits.argmax(2), logits.shape[2]).sum(0)  # (N,K)
    return hits.cpu().double() / draws, votes.argmax(1).cpu()
