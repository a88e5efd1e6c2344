"""Outcome of an attack on an image, in one of four words: wrong before it, fooled by it, it holds, or the target is missed."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import torch
from torch import Tensor

from explorer.core import Goal, Trace
from explorer.evaluation.verdict import Verdict, count_votes


class Ending(StrEnum):
    """What came of an attack on one image. Every page, count, table and command takes the word from here."""

    WRONG_BEFORE = "wrong before"  # the model has it wrong before anything is changed: nobody had to be fooled
    FOOLED = "fooled"
    HOLDS = "holds"
    TARGET_MISSED = "target missed"  # whatever else the model sees, it is not the class that was asked for


def endings(
    verdict: Verdict, y: Tensor, target: int | None, wrong_before: Tensor, also: Tensor | None = None
) -> list[Ending]:
    """What came of N images of classes y (N,), by the verdict on the attacked ones; `wrong_before` (N,) bool of the untouched.
    `also` (N,): a second class that is right, too (`Goal.also`).

    An image that is wrong but outside the allowed change fools nobody. Without a target, a tied vote
    is no right answer (`classified_right`).
    """
    fooled = fooling(verdict, y, target, also)
    missed = Ending.HOLDS if target is None else Ending.TARGET_MISSED
    return [
        Ending.WRONG_BEFORE if before else Ending.FOOLED if hit else missed
        for before, hit in zip(wrong_before.tolist(), fooled.tolist(), strict=True)
    ]


def classified_right(verdict: Verdict, y: Tensor, also: Tensor | None = None) -> Tensor:
    """(N,) bool: the true class, or the second one that is right, has most votes, and is not outvoted by all others together.
    Ties help nobody."""
    right = verdict.predicted == y.cpu()
    if also is not None:
        right |= verdict.predicted == also.cpu()
    return right & ~verdict.reached


def fooling(verdict: Verdict, y: Tensor, target: int | None, also: Tensor | None = None) -> Tensor:
    """(N,) bool, of images that the model had right before: the goal is reached, inside of what may change."""
    won = verdict.reached if target is not None else ~classified_right(verdict, y, also)
    return won & verdict.inside


def wrong_in_most(logits: Tensor, y: Tensor) -> Tensor:
    """(N,) bool, of looks (d,N,K) at images of classes y (N,): the opposite of `classified_right`."""
    wrong, votes = count_votes(Goal.untargeted(y), logits)
    return (2 * wrong > len(logits)) | (votes.argmax(1) != y)


def accepted(logits: Tensor, y: Tensor, top: int) -> Tensor:
    """(N,) int64: what counts as the class of images of classes y (N,) whose mean logits are (N,K).

    Where an answer is right if the label is among the `top` largest logits (ImageNet's top 5), it is the model's own first
    answer for each image that is right, and an attack's goal is to change that; it is the label for all others.
    """
    if top == 1:
        return y
    own = logits.gather(1, y[:, None])
    right = (logits > own).sum(1) < top
    return torch.where(right, logits.argmax(1), y)


def reached_in_most(logits: Tensor, goal: Goal) -> Tensor:
    """(N,) bool, of looks (d,N,K): the goal is reached in more than half of them, as a verdict counts."""
    hits, _ = count_votes(goal, logits)
    return 2 * hits > len(logits)


def first_answer(logits: Tensor, label: int | None) -> dict[str, Any]:
    """For the conditions: whether most of the looks (d,K) at the untouched image are wrong, and how many there were.

    `label` None: nobody said what the image shows, so no answer is wrong.
    """
    y = None if label is None else torch.tensor([label], device=logits.device)
    wrong = y is not None and bool(wrong_in_most(logits[:, None], y))
    return {"wrong_before": wrong, "draws_before": len(logits)}


def ending(trace: Trace, verdict: Verdict, found: bool = True) -> Ending:
    """What came of the walk by the verdict on the image that counts; `found`: its attack, too, took it for a success."""
    before, y, also = torch.tensor([trace.wrong_before]), torch.tensor([trace.label]), torch.tensor([trace.also])
    (word,) = endings(verdict, y, trace.target, before, also)
    if word == Ending.FOOLED and not found:
        return Ending.HOLDS if trace.target is None else Ending.TARGET_MISSED
    return word
