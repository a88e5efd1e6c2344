"""The curves of what smoothing can prove are the bounds' own numbers."""

import numpy as np
import pytest

from explorer.certify import curves
from explorer.certify.bounds import certified_radius, fewest_draws, largest_radius


def test_radii_follow_the_share_of_votes_and_are_0_where_nothing_is_proven():
    p = curves.shares()
    found = curves.radii(p, 0.5)
    assert p[0] == pytest.approx(1 - 10**-0.31) and (np.diff(p) > 0).all() and p[-1] == pytest.approx(0.9999)
    assert found[-1] == certified_radius(float(p[-1]), 0.5) and (np.diff(found) >= 0).all()
    assert curves.radii([0.4, 0.5], 0.5).tolist() == [0.0, 0.0]


def test_draws_begin_where_something_can_be_certified_and_end_at_n():
    n = curves.draws(10_000, 0.001)
    assert (n[0], n[-1]) == (fewest_draws(0.001), 10_000) and (np.diff(n) > 0).all()
    assert curves.draws(1, 0.001).tolist() == [fewest_draws(0.001)]
    assert curves.largest_radii(n[[0, -1]], 0.25, 0.001).tolist() == [
        largest_radius(0.25, int(k), 0.001) for k in n[[0, -1]]
    ]
