"""The bound that runs along: it may be looked at after every draw, which the certificate's own bound may not."""

import numpy as np
import pytest
from scipy.integrate import quad

from explorer.certify import Smoothed, anytime_lower_bound, lower_bound
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
    model = Smoothed(halfspace(0.3), 0.25, batch=64)
    watched = list(model.iter_certify(image, n0=100, n=1000, seed=2))
    assert watched[-1].certificate == model.certify(image, n0=100, n=1000, seed=2)
    assert all(now.certificate is None for now in watched[:-1])
    assert [now.done for now in watched] == sorted(now.done for now in watched)
    assert watched[-1].done == watched[-1].total == 1100 and watched[-1].n_drawn == 1000


def test_the_running_bound_never_falls_and_has_a_radius_after_a_hundred_draws(halfspace, image):
    watched = list(Smoothed(halfspace(0.1), 0.25, batch=64).iter_certify(image, n0=100, n=1000, seed=2))
    bounds = [now.p_lower for now in watched]
    assert bounds == sorted(bounds)
    early = next(now for now in watched if now.n_drawn >= 100)
    assert early.radius is not None and 0 < early.radius < watched[-1].certificate.radius
    for now in watched:
        assert sum(now.selection) + sum(now.estimation) + now.invalid == now.done
        assert now.radius == certified_radius(now.p_lower, 0.25)
        assert (now.selected is None) == (now.done < 100)
    assert watched[-1].certificate.radius > watched[-1].radius  # the certificate's bound is for its n alone
