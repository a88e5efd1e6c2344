"""Figures of many pictures: their data and their axes say what was counted."""

import numpy as np
import pytest

from explorer.core import wilson
from explorer.plots import many
from explorer.plots.theme import PAGES, STATE_COLORS


def named(figure, name):
    return next(trace for trace in figure.data if trace.name == name)


def test_the_bands_add_up_to_all_pictures():
    figure = many.fall(np.array([0, 3, 5]), n=10, wrong=2, planned=21)
    bands = [named(figure, many.WORDS[state]) for state in ("wrong", "fooled", "holds")]
    assert [band.stackgroup for band in bands] == ["pictures"] * 3
    assert np.sum([band.y for band in bands], axis=0) == pytest.approx([100, 100, 100])
    assert list(bands[1].y) == pytest.approx([0, 30, 50]) and list(bands[1].customdata) == [0, 3, 5]
    assert len({band.fillpattern.shape for band in bands}) == 3  # told apart without colour, too
    assert tuple(figure.layout.xaxis.range) == (0, 20) and "%" in figure.layout.yaxis.title.text
    assert len(figure.data) == 3


def test_fresh_draws_get_a_mark_of_their_own():
    figure = many.fall(np.array([4]), n=10, wrong=2, planned=1, fresh=3)
    star = named(figure, "fooled, on fresh draws")
    assert list(star.y) == [50] and list(star.x) == [0] and "3 of 10" in star.hovertemplate


def test_margins_are_sorted_by_the_surest_and_keep_their_names():
    before, after = np.array([1.0, 3.0, -2.0]), np.array([-1.0, 2.0, -2.0])
    states, names = ["fooled", "holds", "wrong"], ["cat 4", "dog 5", "ship 6"]
    figure = many.margins(before, after, states, names)
    fooled, holds, wrong = (named(figure, many.WORDS[state]) for state in ("fooled", "holds", "wrong"))
    assert (list(holds.x), list(fooled.x), list(wrong.x)) == ([0], [1], [2])
    assert list(fooled.y) == [-1] and list(fooled.text) == ["cat 4"]
    assert len({trace.marker.symbol for trace in (fooled, holds, wrong)}) == 3
    assert list(named(figure, "before the attack").y) == [1, 3, -2]


def test_how_far_each_had_to_go_ends_at_the_share_that_was_found():
    figure = many.reach(np.array([2 / 255, 1 / 255, 4 / 255]), right=4, norm="linf")
    (line,) = figure.data
    assert list(line.x[:-1]) == pytest.approx([0, 1, 2, 4]) and list(line.y) == pytest.approx([0, 25, 50, 75, 75])
    assert "255" in figure.layout.xaxis.title.text and "median of the found: 2" in figure.layout.annotations[0].text
    nothing = many.reach(np.array([]), right=4, norm="l2")
    assert list(nothing.data[0].y) == [0, 0] and not nothing.layout.annotations


def test_shares_stand_beside_their_baselines_with_their_intervals():
    counts = [(13, 15), (53, 185), (11, 185)]
    figure = many.carried(["made on", "others", "noise"], counts, [wilson(*c) for c in counts], own=2)
    (bars,) = figure.data
    assert list(bars.x) == pytest.approx([100 * a / b for a, b in counts])
    low, high = wilson(53, 185)
    assert bars.x[1] - bars.error_x.arrayminus[1] == pytest.approx(100 * low)
    assert bars.x[1] + bars.error_x.array[1] == pytest.approx(100 * high)
    assert bars.marker.color[0] == bars.marker.color[1] != bars.marker.color[2]


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("state", STATE_COLORS)
def test_state_colours_stand_out_from_both_pages(page, state):
    def luminance(color):
        parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))

    dark, light = sorted([luminance(PAGES[page]), luminance(STATE_COLORS[state])])
    assert (light + 0.05) / (dark + 0.05) >= 3


def test_a_one_step_attack_has_whole_steps():
    axis = many.fall(np.array([0, 3]), n=10, wrong=2, planned=2).layout.xaxis
    assert (list(axis.tickvals), list(axis.ticktext)) == ([0, 1], ["start", "1"])
    axis = many.fall(np.array([0, 3]), n=10, wrong=2, planned=101).layout.xaxis
    assert list(axis.ticktext) == ["start", "20", "40", "60", "80", "100"] and list(axis.tickvals)[1:] == [
        20,
        40,
        60,
        80,
        100,
    ]
