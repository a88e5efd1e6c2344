"""Catastrophic overfitting: a network that learned to withstand a single step, and nothing else (arXiv:2001.03994).

The signs, in the held-out scores of the epochs ("robust": PGD, "fgsm": a single full step): the single step harms far less
than PGD does, or robust accuracy falls within an epoch while that under the single step does not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

APART = 0.25  # so much more accuracy under a single step than under PGD: networks that did not collapse differ by 0.02 to 0.1
FALL = 0.20  # of robust accuracy, within an epoch
STEADY = 0.05  # accuracy under the single step that has not fallen by more has not fallen

History = Sequence[Mapping[str, Any]]


def collapsed(history: History) -> list[bool]:
    """For each epoch whether the network was collapsed after it. Once it is, it stays so until half of the gap has closed."""
    found: list[bool] = []
    for index, now in enumerate(history):
        if "fgsm" not in now:
            found.append(False)
            continue
        before = history[index - 1] if index else {}
        gap = now["fgsm"] - now["robust"]
        fell = "fgsm" in before and before["robust"] - now["robust"] >= FALL and now["fgsm"] >= before["fgsm"] - STEADY
        found.append(gap > APART or fell or (index > 0 and found[-1] and gap > APART / 2))
    return found


def warning(history: History) -> str:
    """One sentence if any epoch was collapsed, and one on the epoch that is kept; else nothing."""
    found = collapsed(history)
    if True not in found:
        return ""
    first, last = found.index(True), len(found) - 1 - found[::-1].index(True)
    when = f"since epoch {first + 1}" if found[-1] else f"from epoch {first + 1} to epoch {last + 1}"
    worst = history[last]
    said = (
        f"Catastrophic overfitting {when}: after epoch {last + 1}, {worst['fgsm']:.1%} of the held-out images withstand a "
        f"single step, but only {worst['robust']:.1%} withstand PGD."
    )
    kept = max(range(len(history)), key=lambda i: (history[i]["score"], i))
    return f"{said} The best epoch, {kept + 1}, {'is one of these' if found[kept] else 'is none of these'}."
