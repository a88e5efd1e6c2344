"""The statistics of randomized smoothing: counts in, probabilities and radii out. No network, no noise."""

from __future__ import annotations

from collections.abc import Sequence

from scipy import stats

from explorer.certify.params import CertifyParams


def lower_bound(k: int, n: int, alpha: float) -> float:
    """One-sided Clopper-Pearson bound: after k of n draws, P(true probability < bound) <= alpha. In [0, 1).

    LowerConfBound of arXiv:1902.02918: the alpha quantile of Beta(k, n-k+1); 0 for k = 0, alpha^(1/n) for k = n.
    """
    return 0.0 if k == 0 else float(stats.beta.ppf(alpha, k, n - k + 1))


def certified_radius(p_lower: float, sigma: float) -> float | None:
    """R = sigma * Phi^-1(p_lower), L2 in pixel units (arXiv:1902.02918, Algorithm 1); None below 1/2: abstain."""
    return None if p_lower < 0.5 else float(sigma * stats.norm.ppf(p_lower))


def largest_radius(sigma: float, n: int, alpha: float) -> float:
    """The radius when all n draws agree, which no certificate can exceed: sigma * Phi^-1(alpha^(1/n)).

    0 when even n agreeing draws would not do (alpha^(1/n) < 1/2). n = 10,000 at alpha = 0.001 gives 3.199 sigma.
    Raises InvalidValue for anything that `certify` would refuse.
    """
    p = CertifyParams(sigma=sigma, n=n, alpha=alpha)
    return certified_radius(lower_bound(p.n, p.n, p.alpha), p.sigma) or 0.0


def top_two_p_value(counts: Sequence[int]) -> float:
    """Two-sided binomial test that the two largest counts are equally likely; 1 when there are no counts at all."""
    first, second = sorted([*counts, 0], reverse=True)[:2]
    return 1.0 if first == 0 else float(stats.binomtest(first, first + second, 0.5).pvalue)
