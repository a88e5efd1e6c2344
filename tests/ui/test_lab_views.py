"""The Lab's other views without a browser: the report card for masking, the transfer matrix, the board, and papers repeated."""

from types import SimpleNamespace
from urllib.parse import parse_qsl

import pytest

from explorer.engine.accuracy_over_eps import AccuracyOverEps
from explorer.evaluation import published, sheets
from explorer.evaluation.masking import CHECKS
from explorer.jobs import Spec, report_cells, runner
from explorer.jobs.measuring import result
from explorer.ui.lab import papers, views
from explorer.ui.lab import result as lab_result
from tests.ui.app import texts
from tests.ui.test_lab import NET, open_app, store  # noqa: F401  # the fixture

MASKING = {"view": "real", "model": NET}


def opened(**query):
    app = open_app(**query)
    assert not app.exception
    return app


def headers(app):
    return [one.value for one in app.header]


def finished(store, kind, settings):  # noqa: F811
    run = store.create(Spec(kind=kind, settings=settings, threads=1, device="cpu").checked())
    assert runner.main([str(run.folder)]) == 0, run.log()
    return run


def of_run(app, kind, store):  # noqa: F811
    """The one run that the page has submitted, done in this process."""
    (run,) = [one for one in store.runs() if one.spec.kind == kind]
    run.update(status="cancelled")
    done = finished(store, kind, run.spec.settings)
    run.delete()
    return done


def test_the_report_card_is_measured_by_a_run_and_claims_no_more_than_it_found(store):  # noqa: F811
    app = opened(**MASKING)
    assert "does not show" in texts(app) and "Nothing of this" in texts(app) and not store.root.exists()
    app.number_input(key="lab.real.n").set_value(10).run()
    app.button(key="lab.masking.measure").click().run()
    of_run(app, "masking", store)
    app.run()
    assert not app.exception and all(check.title in texts(app) for check in CHECKS)
    assert "No flag was raised by" in texts(app) and app.button(key="lab.masking.measure").disabled


def test_a_flag_opens_its_picture_on_the_attack_page(store):  # noqa: F811
    app = opened(**MASKING)
    app.number_input(key="lab.real.n").set_value(10).run()
    app.button(key="lab.masking.measure").click().run()
    run = of_run(app, "masking", store)
    path = run.folder / "cells" / "000.jsonl"
    path.write_text(
        path.read_text().replace('"raised": false', '"raised": true', 1).replace('"picture": null', '"picture": 3', 1)
    )
    app.run()
    assert "raised a flag" in texts(app)
    app.button(key="lab.real.open.zero").click().run()
    assert not app.exception and app.session_state["page"] == "attack"


def test_a_transfer_matrix_of_two_models(store):  # noqa: F811
    app = opened(view="transfer", models=f"{NET},cifar10/lenet-at")
    app.number_input(key="lab.t.n").set_value(10).run()
    app.button(key="lab.transfer.measure").click().run()
    run = of_run(app, "transfer", store)
    app.run()
    assert not app.exception and "Share fooled" in texts(app) and "Gain over another attack" not in headers(app)
    finished(store, "transfer", run.spec.settings | {"attack": "mifgsm", "hyper": {}})
    app.run()
    assert not app.exception and "Gain over another attack" in headers(app)
    assert run.spec.settings["model"] == f"{NET},cifar10/lenet-at"
    app.multiselect(key="lab.t.models").set_value([NET]).run()
    assert "needs 2 to 8 models" in texts(app)


def test_a_random_model_shows_its_adaptive_attacks(store):  # noqa: F811
    app = opened(view="draws", model="cifar10/lwta")
    assert "stand in the model's card" in texts(app) and not app.button(key="lab.adaptive.measure").disabled
    (drawn,) = [html.proto.body for html in app.get("html") if "Right under it" in html.proto.body]
    assert "expected winners, no draw" in drawn and "fixed draw" in drawn
    app.select_slider(key="lab.d.most").set_value(4).run()
    app.button(key="lab.adaptive.measure").click().run()
    (run,) = store.runs()
    assert (
        run.spec.kind == "adaptive"
        and run.spec.settings["most"] == 4
        and run.spec.settings["twin"] == "cifar10/relu-twin"
    )
    run.update(status="cancelled")


def test_the_board_filters_and_compares_two(store):  # noqa: F811
    app = opened(view="board")
    assert "McNemar" in texts(app) and len(app.dataframe[0].value) > 30
    app.button_group(key="lab.b.kinds").set_value(["random"]).run()
    assert {*app.dataframe[0].value["Kind"]} == {"random"}


def test_papers_tell_every_cell_with_its_state(store):  # noqa: F811
    app = opened(view="papers")
    assert {*app.dataframe[0].value["State"]} <= {"same", "other", "not measured", "cannot be"}
    assert "cells" in texts(app)


def ticked(monkeypatch, wanted):
    """The sheet's table shows what it is given, with the row of this cell ticked."""
    shown = []

    def table(rows, **_):
        shown[:] = rows
        at = [k for k, row in enumerate(rows) if (row["Cell"], row["Model"]) == wanted]
        return SimpleNamespace(selection=SimpleNamespace(rows=at))

    monkeypatch.setattr(papers.st, "dataframe", table)
    return shown


def test_a_cell_is_measured_from_its_sheet_and_says_where_its_number_stands(store, monkeypatch):  # noqa: F811
    wanted = ("AT: PGD, L2 0.5", "cifar10/lenet-at")
    monkeypatch.setattr(papers, "cells", lambda cards, here: sheets.cells([], here))
    monkeypatch.setattr(report_cells, "ATTACKED", 10)
    shown = ticked(monkeypatch, wanted)
    app = opened(view="papers")
    app.selectbox(key="lab.p.paper").set_value(published.LENET.what).run()
    assert "not measured" in texts(app) and "not into the model's card" in texts(app) and not store.root.exists()
    app.button(key="lab.evaluate.measure").click().run()
    run = of_run(app, "evaluate", store)
    app.run()
    (row,) = [one for one in shown if (one["Cell"], one["Model"]) == wanted]
    (found,) = result(run)["rows"]
    assert not app.exception and row["n"] == 10 and row["Ours [95 %]"].startswith(f"{100 * found['accuracy']:.1f} [")
    assert row["State"] in ("same", "other") and "Measured here, n 10, seed 0; not in the card" in row["Why"]
    ticked(monkeypatch, ("PGD: natural", "cifar10/nothing"))
    assert not [one for one in app.run().button if one.key == "lab.evaluate.measure"]


def test_figure_3_5_is_one_click(store):  # noqa: F811
    (cell,) = [cell for cell in sheets.cells([]) if "Figure 3.5" in cell.what]
    page, query = cell.link
    app = opened(**dict(parse_qsl(query)))
    assert page == "lab" and "0 of 27 numbers" in texts(app)
    asked = AccuracyOverEps.from_query(dict(parse_qsl(query)))
    assert [*lab_result.reference_lines(asked)] == ["0.2 eps_ref", "0.5 eps_ref", "1 eps_ref"]


def test_figures_3_7_to_3_9_are_one_click_and_draw_every_class_asked_for(store):  # noqa: F811
    cells = [cell for cell in sheets.cells([]) if "ROC curves" in cell.what]
    assert [dict(parse_qsl(cell.link[1])).get("source") for cell in cells] == [None, *["fashion_mnist/fashion-mlp"] * 2]
    app = opened(**dict(parse_qsl(cells[2].link[1])))
    assert (
        app.selectbox(key="lab.roc.source").value == "fashion_mnist/fashion-mlp"
        and app.number_input(key="lab.roc.n").value == 10_000
    )
    app.number_input(key="lab.roc.n").set_value(60).run()
    app.button(key="lab.roc.measure").click().run()
    run = of_run(app, "roc", store)
    app.run()
    assert not app.exception and app.button(key="lab.roc.measure").disabled and "60 test pictures" in texts(app)
    (areas,) = [html.proto.body for html in app.get("html") if "Pullover" in html.proto.body]
    for row in result(run)["rows"]:
        assert row["title"] in areas and f"{row['curves'][2]['auc']:.4f}" in areas
    (picked,) = [one for one in app.multiselect if one.label == "Classes"]
    assert picked.value == ["Pullover", "Dress"]
    app.text_input(key="lab.roc.eps.fashion_mnist").set_value("much").run()
    assert "must be a number" in texts(app)


@pytest.mark.parametrize("view", views.VIEWS)
def test_a_link_names_its_view(store, view):  # noqa: F811
    app = opened(view=view)
    assert app.session_state[views.VIEW] == view
