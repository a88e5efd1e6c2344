"""Paired comparison of two models: exact tests on what both cards measured under the same conditions, and what else differs.

Where both cards keep a verdict for each image of the same images, McNemar's test looks at the images on which the two differ.
Otherwise Fisher's exact test compares the two counts; it takes the images for independent, which is conservative where they are
the same. The p-values of one comparison are adjusted together (Holm).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from explorer.core.statistics import holm, hypergeometric_test, mcnemar
from explorer.evaluation.measure import same_conditions, unpacked
from explorer.evaluation.tables import what
from explorer.models.zoo import Card

MCNEMAR, FISHER = "McNemar", "Fisher"
KINDS = ("clean", "noisy", "white-box", "adaptive", "certified")
LEFT_OUT = ("measures", "history", "name", "title", "summary", "command", "file", "sha256", "bytes")


@dataclass(frozen=True)
class Compared:
    """One measure of both: accuracies in [0, 1] of n images each, and the two-sided p-value for "they are equally good"."""

    measure: str
    first: float
    second: float
    n: int
    n_second: int
    test: str  # MCNEMAR or FISHER
    only_first: int | None  # images that the first alone has right (and still so); None: not known
    only_second: int | None
    p: float
    adjusted: float = 1.0  # by Holm, over all measures of the comparison


def compared(first: Card, second: Card) -> list[Compared]:
    """Every measure that both cards hold under the same conditions, in the first card's order."""
    found = []
    for a in first.measures:
        if a["kind"] not in KINDS or a.get("variant"):
            continue
        b = next((m for m in second.measures if same_conditions(a, m)), None)
        if b is not None:
            found.append(_pair(a, b))
    adjusted = holm([one.p for one in found])
    return [replace(one, adjusted=p) for one, p in zip(found, adjusted, strict=True)]


def _pair(a: Mapping[str, Any], b: Mapping[str, Any]) -> Compared:
    same = a.get("rows") and a["rows"] == b.get("rows") and a.get("verdicts") and b.get("verdicts")
    told = Compared(what(a), a["accuracy"], b["accuracy"], a["n"], b["n"], FISHER, None, None, 1.0)
    if not same:
        p = hypergeometric_test(a["correct"], a["n"], a["correct"] + b["correct"], a["n"] + b["n"])
        return replace(told, p=p)
    pairs = list(zip(unpacked(a["verdicts"], a["n"]), unpacked(b["verdicts"], b["n"]), strict=True))
    only, other = sum(x and not y for x, y in pairs), sum(y and not x for x, y in pairs)
    return replace(told, test=MCNEMAR, only_first=only, only_second=other, p=mcnemar(only, other))


def differences(first: Card, second: Card) -> list[tuple[str, str, str]]:
    """What differs between the two cards apart from measures, field by field: the field, and what either says ("–": nothing)."""
    a, b = _flat(asdict(first)), _flat(asdict(second))
    return [(key, a.get(key, "–"), b.get(key, "–")) for key in dict.fromkeys([*a, *b]) if a.get(key) != b.get(key)]


def _flat(values: Mapping[str, Any], before: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in values.items():
        if not before and key in LEFT_OUT:
            continue
        name = f"{before}{key}"
        found |= _flat(value, f"{name}.") if isinstance(value, Mapping) else {name: str(value)}
    return found
