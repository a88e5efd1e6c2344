"""Rounding of numbers for people, one rule: sizes of changes up to three digits, probabilities and shares never to a false 0 or 100 %.

An eps that somebody chose is not rounded at all (`eps_text`), a proven radius is rounded down (`plots.certify.down`).
"""

from __future__ import annotations

import math
from decimal import ROUND_CEILING, ROUND_HALF_EVEN, Decimal

from explorer.core.ball import NORM_NAMES, TRANSFORMATIONS

DIGITS = 3
TINY = Decimal("1e-5")  # relative: a number so little above a rounded one is that, since pixels are float32


def size(value: float, norm: str | None) -> str:
    """How far an image was changed, for a caption, a verdict, a table and a median alike: "4.24/255" in Linf, "3 pixels"
    in L0, else "0.313"; of a rotation and shift the share of what is allowed at eps 1, of a corruption its severity.

    Three digits, rounded up, so that "by no more than" stays true; "not finite" where it is none.
    """
    if not math.isfinite(value):
        return "not finite"
    if norm == "rotation":
        return f"{_up(100 * value)} %"
    if norm == "corruption":
        return f"{value:.0f}"
    if norm == "l0":
        return "1 pixel" if value == 1 else f"{value:.0f} pixels" if value == int(value) else f"{_up(value)} pixels"
    return f"{_up(255 * value)}/255" if norm == "linf" else _up(value)


def of_change(value: float, norm: str) -> str:
    """What a change does, by its size in a norm: "moves no pixel by more than 8/255 (L∞)", "has length 0.5 (L2)"."""
    if norm in TRANSFORMATIONS:
        return (
            f"goes {size(value, norm)} of the way allowed"
            if norm == "rotation"
            else f"has severity {size(value, norm)}"
        )
    verb = {"linf": "moves no pixel by more than", "l2": "has length", "l1": "adds up to", "l0": "touches"}[norm]
    return f"{verb} {size(value, norm)} ({NORM_NAMES[norm]})"


def percent(p: float) -> str:
    """A probability: 0.928 is "93 %"; but "over 99 %" or "over 99.9 %", never 100."""
    if p > 0.995:
        return "over 99.9 %" if p > 0.999 else "over 99 %"
    return f"{100 * p:.0f} %"


def share(part: float, n: int) -> str:
    """A share of n pictures, as fine as n allows: "73 %" of 15, "72.5 %" of 200; never "100 %" or "0 %" unless it is."""
    text = f"{100 * part:.{0 if n < 100 else 1}f}"
    if float(text) in (0, 100) and part not in (0, 1):
        text = "over 99" if part > 0.5 else "under 1"
    return f"{text}\N{NO-BREAK SPACE}%"


def _up(value: float) -> str:
    exact = Decimal(value)
    if exact <= 0:
        return "0"
    quantum = Decimal(1).scaleb(exact.adjusted() - DIGITS + 1)
    near = exact.quantize(quantum, ROUND_HALF_EVEN)
    rounded = near if abs(near - exact) <= TINY * exact else exact.quantize(quantum, ROUND_CEILING)
    return f"{rounded.normalize():f}"
