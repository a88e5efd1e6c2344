"""A form shows every field of a class with its limits, and gives back what was chosen."""

import pytest
from streamlit.testing.v1 import AppTest

from explorer.attacks import ATTACKS


def _script(key: str) -> None:
    import streamlit as st

    from explorer.attacks import ATTACKS
    from explorer.ui.inputs.forms import form_for

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
            if p.when is not None:
                app.selectbox(key=f"{key}.{p.when[0]}").set_value(p.when[1]).run()
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
    from explorer.ui.inputs.forms import form_for, remember

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


def _scened(models: str) -> None:
    import streamlit as st

    from explorer.attacks import ATTACKS
    from explorer.ui.inputs.forms import Scene, form_for

    scene = Scene("data:image/png;base64,", {"a/one": "One", "a/two": "Two"})
    key = st.radio("attack", ["minmax", "localized"], key="attack")
    if "seen" not in st.session_state:
        st.session_state["seen"] = True
        st.session_state["minmax.models"] = models
    st.session_state["result"] = form_for(ATTACKS[key], key, scene)


def test_other_models_are_chosen_from_a_list_and_named_in_one_text():
    app = AppTest.from_function(_scened, args=("a/two+a/gone",), default_timeout=20).run()
    assert app.session_state["result"]["models"] == "a/two"  # what is not in the list is dropped
    app.multiselect(key="minmax.models.chosen").set_value(["a/two", "a/one"]).run()
    assert app.session_state["result"]["models"] == "a/two+a/one"
    app.multiselect(key="minmax.models.chosen").set_value([]).run()
    assert app.session_state["result"]["models"] == ""


def test_a_field_is_drawn_only_when_it_matters_and_keeps_its_value():
    app = AppTest.from_function(_scened, args=("",), default_timeout=20).run()
    app.radio(key="attack").set_value("localized").run()
    app.number_input(key="localized.thickness").set_value(2).run()
    app.selectbox(key="localized.area").set_value("background").run()
    assert [w.key for w in app.number_input if w.key in ("localized.thickness", "localized.tolerance")] == [
        "localized.tolerance"
    ]
    assert app.session_state["result"]["thickness"] == 2
    app.selectbox(key="localized.area").set_value("drawn").run()
    assert not app.exception and app.session_state["result"]["mask"] == ATTACKS["localized"]().mask


def test_a_preset_leaves_alone_what_is_attacked():
    app = _app("localized")
    app.selectbox(key="localized.area").set_value("background").run()
    assert app.session_state["localized.preset"] == "standard"
    app.segmented_control(key="localized.preset").set_value("strong").run()
    assert (app.session_state["result"]["area"], app.session_state["result"]["steps"]) == ("background", 50)
