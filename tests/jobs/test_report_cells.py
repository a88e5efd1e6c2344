"""Cells of the reports' tables as runs: exactly what the cell asks, and the run's number with the fields of a card's measure."""

import pytest

from explorer.evaluation.report_tables import Ask, tables
from explorer.jobs import Spec, Store, report_cells, runner
from explorer.jobs.measuring import result


def asks(kind, model):
    return [
        ask for table in tables() for row in table.rows for ask in row.asks if (ask.kind, ask.model) == (kind, model)
    ]


def few(monkeypatch, n=6):
    monkeypatch.setattr(report_cells, "_there", lambda card, wanted: min(wanted, n))


CELLS = [("clean", "cifar10/lenet-at"), ("white-box", "cifar10/lenet-at"), ("adaptive", "cifar10/lenet-rat"),
         ("certified", "cifar10/smoothed-0.25")]  # fmt: skip


@pytest.mark.parametrize(("kind", "model"), CELLS)
def test_a_question_is_what_a_submitted_spec_says(kind, model, monkeypatch):
    few(monkeypatch)
    kind, settings = report_cells.question(asks(kind, model)[0])
    assert Spec(kind=kind, settings=settings).checked().settings == settings  # else a page would not find the run again


def test_a_run_s_number_is_what_the_cell_asks(tmp_path, monkeypatch):
    few(monkeypatch)
    for ask in (asks("clean", "cifar10/lenet-at")[0], asks("white-box", "cifar10/lenet-at")[0]):
        kind, settings = report_cells.question(ask)
        run = Store(tmp_path / "runs").create(Spec(kind=kind, settings=settings, threads=1, device="cpu").checked())
        assert runner.main([str(run.folder)]) == 0, run.log()
        (row,) = rows = result(run)["rows"]
        found = report_cells.measure(ask, kind, rows)
        assert ask.fits(found) and (found["accuracy"], found["n"], found["seed"]) == (row["accuracy"], 6, 0)
        other = next(one for one in asks("white-box", "cifar10/lenet-at") if one.where != ask.where)
        assert not other.fits(found)


def test_a_certified_accuracy_is_read_at_its_radius():
    at = asks("certified", "cifar10/smoothed-0.25")[1]
    shares = [{"radius": r, "accuracy": 1 - r, "low": 0.0, "high": 1.0, "n": 500} for r in (0.0, 0.25, 0.5, 0.75)]
    about = {"seed": -1, "n0": 100, "n": 1000, "alpha": 0.001, "sigma": at.where["sigma"]}
    found = report_cells.measure(at, "certify", [{"conditions": about, "shares": shares}])
    assert at.fits(found) and found["accuracy"] == 1 - at.where["eps"] and found["draws"] == 1000 and found["n"] == 500


def test_what_no_kind_of_run_measures_has_no_question():
    every = [ask for table in tables() for row in table.rows for ask in row.asks]
    for kind in ("noisy", "predict", "rho_2"):
        assert all(report_cells.question(ask) is None for ask in every if ask.kind == kind)
    in_turn = [ask for ask in every if len(ask.attacks) > 1]
    shares = [ask for ask in every if "eps_share" in ask.where]
    assert in_turn and shares and not any(map(report_cells.question, [*in_turn, *shares]))
    assert report_cells.question(Ask("cifar10/not-there")) is None


def test_the_classes_auc_is_measured_by_the_run_that_draws_their_curves(tmp_path, monkeypatch):
    few(monkeypatch, 60)
    ask = next(one for one in asks("class AUC", "fashion_mnist/deep-defense") if one.part == 3)
    kind, settings = report_cells.question(ask)
    assert Spec(kind=kind, settings=settings).checked().settings == settings
    run = Store(tmp_path / "runs").create(Spec(kind=kind, settings=settings, threads=1, device="cpu").checked())
    assert runner.main([str(run.folder)]) == 0, run.log()
    rows = result(run)["rows"]
    assert [row["title"] for row in rows] == ["clean", "FGSM", "DeepFool"] and "mean AUC" in run.state.message
    found = report_cells.measure(ask, kind, rows)
    assert ask.fits(found) and found["n"] == 60 and found["classes"][3][0] == rows[2]["curves"][3]["auc"]
    own = next(one for one in asks("class AUC", "fashion_mnist/fashion-mlp") if one.part == 3)
    assert not own.fits(found)  # of pictures made on itself
