"""Confidence intervals and exact tests (McNemar, Fisher, Holm) for the numbers that are shown; by hand, since importing
scipy.stats takes seconds."""

from __future__ import annotations

import math
from collections.abc import Sequence

from explorer.core.errors import InvalidValue


def wilson(successes: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's score interval for a proportion (Wilson 1927), as (low, high) in [0, 1]; the default z gives 95 %.

    Unlike the textbook p +- z*sqrt(p(1-p)/n) it stays inside [0, 1] and keeps a width at 0 and at n successes.
    Raises InvalidValue unless 0 <= successes <= n, n >= 1 and z > 0.

    Examples:
        >>> from explorer.core import wilson
        >>> low, high = wilson(0, 200)  # never fooled, of 200
        >>> f"{low:.3f} to {high:.3f}"
        '0.000 to 0.019'
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


def hypergeometric_test(drawn: int, of: int, marked: int, total: int) -> float:
    """Two-sided exact p-value of `drawn` marked ones among `of` that were drawn without replacement from `total`, `marked` of
    which are marked: the probability of all outcomes that are no likelier than this one.

    It is Fisher's exact test of k of m against j of n with drawn = k, of = m, marked = k + j, total = m + n. Raises InvalidValue
    for impossible counts.
    """
    least, most = max(0, of + marked - total), min(of, marked)
    if not (0 <= of <= total and 0 <= marked <= total):
        raise InvalidValue(f"0 <= of, marked <= total must hold; got {of!r}, {marked!r} and {total!r}.")
    if not least <= drawn <= most:
        return 0.0  # cannot have come about
    logs = [
        _log_choose(marked, k) + _log_choose(total - marked, of - k) - _log_choose(total, of)
        for k in range(least, most + 1)
    ]
    return _no_likelier(logs, drawn - least)


def mcnemar(only_first: int, only_second: int) -> float:
    """Two-sided exact p-value of McNemar's test (McNemar 1947) on the pairs that differ: under the null each of them falls
    to either side with probability 1/2. Raises InvalidValue for negative counts.

    Examples:
        >>> from explorer.core.statistics import mcnemar
        >>> mcnemar(0, 0), round(mcnemar(1, 9), 4)
        (1.0, 0.0215)
    """
    if min(only_first, only_second) < 0:
        raise InvalidValue(f"counts must be at least 0; got {only_first!r} and {only_second!r}.")
    n = only_first + only_second
    logs = [_log_choose(n, k) - n * math.log(2) for k in range(n + 1)]
    return _no_likelier(logs, only_first)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values (Holm 1979), in the order given: comparing each with a level keeps the chance of even one false
    alarm among all of them at or below that level.

    Examples:
        >>> from explorer.core.statistics import holm
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    adjusted, before = [1.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        before = max(before, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = before
    return adjusted


def largest_share(k: int, n: int, level: float = 0.01) -> float:
    """The one-sided exact upper bound (Clopper and Pearson 1934) on a share of which k were seen among n independent draws:
    the share p at which at most k would be seen with probability `level`; 1 for k = n. Error below 1e-9, to the safe side.
    """
    if not (n >= 1 and 0 <= k <= n and 0 < level < 1):
        raise InvalidValue(f"0 <= k <= n and 0 < level < 1 must hold; got {k!r}, {n!r} and {level!r}.")
    low, high = k / n, 1.0
    while k < n and high - low > 1e-9:
        p = (low + high) / 2
        logs = [
            _log_choose(n, i) + i * math.log(p) + (n - i) * math.log1p(-p) if p else -math.inf for i in range(k + 1)
        ]
        low, high = (p, high) if sum(map(math.exp, logs)) > level else (low, p)
    return high


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def _no_likelier(logs: Sequence[float], seen: int) -> float:
    """The probability of all outcomes that are no likelier than number `seen`, of their log-probabilities."""
    limit = logs[seen] + 1e-7  # equals may differ by rounding
    return min(1.0, math.fsum(math.exp(log) for log in logs if log <= limit))
