"""Wilson's interval against scipy's, and its edges."""

import pytest
from scipy.stats import binom, binomtest

from explorer.core import InvalidValue, wilson


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
