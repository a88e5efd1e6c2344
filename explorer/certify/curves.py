"""Curves of what randomized smoothing can prove, as arrays for figures: radius by share of votes, largest radius by draws."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from explorer.certify.bounds import certified_radius, fewest_draws, largest_radius


def shares(points: int = 120) -> np.ndarray:
    """(points,) shares of votes p from about one half to 1 - 1e-4, dense where the radius is steep."""
    return 1 - 10.0 ** np.linspace(-0.31, -4, points)


def radii(p: Iterable[float], sigma: float) -> np.ndarray:
    """(S,) certified radius sigma Phi^-1(p) of each share; 0 where nothing is proven."""
    return np.array([certified_radius(float(share), sigma) or 0.0 for share in p])


def draws(n: int, alpha: float, points: int = 60) -> np.ndarray:
    """(S,) numbers of draws, evenly on a logarithmic axis, from the fewest that can certify anything to n."""
    fewest = fewest_draws(alpha)
    return np.unique(np.geomspace(fewest, max(n, fewest), points).round().astype(int))


def largest_radii(n: Iterable[int], sigma: float, alpha: float) -> np.ndarray:
    """(S,) the largest radius that each number of draws can certify, if all agree."""
    return np.array([largest_radius(sigma, int(k), alpha) for k in n])
