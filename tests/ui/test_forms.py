"""A form shows every field of a class with its limits, and gives back what was chosen."""

import pytest
from streamlit.testing.v1 import AppTest

from explorer.attacks import ATTACKS


def _script(key: str) -> None:
    import streamlit as st

    from explorer.attacks import ATTACKS
    from explorer.ui.forms import form_for

    st.session_state["result"] = form_for(ATTACKS[key], key)


def _app(key: str) -> AppTest:
    return AppTest.from_function(_script, args=(key,), default_timeout=20).run()


@pytest.mark.parametrize("key", ATTACKS.keys())
def test_the_form_of_every_attack_starts_at_its_defaults(key):
    app = _app(key)
    assert not app.exception
    assert app.session_state["result"] == ATTACKS[key]().to_dict()


@pytest.mark.parametrize("key", ATTACKS.keys())
def test_every_number_has_the_limits_and_help_of_its_field(key):
    app = _app(key)
    for p in ATTACKS[key].params():
        if p.kind in (int, float):
            widget = app.number_input(key=f"{key}.{p.name}")
            assert (widget.min, widget.max) == (p.lo, p.hi)
            assert p.help in widget.help


def test_a_preset_fills_the_form_and_a_change_leaves_it():
    app = _app("pgd")
    app.segmented_control(key="pgd.preset").set_value("strong").run()
    assert app.session_state["result"] == ATTACKS["pgd"](**ATTACKS["pgd"].presets["strong"]).to_dict()
    app.number_input(key="pgd.steps").set_value(7).run()
    assert app.session_state["result"]["steps"] == 7
    assert app.session_state["pgd.preset"] is None


def _two_forms() -> None:
    import streamlit as st

    from explorer.attacks import ATTACKS
    from explorer.ui.forms import form_for, remember

    for key in ("pgd", "fgsm"):
        remember(ATTACKS[key], key)
    key = st.radio("attack", ["pgd", "fgsm"], key="attack")
    st.session_state["result"] = form_for(ATTACKS[key], key)


def test_values_survive_while_another_form_is_shown():
    app = AppTest.from_function(_two_forms, default_timeout=20).run()
    app.number_input(key="pgd.steps").set_value(33).run()
    app.radio(key="attack").set_value("fgsm").run()
    app.radio(key="attack").set_value("fgsm").run()
    app.radio(key="attack").set_value("pgd").run()
    assert app.session_state["result"]["steps"] == 33
