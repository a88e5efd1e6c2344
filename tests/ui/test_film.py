"""What is said of a run's tape: learnt, lost, never; and robust overfitting only where a test finds it."""

import numpy as np

from explorer.plots import film as plots
from explorer.training.watched import SIDE, TapeColumn
from explorer.ui.text import film as words


def tape(*columns, right=None):
    return [
        TapeColumn(n, right if right is not None else held, held) for n, held in enumerate(map(np.array, columns), 1)
    ]


def test_fates_are_counted_and_states_named():
    held = tape([True, False, True, False], [True, True, False, False], right=np.array([True, True, True, False, True]))
    said = words.fates(held)
    assert "Of 5 held-out pictures 4 are right, 0 were so after an earlier epoch, 1 never." in said
    assert "Of 4 that are attacked 2 are robust, 1 were so after an earlier epoch, 1 never." in said
    states, names = words.states(held)
    assert states.tolist() == [[2, 2], [1, 2], [2, 1], [0, 0]] and "fooled" in names[1]
    plain = [TapeColumn(1, np.array([True, False]), None)]
    assert words.states(plain)[0].tolist() == [[2], [0]] and "attacked" not in words.fates(plain)


def test_robust_overfitting_is_said_only_where_the_test_finds_it():
    best, worse = np.r_[np.ones(60), np.zeros(40)] > 0, np.r_[np.ones(30), np.zeros(70)] > 0
    losses = {1: 1.5, 2: 1.0}
    said = words.robust_overfitting(tape(best, worse), losses)
    assert said.startswith("Robust overfitting: since epoch 1") and "30 lost, 0 won" in said
    assert not words.robust_overfitting(tape(worse, best), losses)  # it rises
    assert not words.robust_overfitting(tape(best, worse), {1: 1.0, 2: 1.5})  # training has not gone on
    few = best.copy()
    few[:3] = False
    assert not words.robust_overfitting(tape(best, few), losses)  # chance


def test_the_figures_hold_what_they_are_given():
    classes, sure = np.full((3, SIDE, SIDE), 4), np.full((3, SIDE, SIDE), 200)
    classes[2, :, 15:] = 7
    axis = np.linspace(-1, 1, SIDE)
    for dark in (False, True):
        figure = plots.boundary([0, 8, 16], classes, sure, axis, axis, [f"class {k}" for k in range(10)], dark=dark)
        assert [frame.name for frame in figure.frames] == ["0", "8", "16"]
        assert (np.array(figure.data[0].z) == (classes[2] == 7)).all()  # the newest stands
        assert {"class 4", "class 7"} <= {trace.name for trace in figure.data}
        assert figure.layout.sliders[0].active == 2
    rows = np.array([[0, 0], [0, 2], [2, 2]])
    figure = plots.tape([1, 2], rows[[1, 2, 0]], ("wrong", "", "right"))
    assert np.array(figure.data[0].z).tolist() == rows.tolist()  # sorted
    assert [trace.name for trace in figure.data[1:]] == ["wrong", "right"]
