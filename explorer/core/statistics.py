"""Confidence intervals for the numbers that are shown; by hand, since importing scipy.stats takes seconds."""

from __future__ import annotations

import math

from explorer.core.errors import InvalidValue


def wilson(successes: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's score interval for a proportion (Wilson 1927), as (low, high) in [0, 1]; the default z gives 95 %.

    Unlike the textbook p +- z*sqrt(p(1-p)/n) it stays inside [0, 1] and keeps a width at 0 and at n successes.
    Raises InvalidValue unless 0 <= successes <= n, n >= 1 and z > 0.
    """
    if not (n >= 1 and 0 <= successes <= n):
        raise InvalidValue(f"successes must lie in [0, n] with n >= 1; got {successes!r} of {n!r}.")
    if not (math.isfinite(z) and z > 0):
        raise InvalidValue(f"z must be a positive number of standard deviations; got {z!r}.")
    p, spread = successes / n, z * z / n
    centre = (p + spread / 2) / (1 + spread)
    half = z * math.sqrt(p * (1 - p) / n + spread / (4 * n)) / (1 + spread)
    # Rounding must not push an end past the value it equals exactly.
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return low, high
