"""The Certify page's table of proofs, without a browser: from a link to the rows, what may be filtered, and what says nothing."""

import json

from .app import ended, texts
from .test_certify import open_app

LINK = {"view": "table", "data": "fashion_mnist", "model": "fashion_mnist/fashion-mlp", "count": "10"}


def rows(app):
    return json.loads(app.dataframe[0].value.to_json(orient="records"))


def test_a_link_opens_the_table_and_each_proof_has_its_attack():
    app = ended(open_app(LINK), "certify.table.future")
    assert not app.exception and len(rows(app)) == 10
    for row in rows(app):
        if row["verdict"] == "certified":
            assert row["radius_crown"] >= row["radius_interval"] and row["attack_linf"] >= row["radius_crown"]
    said = texts(app)
    assert "Column smoothing" in said and "MLP does not" in said and "inside its certificate" not in said
    app.selectbox(key="certify.table.class").set_value("Bag").run()
    assert not app.exception and all(row["label"] == "Bag" for row in (rows(app) if app.dataframe else []))


def test_what_lies_between_proof_and_attack_is_asked_of_the_picked_picture():
    app = ended(open_app(LINK), "certify.table.future")
    row = next(row for row in rows(app) if row["verdict"] == "certified")
    app.session_state["certify.table.picked"] = row["image"]
    app.run().button(key="certify.table.between").click().run()
    assert not app.exception and app.session_state["certify.exact"] is not None
    app.session_state["certify.exact"].cancel()
    assert app.session_state["certify.exact"].wait(60) and not app.run().exception


def test_rows_are_put_in_order_and_the_first_is_opened_by_its_name():
    app = ended(open_app(LINK | {"attack": "0"}), "certify.table.future")
    app.selectbox(key="certify.table.order").set_value("radius_crown").run()
    radii = [row["radius_crown"] for row in rows(app)]
    known = [radius for radius in radii if radius is not None]
    assert known == sorted(known, reverse=True) and all(radius is None for radius in radii[len(known) :])
    safest = rows(app)[0]["image"]
    app.selectbox(key="certify.table.picked").set_value(safest).run()
    assert not app.exception and f"Picture {safest} (" in texts(app)
    app.selectbox(key="certify.table.class").set_value(
        next(r["label"] for r in rows(app) if r["image"] != safest)
    ).run()
    assert not app.exception


def test_below_the_table_stands_what_the_proofs_of_the_dataset_s_models_cost():
    app = open_app({"view": "table"})
    assert not app.exception and "How the proof was paid for" in [one.value for one in app.header]


def test_a_kind_that_cannot_read_the_model_is_one_sentence():
    app = ended(open_app(LINK | {"kinds": "column", "count": "10"}), "certify.table.future")
    assert not app.exception and any("column-resnet" in error.value for error in app.error)


def test_nothing_is_certified_unasked_and_a_wrong_kind_in_a_link_is_named():
    app = open_app({"view": "table"})
    assert not app.exception and not app.dataframe
    app = open_app(LINK | {"kinds": "crowns"})
    assert "could not be followed" in texts(app) and "crowns" in texts(app)
