"""The bound that runs along: it may be looked at after every draw, which the certificate's own bound may not."""

import numpy as np
import pytest
from scipy.integrate import quad

from explorer.certify import anytime_lower_bound, certify, certifying, lower_bound
from explorer.certify.bounds import certified_radius, log_capital


def ever_above(bound, p, n, alpha, every=1):
    """P(at some look, each `every` draws up to n, bound(k, draws, alpha) > p), exactly: the paths that never were."""
    alive = np.zeros(n + 1)  # of k after t draws
    alive[0], lost, least = 1.0, 0.0, 0
    for t in range(1, n + 1):
        alive[1:] = alive[1:] * (1 - p) + alive[:-1] * p
        alive[0] *= 1 - p
        if t % every:
            continue
        least = next((k for k in range(least, t + 1) if bound(k, t, alpha) > p), t + 1)  # grows with t
        lost += alive[least:].sum()
        alive[least:] = 0
    return lost


LOOKS = [(0.5, 0.05), (0.7, 0.05), (0.95, 0.05), (0.98, 0.05), (0.5, 0.001), (0.9, 0.001)]


@pytest.mark.parametrize(("p", "alpha"), LOOKS)
def test_is_never_too_large_at_any_of_all_looks(p, alpha):
    lost = ever_above(anytime_lower_bound, p, 600, alpha)
    assert 0 < lost <= alpha


def test_that_check_catches_a_bound_for_one_look():
    """Peeking at the certificate's own bound: far more than alpha."""
    assert ever_above(lower_bound, 0.5, 600, 0.05, every=20) > 3 * 0.05


@pytest.mark.parametrize(("k", "n", "q"), [(0, 5, 0.5), (3, 5, 0.5), (64, 64, 0.9), (180, 200, 0.8), (180, 200, 0.97)])
def test_capital_is_the_integral_it_says(k, n, q):
    value = quad(lambda u: (1 + u * (1 - q) / q) ** k * (1 - u) ** (n - k), 0, 1)[0]
    assert log_capital(q, k, n) == pytest.approx(np.log(value), abs=1e-8)


def test_grows_with_the_votes_and_stays_below_the_certificates_bound():
    bounds = [anytime_lower_bound(k, 300, 0.001) for k in range(301)]
    assert bounds[0] == 0 and all(low < high for low, high in zip(bounds[1:], bounds[2:], strict=False))
    assert all(bound < lower_bound(k, 300, 0.001) for k, bound in enumerate(bounds) if k)
    assert anytime_lower_bound(10_000, 10_000, 0.001) > 0.999  # and is not far below it
    assert anytime_lower_bound(10**7, 10**7, 1e-9) < 1


def test_watching_changes_nothing(halfspace, image):
    watched = list(certifying(halfspace(0.3), image, 0.25, n0=100, n=1000, seed=2, batch=64))
    assert watched[-1].certificate == certify(halfspace(0.3), image, 0.25, n0=100, n=1000, seed=2)
    assert all(tally.certificate is None for tally in watched[:-1])
    assert [tally.done for tally in watched] == sorted(tally.done for tally in watched)
    assert watched[-1].done == watched[-1].total == 1100 and watched[-1].drawn == 1000


def test_the_running_bound_never_falls_and_has_a_radius_after_a_hundred_draws(halfspace, image):
    watched = list(certifying(halfspace(0.1), image, 0.25, n0=100, n=1000, seed=2, batch=64))
    bounds = [tally.p_lower for tally in watched]
    assert bounds == sorted(bounds)
    early = next(tally for tally in watched if tally.drawn >= 100)
    assert early.radius is not None and 0 < early.radius < watched[-1].certificate.radius
    for tally in watched:
        assert sum(tally.selection) + sum(tally.estimation) + tally.invalid == tally.done
        assert tally.radius == certified_radius(tally.p_lower, 0.25)
        assert (tally.selected is None) == (tally.done < 100)
    assert watched[-1].certificate.radius > watched[-1].radius  # the certificate's bound is for its n alone
