"""The Lab without a browser: a question and its link, the runs it submits, what it finds again, and who may begin."""

import os

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from explorer.attacks import ATTACKS
from explorer.core import Ball, ExplorerError
from explorer.data import load
from explorer.engine.accuracy_over_eps import AccuracyOverEps, usual_eps
from explorer.evaluation import robust_accuracy
from explorer.jobs import Guard, Process, Spec, Store, runner
from explorer.jobs.access import PASSWORD
from explorer.jobs.launch import Local
from explorer.models import zoo
from explorer.plots.robustness import Curve, accuracy_over_eps
from explorer.ui import permission, session
from explorer.ui.lab import cells, curves, point, result
from tests.ui.app import open_page, texts

NET = "cifar10/lenet"
LINK = {"data": "cifar10", "models": NET, "attacks": "fgsm", "norm": "linf", "eps": "0,8/255", "n": "6"}


@pytest.fixture
def store(tmp_path, monkeypatch) -> Store:
    """An empty store, which the app finds, too; no process is started, and those that would be count as alive."""
    monkeypatch.setenv("EXPLORER_RUNS", str(tmp_path / "runs"))
    monkeypatch.delenv(PASSWORD, raising=False)
    monkeypatch.setattr(Local, "start", lambda self, folder, spec: {"process": Process.of(os.getpid())})
    monkeypatch.setattr(Local, "stop", lambda self, folder, state, hard: None)
    session.store.clear()
    yield Store(tmp_path / "runs")
    session.store.clear()


def open_app(**query: str) -> AppTest:
    return open_page("lab", query)


def measured(store: Store, query: dict[str, str]) -> None:
    """Its runs, in this process."""
    asked = AccuracyOverEps.from_query(query)
    for model in asked.models:
        run = store.create(
            Spec(kind="evaluate", settings=cells.settings(asked, model), threads=1, device="cpu").checked()
        )
        assert runner.main([str(run.folder)]) == 0, run.log()


def test_a_question_is_its_link_and_has_the_norm_s_usual_sizes():
    asked = AccuracyOverEps.from_query(LINK)
    assert AccuracyOverEps.from_query(asked.to_query()) == asked and asked.eps == (0, 8 / 255)
    usual = AccuracyOverEps("cifar10", (NET, "cifar10/lenet-at"), ("pgd", "fgsm"))
    assert AccuracyOverEps.from_query(usual.to_query()) == usual and "eps" not in usual.to_query()
    assert [round(255 * eps) for eps in usual.eps] == [0, 2, 4, 6, 8, 12, 16, 32]
    assert usual_eps("l0") == (0, 2, 5, 8, 10, 15, 20, 40)
    each = sum(ATTACKS[key]().expected_passes for key in usual.attacks)
    assert usual.passes({}) == 2 * 100 * (7 * each + 1) and len(usual.missing({})) == 2 * (7 * 2 + 1)


@pytest.mark.parametrize(
    "change",
    [
        {"models": ""}, {"models": f"{NET},{NET}"}, {"models": "fashion_mnist/fashion-mlp"}, {"attacks": "pgd,fgsm,rfgsm,apgd-ce"},
        {"attacks": "cw"}, {"eps": "0"}, {"eps": "8"}, {"eps": "a"}, {"eps": "0.1/0"}, {"n": "0"}, {"norm": "l3"}, {"seed": "-1"},
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_refused_in_a_sentence(change):
    with pytest.raises(ExplorerError):
        AccuracyOverEps.from_query(LINK | change)


def test_the_page_tells_the_cost_and_begins_nothing_unasked(store):
    app = open_app(**LINK)
    assert not app.exception and not store.root.exists()
    assert "0 of 2 numbers" in texts(app) and f"**{6 * 4} passes**" in texts(app) and "Nothing of this" in texts(app)
    app.text_input(key="lab.eps.linf").set_value("0, 8").run()
    assert "Did you mean 8/255?" in texts(app) and app.button(key="lab.measure").disabled
    assert "could not be followed" in texts(open_app(**LINK | {"n": "0"}))


def test_measure_submits_a_run_for_each_model_that_can_be_cancelled_and_goes_on(store):
    app = open_app(**LINK | {"models": f"{NET},cifar10/lenet-at"})
    app.button(key="lab.measure").click().run()
    assert not app.exception and {run.spec.subject for run in store.runs()} == {NET, "cifar10/lenet-at"}
    assert app.query_params["n"] in ("6", ["6"]) and "waiting" in texts(app)
    app.button(key="lab.cancel").click().run()
    assert all(run.stopping for run in store.runs())
    for run in store.runs():
        run.update(status="cancelled")
    app.run()
    app.button(key="lab.measure").click().run()
    assert [run.state.status for run in store.runs()] == ["queued"] * 2  # the same two


def test_what_is_measured_is_found_again_and_is_the_library_s(store):
    measured(store, LINK)
    app = open_app(**LINK)
    assert not app.exception and "All of it is measured" in texts(app) and app.button(key="lab.measure").disabled
    asked = AccuracyOverEps.from_query(LINK)
    due = robust_accuracy(zoo.load(NET), load("cifar10", n=6), ATTACKS["fgsm"](), Ball("linf", 8 / 255))
    rows = asked.table(cells.find(asked).cells).rows
    assert [row["eps_pixel_units"] for row in rows] == [0, 8 / 255] and rows[0]["attack"] is None
    assert [rows[1][name] for name in ("accuracy", "low", "high", "n")] == [due.accuracy, due.low, due.high, 6]
    more = open_app(**LINK | {"attacks": "fgsm,pgd"})  # shares two cells with it
    assert "2 of 3 numbers" in texts(more)
    for other in ({"n": "7"}, {"seed": "1"}, {"norm": "l2", "eps": "0.5"}):
        assert cells.find(AccuracyOverEps.from_query(LINK | other)).cells == {}


def test_a_point_opens_its_pictures_and_equal_budgets_are_drawn(store):
    link = LINK | {"attacks": "fgsm,pgd"}
    measured(store, link)
    app = open_app(**link)
    assert not app.exception and "equal budgets, not at equal steps" in texts(app)
    assert app.selectbox(key="lab.point.eps").value == 8 / 255 and "opens this attack on this picture" in texts(app)
    rows = point.bundled_rows("cifar10", 6)
    assert rows == [0, 1, 2, 3, 4, 5] or len({*rows}) == 6


def test_a_smallest_change_gives_the_whole_curve(store):
    link = LINK | {"attacks": "deepfool", "norm": "l2", "eps": "0,0.1,0.5"}
    measured(store, link)
    asked = AccuracyOverEps.from_query(link)
    found = cells.find(asked).cells
    (curve,) = result.curves(asked, found)
    assert curve.stairs and curve.eps[0] == 0 and curve.eps[-1] == 0.5
    for model, attack, eps in asked.places:
        at = curve.accuracy[np.searchsorted(curve.eps, eps, side="right") - 1] if eps < 0.5 else curve.accuracy[-1]
        assert at == found[model, attack, eps]["accuracy"]
    assert asked.passes({}) == 6 * (1 + ATTACKS["deepfool"]().expected_passes)


def test_where_others_reach_the_app_only_the_password_begins_a_run(store, monkeypatch):
    guarded = Store(store.root, guard=Guard("0.0.0.0"))
    monkeypatch.setenv(PASSWORD, "swordfish")
    for part in (cells, curves, permission):
        monkeypatch.setattr(part, "store", lambda: guarded)
    app = open_app(**LINK)
    assert app.button(key="lab.measure").disabled
    with pytest.raises(ExplorerError, match="password"):
        cells.measure(AccuracyOverEps.from_query(LINK))  # the act asks, not the button alone
    app.text_input(key="permission.typed.lab").set_value("salmon").run()
    assert "not the instructor's password" in texts(app) and app.button(key="lab.measure").disabled
    app.text_input(key="permission.typed.lab").set_value("swordfish").run()
    app.button(key="lab.measure").click().run()
    assert len(store.runs()) == 1


def test_a_model_keeps_its_colour_and_an_attack_its_dash():
    one = np.array([0.5])
    curves = [Curve("b", "PGD", one, one, one, one, 5), Curve("b", "FGSM", one, one, one, one, 5)]
    figure = accuracy_over_eps(curves, ["a", "b"], ["FGSM", "PGD"], "linf", 1.0)
    first, second = (trace.line for trace in figure.data if trace.showlegend is None)
    other = [Curve("a", "FGSM", one, one, one, one, 5)]
    alone = accuracy_over_eps(other, ["a", "b"], ["FGSM", "PGD"], "linf", 1.0).data[1].line
    assert first.color == second.color != alone.color
    assert (first.dash, second.dash, alone.dash) == ("dash", "solid", "solid") and figure.data[1].x[0] == 127.5
