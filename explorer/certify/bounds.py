"""The statistics of randomized smoothing: counts in, probabilities and radii out. No network, no noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

from explorer.certify.params import CertifyParams
from explorer.core import InvalidValue

KEPT = 10_000  # radii that are not computed again: a class draws the same curves thirty times at once
HALVINGS = 60  # of the interval that holds an anytime bound


def lower_bound(k: int, n: int, alpha: float) -> float:
    """One-sided Clopper-Pearson bound: after k of n draws, P(true probability < bound) <= alpha. In [0, 1).

    LowerConfBound of arXiv:1902.02918: the alpha quantile of Beta(k, n-k+1); 0 for k = 0, alpha^(1/n) for k = n.

    Examples:
        >>> from explorer.certify import lower_bound
        >>> round(lower_bound(990, 1000, alpha=0.001), 4)
        0.976
    """
    from scipy import stats  # takes seconds to import: only who asks waits

    return 0.0 if k == 0 else float(stats.beta.ppf(alpha, k, n - k + 1))


def anytime_lower_bound(k: int, n: int, alpha: float) -> float:
    """A bound that may be looked at after every draw: P(it ever exceeds the true probability) <= alpha. In [0, 1).

    A confidence sequence by betting (as arXiv:2406.17830 uses them for smoothing): against a true probability of at most
    q one bets on each draw, on every share u in [0, 1] of 1 - q at once (Robbins' mixture). The capital after k of n,
    E(q) = integral of (1 + u (1-q)/q)^k (1-u)^(n-k) du, is a supermartingale if q is no less than the truth, so that it
    ever reaches 1/alpha with probability alpha at most (Ville). It falls with q: the bound is the q where it is 1/alpha.
    """
    if k == 0:
        return 0.0
    low, high = 0.0, 1.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        if log_capital(middle, k, n) >= -math.log(alpha):
            low = middle
        else:
            high = middle
    return low


def log_capital(q: float, k: int, n: int) -> float:
    """log E(q) of `anytime_lower_bound` for 0 < q < 1, by the incomplete Beta function."""
    from scipy import special  # takes seconds to import: only who asks waits

    above = float(special.betaincc(k + 1, n - k + 1, q))
    if above == 0:
        return -math.inf
    return float(special.betaln(k + 1, n - k + 1) + math.log(above) - k * math.log(q) - (n - k + 1) * math.log1p(-q))


@lru_cache(KEPT)
def certified_radius(p_lower: float, sigma: float) -> float | None:
    """R = sigma * Phi^-1(p_lower), L2 in pixel units (arXiv:1902.02918, Algorithm 1); None below 1/2: abstain."""
    from scipy import stats  # takes seconds to import: only who asks waits

    return None if p_lower < 0.5 else float(sigma * stats.norm.ppf(p_lower))


@lru_cache(KEPT)
def largest_radius(sigma: float, n: int, alpha: float) -> float:
    """The radius when all n draws agree, which no certificate can exceed: sigma * Phi^-1(alpha^(1/n)).

    0 when even n agreeing draws would not do (alpha^(1/n) < 1/2). n = 10,000 at alpha = 0.001 gives 3.199 sigma.
    Raises InvalidValue for a sigma, n or alpha out of range.

    Examples:
        >>> from explorer.certify import largest_radius
        >>> round(largest_radius(sigma=0.25, n=10_000, alpha=0.001), 3)
        0.8
    """
    p = CertifyParams(sigma=sigma, n=n, alpha=alpha)
    return certified_radius(lower_bound(p.n, p.n, p.alpha), p.sigma) or 0.0


def fewest_draws(alpha: float) -> int:
    """The fewest draws that can certify anything: from there on alpha^(1/n) >= 1/2. 10 at alpha = 0.001."""
    n = max(1, math.floor(-math.log2(alpha)))
    while lower_bound(n, n, alpha) < 0.5:
        n += 1
    return n


def check_enough(n: int, alpha: float) -> None:
    """Raises InvalidValue if not even n draws that all agree could certify anything."""
    if n < (least := fewest_draws(alpha)):
        raise InvalidValue(f"n must be at least {least} to certify anything at alpha {alpha:g}; got {n}.")


def top_two_p_value(counts: Sequence[int]) -> float:
    """Two-sided binomial test that the two largest counts are equally likely; 1 when there are no counts at all."""
    from scipy import stats  # takes seconds to import: only who asks waits

    first, second = sorted([*counts, 0], reverse=True)[:2]
    return 1.0 if first == 0 else float(stats.binomtest(first, first + second, 0.5).pvalue)
