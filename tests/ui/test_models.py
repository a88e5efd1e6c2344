"""The Models page: what is listed, that numbers are numbers, and that a row leads to the pages that are about it."""

from dataclasses import replace
from functools import partial

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from explorer.evaluation.standing import KINDS
from explorer.models import zoo
from explorer.plots.models import Mark, tradeoff
from explorer.plots.theme import series_color, series_mark
from explorer.ui import model_table
from tests.ui.app import ENTRY, open_page, press

open_app = partial(open_page, "models")


def listed(app: AppTest) -> pd.DataFrame:
    return app.dataframe[0].value


def linked(**query) -> AppTest:
    app = AppTest.from_file(ENTRY, default_timeout=60)
    app.session_state["wanted page"] = "models"
    for name, value in query.items():
        app.query_params[name] = value
    return app.run()


def test_a_link_opens_a_card_and_what_is_unknown_is_told():
    app = linked(model="fashion_mnist/fashion-mlp", colour="red")
    assert app.session_state[model_table.LOOK] == "fashion_mnist/fashion-mlp"
    assert app.session_state["models.dataset"] == "fashion_mnist"
    assert [one.value for one in app.warning] == ["The link names what this page does not know and leaves out: colour."]
    app.selectbox(key=model_table.LOOK).set_value("cifar10/lenet").run()
    assert app.session_state[model_table.LOOK] == "cifar10/lenet" and app.query_params["model"] in (
        "cifar10/lenet",
        ["cifar10/lenet"],
    )
    nowhere = linked(model="cifar10/nowhere")
    assert "cifar10/nowhere" in nowhere.warning[0].value and not nowhere.exception


def test_the_table_holds_numbers_and_what_was_not_measured_is_empty():
    known = {card.name: card for card in zoo.cards() if card.dataset == "cifar10"}
    made = pd.DataFrame(
        model_table.table([replace(known["cifar10/baseline"], measures=[]), known["cifar10/pgd-linf"]]).rows
    )
    assert made["Clean %"].dtype == float and made["Clean %"].isna().tolist() == [True, False]
    clean = next(m for m in known["cifar10/pgd-linf"].measures if m["kind"] == "clean")
    row = made.iloc[1]
    assert (row["Clean %"], row["Clean % low"], row["Clean % n"]) == (
        100 * clean["accuracy"],
        100 * clean["low"],
        clean["n"],
    )
    assert 20 < row["L∞ 8/255 %"] < row["Clean %"]


def test_the_list_is_filtered_by_words_and_kind():
    app = open_app()
    assert not app.exception
    everything = listed(app)
    assert len(everything) == len([card for card in zoo.cards() if card.dataset == "cifar10"])
    app.text_input(key="models.search").set_value("robust triplet").run()
    assert listed(app)["Name"].tolist() == ["cifar10/tla"]
    app.text_input(key="models.search").set_value("").run()
    app.session_state["models.kinds"] = ["random"]
    app.run()
    assert set(listed(app)["Kind"]) == {"random"} and "cifar10/lwta" in set(listed(app)["Name"])
    app.text_input(key="models.search").set_value("nothing like it").run()
    assert not app.exception and not any("models.attack" == b.key for b in app.button)


def test_a_smoke_run_stands_apart(monkeypatch):
    card = zoo.card("cifar10/pgd-linf")
    smoke = replace(card, name="cifar10/tried", title="Tried", training=card.training | {"images": 384})
    monkeypatch.setattr(zoo, "cards", lambda: [card, smoke])
    app = open_app()
    assert listed(app)["Name"].tolist() == [card.name]
    assert app.expander[0].label.startswith("Smoke runs (1)") and app.dataframe[1].value["Name"].tolist() == [
        smoke.name
    ]


@pytest.mark.parametrize(("key", "state"), [("models.attack", "future"), ("models.certify", "certify.future")])
def test_a_model_leads_to_its_attack_and_its_certificate(key, state):
    app = press(open_app(**{"models.look": "cifar10/smoothed-0.25"}), key)
    future = app.session_state[state]
    future.cancel()
    assert future.wait(60) and not app.exception
    shown = app.session_state["model" if key == "models.attack" else "certify.model"]
    assert shown == "cifar10/smoothed-0.25"


def test_ticked_rows_lead_to_a_comparison():
    names = ["cifar10/baseline", "cifar10/trades"]
    app = open_app(**{"models.rows": names})
    assert app.button(key="models.attack").disabled
    app = press(app, "models.compare")
    future = app.session_state["compare.future"]
    future.cancel()
    assert future.wait(60) and app.session_state["models"] == names


def test_in_the_plot_a_kind_keeps_its_colour_and_a_mark_its_interval():
    own = Mark("a/b", "B", "random", (0.8, 0.7, 0.85), (0.4, 0.35, 0.5))
    trace = tradeoff([own], KINDS, measured="accuracy", chosen="a/b").data[0]
    place = KINDS.index("random")
    assert (trace.marker.color, trace.marker.symbol) == (series_color(place), series_mark(place))
    assert trace.customdata[0][0] == "a/b" and (trace.x[0], trace.y[0]) == (80, 40)
    assert trace.error_y.array[0] == pytest.approx(10) and trace.error_x.arrayminus[0] == pytest.approx(10)
