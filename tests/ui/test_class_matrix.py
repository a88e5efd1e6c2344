"""Attacks of a class against its networks on the tournament's page: what the form submits, and what the matrix says."""

from __future__ import annotations

from streamlit.testing.v1 import AppTest

from explorer.core import confinement
from explorer.ui.lessons import class_matrix
from tests.confining import confining
from tests.jobs.test_tournament import RIGHT
from tests.ui.app import open_page
from tests.ui.test_lab import store  # noqa: F401  # the fixture


def open_form() -> AppTest:
    return open_page("lessons", {"view": "tournament"})


def begin(app: AppTest) -> AppTest:
    app.multiselect(key="tournament.entries").set_value(["cifar10/lenet-at"])
    app.text_input(key="tournament.word").set_value("banana")
    app.number_input(key="tournament.images").set_value(20)
    app.number_input(key=class_matrix.CHECKS).set_value(10).run()
    [button] = [one for one in app.button if one.label == "Begin the tournament"]
    return button.click().run()


@confining
def test_attack_files_are_submitted_with_the_networks(store):  # noqa: F811
    app = open_form()
    app.file_uploader(key=class_matrix.FILES).upload("group-a.py", RIGHT.encode()).run()
    assert not begin(app).exception
    (run,) = store.runs()
    asked = run.spec.settings
    assert [(one["name"], one["source"]) for one in asked["attacks"]] == [("group-a", RIGHT)]
    assert asked["checks"] == 10 and asked["models"] == ["cifar10/lenet", "cifar10/lenet-at"]


def test_where_code_is_not_confined_no_attack_is_taken_and_the_networks_still_compare(store, monkeypatch):  # noqa: F811
    monkeypatch.setattr(confinement, "bwrap", lambda: None)
    monkeypatch.delenv(confinement.ALLOWED, raising=False)
    app = open_form()
    assert "Install bubblewrap" in "\n".join(one.value for one in app.warning)
    assert not any(one.key == class_matrix.FILES for one in app.file_uploader)
    assert not begin(app).exception and store.runs()[0].spec.settings["attacks"] == []


def page() -> AppTest:
    def script():
        import streamlit as st

        from explorer.ui.lessons import class_matrix

        class_matrix.show(st.session_state["rows"], {"attacks": [{}], "checks": 10}, "k3v9", going=True)

    return AppTest.from_function(script, default_timeout=60)


def row(model, test, each, **more):
    return {
        "conditions": {"model": f"cifar10/{model}", "test": test, **more},
        "each": each,
        "refused": "",
        "outside": 0,
    }


def test_the_matrix_says_n_what_lies_outside_who_is_refused_and_who_has_flags():
    app = page()
    told = {
        "conditions": {"model": "cifar10/one", "test": "masking"},
        "checks": [{"check": "zero", "raised": True}],
        "refused": "",
    }
    refused = row("two", "class", "", attack="group a") | {"refused": "no such layer"}
    app.session_state["rows"] = [
        row("one", "natural", "1110"), row("two", "natural", "1100"), told, refused,
        row("one", "class", "1000", attack="group a") | {"outside": 2},
    ]  # fmt: skip
    app.run()
    assert not app.exception
    (table,) = [one.proto.body for one in app.get("html")]
    assert "n 4; 2 outside" in table and "1 of 1" in table and "refused" in table and "all of these" in table
    assert "group a on two: no such layer" in app.warning[0].value
    said = "\n".join(one.value for one in (*app.markdown, *app.caption))
    assert "**one**: 1 of 1 checks: Zero gradients" in said and "does not show that a network is robust" in said
