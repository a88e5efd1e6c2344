"""Figures of proofs: what is certified, attacked and clean stands where it was measured, and what was not has no mark."""

import pytest

from explorer.plots.proofs import Price, prices

KINDS = ("Column smoothing", "Gaussian smoothing", "Lipschitz constant")
ROWS = [
    Price("A", "Lipschitz constant", "0.25", 0.8, None, (0.6, 0.5, 0.7)),
    Price("A", "Lipschitz constant", "0.5", 0.8, 0.5, (0.4, 0.3, 0.5)),
    Price("B", "Gaussian smoothing", "0.5", 0.7, 0.45, (0.3, 0.2, 0.4)),
]


@pytest.mark.parametrize("dark", [False, True])
def test_every_number_has_its_mark_and_each_kind_its_own(dark):
    by = {trace.name: trace for trace in prices(ROWS, KINDS, dark=dark).data}
    assert list(by["clean"].x) == [80, 80, 70] and list(by["attacked"].x) == [50, 45]
    assert [list(level) for level in by["attacked"].y] == [["A", "B"], ["0.5", "0.5"]]
    one, other = by["certified: Lipschitz constant"], by["certified: Gaussian smoothing"]
    assert list(one.x) == [60, 40] and list(other.x) == [30] and one.marker.symbol != other.marker.symbol
    assert one.error_x.array == pytest.approx([10, 10]) and other.error_x.arrayminus == pytest.approx([10])
