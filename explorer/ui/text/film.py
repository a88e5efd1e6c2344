"""What the film and the tape of a run show, in sentences with their conditions; robust overfitting, where a test finds it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from explorer.core.statistics import mcnemar
from explorer.training.watched import BoundarySlice, TapeColumn

LEVEL = 0.01  # of the test that robust accuracy has fallen


def film(slices: Sequence[BoundarySlice]) -> str:
    """What is seen, and how it was made."""
    last = slices[-1]
    return (
        f"{len(slices)} slice{'s' * (len(slices) > 1)} through one held-out picture, by the averaged weights; eps is "
        f"{255 * last.eps:.4g}/255 in L∞. To the "
        "right goes one FGSM step of the network as it was then; sideways random signs, the same in all slices. Pale: less sure. A "
        "network that has learned to withstand the one step alone is right at 1 and wrong on the way there. A plane shows what lies "
        "on it, and no more."
    )


def states(tape: Sequence[TapeColumn]) -> tuple[np.ndarray, tuple[str, str, str]]:
    """(N,E) 0 wrong, 1 right and fooled, 2 holds, and what these are called: of the attacked pictures, where there are any."""
    if all(one.robust is not None for one in tape):
        robust = np.stack([one.robust for one in tape if one.robust is not None], 1)
        right = np.stack([one.right[: len(robust)] for one in tape], 1)
        return np.where(robust, 2, np.where(right, 1, 0)), ("wrong", "right, but fooled by the attack", "stays right")
    return np.stack([one.right for one in tape], 1) * 2, ("wrong", "", "right")


def fates(tape: Sequence[TapeColumn]) -> str:
    """How many pictures are right now, were lost, or were never right; and the same under attack."""
    said = [_counts(np.stack([one.right for one in tape], 1), "held-out pictures", "right")]
    robust = [one.robust for one in tape if one.robust is not None]
    if len(robust) == len(tape):
        said.append(_counts(np.stack(robust, 1), "that are attacked", "robust"))
    return f"After epoch {tape[-1].epoch}. {' '.join(said)} Each row is a picture, sorted by how long it holds."


def _counts(held: np.ndarray, which: str, word: str) -> str:
    now, ever = held[:, -1], held.any(1)
    lost, never = int((ever & ~now).sum()), int((~ever).sum())
    return (
        f"Of {len(held):,} {which} {now.sum():,} are {word}, {lost:,} were so after an earlier epoch, {never:,} never."
    )


def robust_overfitting(tape: Sequence[TapeColumn], losses: Mapping[int, float]) -> str:
    """One sentence if significantly more pictures have lost their robustness since the best epoch than have won it, while the
    training loss went down; else nothing (Rice et al., arXiv:2002.11569)."""
    known = [(one.epoch, one.robust) for one in tape if one.robust is not None]
    if len(known) < 2:
        return ""
    (best, then), (last, now) = max(known, key=lambda one: int(one[1].sum())), known[-1]
    lost, won = int((then & ~now).sum()), int((now & ~then).sum())
    falls = best in losses and last in losses and losses[last] < losses[best]
    if last == best or lost <= won or not falls or mcnemar(lost, won) >= LEVEL:
        return ""
    return (
        f"Robust overfitting: since epoch {best} the training loss has gone from {losses[best]:.2f} to {losses[last]:.2f}, but of "
        f"{len(now):,} held-out pictures under attack {int(now.sum()):,} stay right instead of {int(then.sum()):,}: {lost:,} lost, "
        f"{won:,} won (exact McNemar test, below {LEVEL:g}; the best epoch is chosen by the same pictures, which flatters it). "
        "The best epoch is kept."
    )
