"""The statistics, exactly: no network and no simulation."""

import numpy as np
import pytest
from scipy.stats import beta, binom, binomtest, norm

from explorer.certify import fewest_draws, largest_radius, lower_bound
from explorer.certify.bounds import certified_radius, top_two_p_value
from explorer.core import InvalidValue


def worst_false_rate(n, alpha, bound):
    """Largest P(bound(k) > p) over 250 p, k ~ Binomial(n, p), each p just below a value that the bound can take.

    There the rate peaks: as p grows past bound(k), that k stops being a false certificate.
    """
    bounds = np.array([bound(k, n, alpha) for k in range(n + 1)])
    p = bounds[np.linspace(1, n, 250).astype(int)] * (1 - 1e-9)
    false = bounds[None] > p[:, None]  # (250, n+1)
    return (binom.pmf(np.arange(n + 1)[None], n, p[:, None]) * false).sum(1).max()


SETTINGS = [(100, 0.05), (1000, 0.05), (10_000, 0.001)]


@pytest.mark.parametrize(("n", "alpha"), SETTINGS)
def test_coverage_is_exact(n, alpha):
    worst = worst_false_rate(n, alpha, lower_bound)
    assert worst <= alpha * (1 + 1e-6)
    assert worst > 0.95 * alpha  # not bought with needless caution, as half of a two-sided interval would


@pytest.mark.parametrize(("n", "alpha"), SETTINGS[:2])
@pytest.mark.parametrize(
    "wrong",
    [
        lambda k, n, alpha: lower_bound(k, n, 2 * alpha),  # alpha doubled once too often
        lambda k, n, alpha: k / n,  # no bound at all
        lambda k, n, alpha: 0.0 if k == 0 else float(beta.ppf(alpha, k + 1, n - k + 1)),  # the upper bound's k
        lambda k, n, alpha: max(0.0, k / n - norm.isf(alpha) * (k / n * (1 - k / n) / n) ** 0.5),  # normal theory
    ],
)
def test_coverage_catches_wrong_bounds(n, alpha, wrong):
    assert worst_false_rate(n, alpha, wrong) > alpha * 1.1


def test_coverage_catches_a_two_sided_interval():
    """Half of a two-sided interval is valid but too cautious: the test above must tell it apart as well."""
    assert worst_false_rate(1000, 0.05, lambda k, n, alpha: lower_bound(k, n, alpha / 2)) < 0.95 * 0.05


def test_reused_draws_break_coverage():
    """Between two equal classes the winner of the same draws is k or n-k, whichever is larger: twice alpha, exactly."""
    n, alpha, k = 1000, 0.05, np.arange(1001)
    bounds = np.array([lower_bound(int(i), n, alpha) for i in k])
    fresh = binom.pmf(k, n, 0.5)[bounds > 0.5].sum()
    reused = binom.pmf(k, n, 0.5)[bounds[np.maximum(k, n - k)] > 0.5].sum()
    assert fresh <= alpha < reused
    assert reused == pytest.approx(2 * fresh)


def test_golden_values():
    assert lower_bound(0, 1000, 0.001) == 0
    assert lower_bound(1000, 1000, 0.001) == pytest.approx(0.001 ** (1 / 1000), rel=1e-12)
    assert lower_bound(9_900, 10_000, 0.001) == pytest.approx(
        binomtest(9_900, 10_000, alternative="greater").proportion_ci(0.999).low, rel=1e-9
    )
    bounds = [lower_bound(k, 500, 0.001) for k in range(501)]
    assert all(low < high for low, high in zip(bounds, bounds[1:], strict=False))
    assert all(bound < k / 500 for k, bound in enumerate(bounds) if k)


def test_half_is_radius_zero_and_less_abstains():
    assert certified_radius(0.5, 0.25) == 0
    assert certified_radius(np.nextafter(0.5, 0), 0.25) is None
    assert certified_radius(norm.cdf(1), 0.25) == pytest.approx(0.25)


@pytest.mark.parametrize(("n", "cap"), [(1_000, 2.463), (10_000, 3.199), (100_000, 3.811)])
def test_largest_radius(n, cap):
    assert largest_radius(1, n, 0.001) == pytest.approx(cap, abs=5e-4)
    assert largest_radius(0.25, n, 0.001) == pytest.approx(cap / 4, abs=5e-4)


def test_too_few_draws_can_certify_nothing():
    assert largest_radius(1, 9, 0.001) == 0 < largest_radius(1, 10, 0.001)


@pytest.mark.parametrize("alpha", [0.499, 0.25, 0.05, 0.001, 1e-9])
def test_fewest_draws_are_the_fewest(alpha):
    n = fewest_draws(alpha)
    assert largest_radius(1, n, alpha) >= 0 and lower_bound(n, n, alpha) >= 0.5
    assert n == 1 or lower_bound(n - 1, n - 1, alpha) < 0.5
    assert fewest_draws(0.001) == 10


@pytest.mark.parametrize("bad", [(0, 100, 0.001), (1, 0, 0.001), (1, 100, 0.5)])
def test_largest_radius_refuses_what_certify_refuses(bad):
    with pytest.raises(InvalidValue, match="must be .* in .*; got"):
        largest_radius(*bad)


def locuslab_predict(counts, alpha):
    """Smooth.predict of locuslab/smoothing's core.py after the sampling, with scipy's present name for the test."""
    top2 = np.array(counts).argsort()[::-1][:2]
    count1, count2 = counts[top2[0]], counts[top2[1]]
    return None if binomtest(count1, count1 + count2, p=0.5).pvalue > alpha else int(top2[0])


def test_predict_equals_locuslab_on_the_same_counts():
    rng = np.random.default_rng(0)
    answers = set()
    for _ in range(300):
        counts = rng.multinomial(100, rng.dirichlet([0.5] * 5)).tolist()
        ours = None if top_two_p_value(counts) > 0.001 else int(np.argmax(counts))
        assert ours == locuslab_predict(counts, 0.001)
        answers.add(ours)
    assert answers == {None, 0, 1, 2, 3, 4}


def test_no_votes_and_ties_never_win():
    assert top_two_p_value([0, 0, 0]) == 1
    assert top_two_p_value([50, 50, 0]) == 1
