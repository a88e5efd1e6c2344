"""The figure of a search shows every probe where it was made, told apart by colour and by shape."""

import numpy as np
import pytest

from explorer.plots import smallest

EPS, MARGIN = np.array([8.0, 4.0, 6.0, 5.0]), np.array([-3.0, 1.0, -1.0, 0.2])


def sample_batch(reached, **changes):
    values = {"clean": 4.0, "held": 5.0, "fooled": 6.0, "unit": "of 255", "margin_name": "lead (logits)"} | changes
    return smallest.probes(EPS, MARGIN, np.array(reached), **values)


@pytest.mark.parametrize("dark", [False, True])
def test_probes_stand_where_they_were_made(dark):
    figure = sample_batch([True, False, True, False], dark=dark)
    by = {trace.name: trace for trace in figure.data}
    assert list(by["fooled"].x) == [8, 6] and list(by["fooled"].y) == [-3, -1]
    assert list(by["held"].x) == [4, 5] and list(by["untouched picture"].y) == [4.0]
    assert (
        by["fooled"].marker.symbol != by["held"].marker.symbol and by["fooled"].marker.color != by["held"].marker.color
    )
    assert list(by["line"].x) == [0, 4, 5, 6, 8]  # in the order of eps
    assert list(by["fooled"].customdata) == ["probe 1, ", "probe 3, "]
    assert figure.layout.xaxis.title.text == "eps (of 255)" and figure.layout.yaxis.title.text == "lead (logits)"


def test_the_interval_is_shaded_once_it_is_known():
    shaded = [shape for shape in sample_batch([True, False, True, False]).layout.shapes if shape.type == "rect"]
    assert [(shape.x0, shape.x1) for shape in shaded] == [(5.0, 6.0)]
    none = sample_batch([False] * 4, held=8.0, fooled=None)
    assert not [shape for shape in none.layout.shapes if shape.type == "rect"]
    assert "fooled" not in {trace.name for trace in none.data}


def test_the_answer_stands_in_the_middle_and_what_lies_beyond_is_named():
    eps = np.array([8.0, 4.0, 2.0, 1.0, 0.5, 0.75])
    figure = smallest.probes(eps, -eps, eps > 0.6, 4.0, 0.5, 0.75, unit="of 255", margin_name="lead (logits)")
    low, high = figure.layout.xaxis.range
    assert low == 0 and 1 / 7 < 0.75 / high < 0.6
    (note,) = [a.text for a in figure.layout.annotations]
    assert note == "also tried: 2, 4, 8 →"
    assert sample_batch([True, False, True, False]).layout.xaxis.range is None  # nothing beyond
