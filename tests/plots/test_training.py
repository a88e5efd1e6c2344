"""Figures of runs: what was recorded is what is drawn, every run and measure can be told apart without its colour."""

import numpy as np
import pytest

from explorer.plots import training
from explorer.plots.theme import class_color
from explorer.plots.training import DASHES, Curves

CLASSES = ("airplane", "cat", "dog", "frog", "ship", "truck")


def run(name="one", updates=120, epochs=3, robust=True, planned=400):
    u = np.arange(1, updates + 1)
    e = np.arange(1, epochs + 1)
    scores = {"clean": 0.5 + 0.1 * e} | ({"robust": 0.2 + 0.1 * e} if robust else {})
    return Curves(
        name, u, u / 40, 0.5 * u, 2 + np.sin(u), 0.01 * u, np.full(updates, 600.0), planned,
        e, 40 * e, 20.0 * e, scores, {"clean": [f"n = {k}" for k in e]},
    )  # fmt: skip


def named(figure, name):
    return next(trace for trace in figure.data if trace.name == name)


def test_the_loss_is_drawn_raw_and_as_the_mean_of_the_last_updates():
    one = run()
    figure = training.loss([one])
    raw, mean = named(figure, "one, each update"), named(figure, "one")
    assert np.array_equal(raw.y, one.loss) and raw.opacity < 1 and not raw.showlegend
    assert one.window == 8 and mean.y[0] == one.loss[0]
    assert mean.y[50] == pytest.approx(one.loss[43:51].mean())
    assert figure.layout.yaxis.title.text == "training loss" and figure.layout.xaxis.title.text == "update"


@pytest.mark.parametrize(
    ("axis", "last", "title"),
    [("updates", 120, "update"), ("epochs", 3, "epochs"), ("minutes", 1, "minutes of training")],
)
def test_every_figure_can_be_drawn_along_updates_epochs_and_minutes(axis, last, title):
    for draw in (training.loss, training.accuracy, training.learning_rate, training.speed):
        figure = draw([run()], axis)
        assert figure.data[-1].x[-1] == pytest.approx(last) and figure.layout.xaxis.title.text == title


def test_one_run_has_a_colour_a_dash_and_a_mark_for_each_measure():
    figure = training.accuracy([run()])
    clean, robust = named(figure, "clean"), named(figure, "robust")
    assert list(clean.y) == pytest.approx([60, 70, 80]) and list(robust.y) == pytest.approx([30, 40, 50])
    assert clean.line.color != robust.line.color and clean.line.dash != robust.line.dash
    assert clean.marker.symbol != robust.marker.symbol
    assert list(clean.customdata) == ["n = 1", "n = 2", "n = 3"] and list(robust.customdata) == ["", "", ""]
    assert "%" in figure.layout.yaxis.title.text and tuple(figure.layout.yaxis.range) == (0, 100)


def test_several_runs_differ_in_more_than_their_colour():
    runs = [run(f"run {k}", robust=k % 2 == 0) for k in range(6)]
    lines = [named(training.loss(runs), r.name) for r in runs]
    assert len({line.line.dash for line in lines}) == len({line.line.color for line in lines}) == 6 == len(DASHES)
    figure = training.accuracy(runs)
    clean = [named(figure, f"run {k}, clean") for k in range(6)]
    assert len({line.marker.symbol for line in clean}) == 6
    assert named(figure, "run 0, robust").line.dash != clean[0].line.dash
    assert figure.layout.height > training.accuracy(runs[:1]).layout.height  # the legend does not eat the curves


def test_a_run_without_records_says_so_and_one_update_is_a_mark():
    empty = run(updates=0, epochs=0)
    for draw in (training.loss, training.accuracy, training.learning_rate, training.speed):
        (note,) = draw([empty]).layout.annotations
        assert "nothing recorded" in note.text
    assert "markers" in named(training.loss([run(updates=1, epochs=0)]), "one").mode


def test_a_long_line_is_thinned_but_keeps_its_ends_and_its_peaks():
    y = np.zeros(50_000)
    y[12_345], y[40_000] = 9, -7
    x, thin = training.thinned(np.arange(50_000), y)
    assert len(x) <= training.POINTS + 2 and (x[0], x[-1]) == (0, 49_999)
    assert thin.max() == 9 and thin.min() == -7 and (np.diff(x) > 0).all()
    assert x[thin.argmax()] == 12_345
    short = training.thinned(np.arange(10), np.arange(10))
    assert len(short[0]) == 10


def test_not_finite_losses_do_not_break_a_line():
    one = run(updates=5000)
    one.loss[2000:2100] = np.nan
    assert np.isfinite(named(training.loss([one]), "one, each update").y).any()


def test_one_images_decision_names_its_class_and_those_that_came_near():
    epochs = np.array([0, 1, 2])
    clean = np.array(
        [[0.5, 0.1, 0.1, 0.1, 0.1, 0.1], [0.1, 0.7, 0.05, 0.05, 0.05, 0.05], [0.02, 0.9, 0.02, 0.02, 0.02, 0.02]]
    )
    seen = np.roll(clean, 1, axis=1)
    figure = training.decision(epochs, clean, seen, CLASSES, 1, "attacked")
    own = named(figure, "cat (its class), clean")
    assert list(own.y) == pytest.approx([10, 70, 90]) and own.line.color == class_color(1) and own.line.dash == "solid"
    attacked = named(figure, "cat (its class), attacked")
    assert attacked.line.dash == "dash" and attacked.marker.symbol != own.marker.symbol
    shown = {trace.name.partition(",")[0] for trace in figure.data}
    assert shown == {"cat (its class)", "dog", "airplane", "frog"}  # frog ties with the rest and comes first
    assert "epoch" in figure.layout.xaxis.title.text and "%" in figure.layout.yaxis.title.text


def test_before_the_second_epoch_the_axis_shows_no_epoch_that_no_run_has():
    low, high = training.decision(
        np.zeros(1), np.full((1, 6), 1 / 6), np.full((1, 6), 1 / 6), CLASSES, 1
    ).layout.xaxis.range
    assert -1 < low < 0 < high < 1


def test_no_sights_make_an_empty_figure():
    assert not training.decision(np.zeros(0), np.zeros((0, 6)), np.zeros((0, 6)), CLASSES, 1).data


@pytest.mark.parametrize("draw", [training.loss, training.accuracy, training.learning_rate, training.speed])
def test_a_dark_page_gets_light_ink(draw):
    assert draw([run()], dark=True).layout.font.color != draw([run()]).layout.font.color


def test_a_cards_history_is_drawn_with_its_own_measures():
    history = [
        {"epoch": 1, "clean": 0.5, "robust": 0.25, "score": 0.25},
        {"epoch": 2, "clean": 0.75, "robust": 0.5, "score": 0.5},
    ]
    figure = training.accuracy([Curves.of_history("A model", history)])
    assert [(trace.name, list(trace.x), list(trace.y)) for trace in figure.data] == [
        ("clean", [1, 2], [50.0, 75.0]),
        ("robust", [1, 2], [25.0, 50.0]),
    ]
