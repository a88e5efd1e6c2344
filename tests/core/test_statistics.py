"""Intervals and exact tests against scipy's, and their edges."""

import pytest
from scipy.stats import binom, binomtest, fisher_exact

from explorer.core import InvalidValue, wilson
from explorer.core.statistics import holm, hypergeometric_test, largest_share, mcnemar


@pytest.mark.parametrize(("k", "n"), [(0, 1), (1, 1), (0, 500), (3, 500), (275, 500), (500, 500), (7, 10**7)])
def test_equals_scipy(k, n):
    expected = binomtest(k, n).proportion_ci(0.95, method="wilson")
    assert wilson(k, n) == pytest.approx((expected.low, expected.high), abs=1e-7)


def test_known_value_and_other_levels():
    assert wilson(50, 100) == pytest.approx((0.403832, 0.596168), abs=1e-6)
    narrow, wide = wilson(50, 100, z=1.0), wilson(50, 100, z=2.575829)
    assert wide[0] < narrow[0] < 0.5 < narrow[1] < wide[1]


@pytest.mark.parametrize("n", [1, 2, 10, 10**6])
def test_edges_are_exact_and_keep_a_width(n):
    low, high = wilson(0, n)
    assert low == 0 and 0 < high < 1
    assert wilson(n, n) == pytest.approx((1 - high, 1.0)) and wilson(n, n)[1] == 1


def test_covers_about_as_often_as_it_says():
    """Exactly, by summing the binomial: the mean coverage over p at n = 100 is 95 % to within one point."""
    n, grid = 100, [i / 200 for i in range(1, 200)]
    intervals = [wilson(k, n) for k in range(n + 1)]
    covered = [sum(binom.pmf(k, n, p) for k, (low, high) in enumerate(intervals) if low <= p <= high) for p in grid]
    assert 0.94 < sum(covered) / len(covered) < 0.96


@pytest.mark.parametrize(("k", "n"), [(1, 0), (0, 0), (-1, 10), (11, 10)])
def test_refuses_impossible_counts(k, n):
    with pytest.raises(InvalidValue, match=rf"\[0, n\].*got {k} of {n}"):
        wilson(k, n)


@pytest.mark.parametrize("z", [0, -1, float("nan"), float("inf")])
def test_refuses_impossible_levels(z):
    with pytest.raises(InvalidValue, match="z must be a positive"):
        wilson(1, 2, z)


@pytest.mark.parametrize(
    ("k", "m", "marked", "total"), [(3, 10, 20, 100), (88, 250, 436, 1000), (0, 5, 0, 9), (7, 8, 9, 12)]
)
def test_a_drawn_part_equals_scipy(k, m, marked, total):
    table = [[k, m - k], [marked - k, total - m - marked + k]]
    assert hypergeometric_test(k, m, marked, total) == pytest.approx(fisher_exact(table).pvalue, rel=1e-6)


@pytest.mark.parametrize(("b", "c"), [(0, 1), (3, 3), (2, 14), (40, 61)])
def test_mcnemar_is_the_binomial_test_of_the_pairs_that_differ(b, c):
    assert mcnemar(b, c) == mcnemar(c, b) == pytest.approx(binomtest(b, b + c).pvalue, rel=1e-6)


def test_holm_keeps_the_family_wise_level():
    assert holm([0.01, 0.02, 0.03, 0.5]) == pytest.approx([0.04, 0.06, 0.06, 0.5])
    assert holm([0.9, 0.8]) == [1.0, 1.0] and holm([]) == []


@pytest.mark.parametrize(("k", "n"), [(0, 250), (3, 200), (199, 200), (5, 5)])
def test_the_largest_share_is_clopper_and_pearsons(k, n):
    expected = binomtest(k, n, alternative="less").proportion_ci(0.99, method="exact").high
    assert largest_share(k, n) == pytest.approx(expected, abs=2e-9)
