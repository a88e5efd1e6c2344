"""The figures of feature space: what is drawn is what was measured."""

import numpy as np

from explorer.plots.features import Curve, Moved, detection, distances, shifts


def test_distances_are_means_with_the_middle_half_and_the_best_apart():
    own = np.array([[1.0, 3.0, 5.0], [2.0, 4.0, 9.0], [7.0, 8.0, 9.0]])
    figure = distances([0, 1, 2], own, own + 1)
    named = {trace.name: trace for trace in figure.data}
    np.testing.assert_allclose(named["to the own class's centre"].y, [3, 5])
    np.testing.assert_allclose(named["to the false class's centre"].y, [4, 6])
    assert (
        list(named["own class's centre, the best found"].y) == [8]
        and named["own class's centre, the best found"].x[0] > 2
    )
    np.testing.assert_allclose(named["own class's centre, middle half"].y, [4, 6.5, 3, 2])
    assert figure.layout.yaxis.title.text == "distance, full feature space"


def test_one_image_has_no_band_and_an_untouched_one_no_walk():
    figure = distances([0, 1], np.array([[1.0], [2.0]]), np.array([[3.0], [4.0]]))
    assert not any("middle half" in trace.name for trace in figure.data)
    assert len(distances([0], np.ones((1, 2)), np.ones((1, 2))).data) == 4  # two empty lines, two marks


def test_curves_are_told_apart_by_model_and_detector():
    line = np.array([0.0, 1.0])
    figure = detection(
        [Curve("a: one", 0, 0, line, line), Curve("a: two", 0, 1, line, line), Curve("b: one", 1, 0, line, line)]
    )
    guess, one, two, other = figure.data
    assert one.line.color == two.line.color != other.line.color
    assert one.line.dash == other.line.dash != two.line.dash
    np.testing.assert_allclose(one.y, [0, 100])
    assert list(guess.x) == list(guess.y) == [0, 100]


def test_a_shift_is_a_mean_with_its_interval_and_each_image():
    rows = [
        Moved("to its false class", 0, np.array([0.5, 0.9]), 0.7, 0.6, 0.8, 2),
        Moved("alone", 1, None, 0.2, None, None, 1),
    ]
    each, mean, alone = shifts(rows).data
    np.testing.assert_allclose(each.x, [0.5, 0.9])
    assert mean.x[0] == 0.7 and abs(mean.error_x.array[0] - 0.1) < 1e-9 and abs(mean.error_x.arrayminus[0] - 0.1) < 1e-9
    assert alone.error_x.array is None and "interval" not in alone.hovertemplate and "interval" in mean.hovertemplate


def ticks(figure):
    axis = figure.layout.xaxis
    return dict(zip(axis.ticktext, axis.tickvals, strict=True))


def test_the_axis_counts_as_the_player_does():
    def walk(frames):
        return distances([*range(frames), frames - 1], np.ones((frames + 1, 2)), np.ones((frames + 1, 2)))

    one_step = walk(3)  # original, start, step 1; then the best once more
    assert ticks(one_step) == {"original": 0, "start": 1, "1": 2, "best": 3}
    line = next(trace for trace in one_step.data if trace.name == "to the own class's centre")
    assert list(line.customdata) == ["original", "start", "step 1"]
    long = ticks(walk(42))
    assert long.keys() == {"original", "10", "20", "30", "best"} and long["20"] == 21 and long["best"] == 42
