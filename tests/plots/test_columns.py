"""Figures of column smoothing: every vote is a mark at its look, and what a patch touches and turns stands where it does so."""

import numpy as np
import pytest

from explorer.plots import columns

NAMES = ("cat", "dog", "frog")
BALLOTS = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 1, 0]], bool)


@pytest.mark.parametrize("dark", [False, True])
def test_votes_touched_looks_and_turning_columns(dark):
    reached = np.array([False, True, True, False])
    figure = columns.looks(BALLOTS, NAMES, reached, np.array([1, 2]), 2, dark=dark)
    votes, patch = figure.data
    assert list(zip(votes.x, votes.y, strict=True)) == [(0, "cat"), (1, "cat"), (1, "dog"), (3, "dog")]
    assert list(patch.x) == [1, 2] and list(patch.customdata) == [2, 3]
    assert [(band.x0, band.x1) for band in figure.layout.shapes] == [(0.5, 1.5), (1.5, 2.5)]


def test_counts_with_and_without_what_the_patch_touches():
    figure = columns.counts(BALLOTS.sum(0), np.array([1, 1, 0]), 2, NAMES)
    now, left, most = (list(trace.x) for trace in figure.data)
    assert (now, left, most) == ([2, 2, 0], [1, 1, 0], [3, 3, 2])
    assert list(figure.data[0].text) == ["2", "2", ""]
