"""Widgets made from a class's own fields: label, range, unit, help, presets."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import streamlit as st

from explorer.core import Hyper, Param
from explorer.ui.components.mask_editor import mask_editor

PRESET = "preset"


@dataclass(frozen=True)
class Scene:
    """What some fields are about: the picture (a data URL) to draw on, and the names and titles of other models."""

    picture: str
    models: Mapping[str, str]


def form_for(
    cls: type[Hyper], prefix: str, scene: Scene | None = None, *, presets: bool = True, hidden: Collection[str] = ()
) -> dict[str, Any]:
    """One widget a field; returns the chosen values. `prefix` keeps the keys of different classes apart.

    What is attacked comes before how hard. A field that matters only with some value of another is drawn only then.
    Without a `scene`, a mask and models are asked for as text. `presets`: with a row of them (`preset_row`). `hidden`:
    fields that are not drawn.
    """
    remember(cls, prefix)
    shown = [p for p in cls.params() if p.name not in hidden]
    what = [p for p in shown if not p.strength]
    values = _widgets(what, prefix, scene)
    if presets and len({tuple(sorted(p.items())) for p in cls.presets.values()}) > 1:
        preset_row(cls, prefix)
    values |= _widgets([p for p in shown if p.strength], prefix, scene)
    return {p.name: values.get(p.name, st.session_state[f"{prefix}.{p.name}"]) for p in cls.params()}


def _widgets(params: list[Param], prefix: str, scene: Scene | None) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for p in params:
        key = f"{prefix}.{p.name}"
        hidden = p.when is not None and values[p.when[0]] != p.when[1]
        values[p.name] = st.session_state[key] if hidden else _widget(p, key, scene)
    return values


def set_form(cls: type[Hyper], prefix: str, values: Mapping[str, Any]) -> None:
    """Make the form show these values (and the defaults elsewhere). Call it before the form is drawn."""
    for p in cls.params():
        st.session_state[f"{prefix}.{p.name}"] = p.check(values.get(p.name, p.default))


def remember(cls: type[Hyper], prefix: str) -> None:
    """The form's values are there also while it is not drawn; at first the defaults."""
    for p in cls.params():
        st.session_state.setdefault(f"{prefix}.{p.name}", p.default)


def put(key: str, value: Any) -> None:
    """Make a widget show this, unless it does.

    What a run sets goes to the browser, over what somebody has typed or chosen there since the run began.
    """
    if key not in st.session_state or st.session_state[key] != value:
        st.session_state[key] = value


def preset_row(cls: type[Hyper], prefix: str) -> None:
    """The presets of a form with this prefix, once its values are there (`remember`); none is lit where they are no preset's."""
    key = f"{prefix}.{PRESET}"
    now = {p.name: st.session_state[f"{prefix}.{p.name}"] for p in cls.params() if p.strength}
    put(key, next((name for name in cls.presets if now == _full(cls, name)), None))

    def apply() -> None:
        chosen = st.session_state[key]
        if chosen is not None:
            st.session_state.update({f"{prefix}.{name}": value for name, value in _full(cls, chosen).items()})

    st.segmented_control(
        "Strength",
        list(cls.presets),
        key=key,
        on_change=apply,
        help="Sets how hard the attack tries; change any of the values afterwards.",
    )


def _full(cls: type[Hyper], preset: str) -> dict[str, Any]:
    """What a preset sets: every value that says how hard, none that says what is attacked."""
    values = cls(**cls.presets[preset]).to_dict()
    return {p.name: values[p.name] for p in cls.params() if p.strength}


def _widget(p: Param, key: str, scene: Scene | None) -> Any:
    if scene is not None and p.widget == "mask":
        return _mask(p, key, scene)
    if scene is not None and p.widget == "models":
        return _models(p, key, scene)
    label = f"{p.label} ({p.unit})" if p.unit else p.label
    if p.kind is bool:
        return st.toggle(label, key=key, persist_state="session", help=p.help)
    if p.choices:
        return st.selectbox(label, p.choices, key=key, persist_state="session", help=p.help)
    if p.kind is str:
        return st.text_input(label, key=key, persist_state="session", help=p.help)
    step = p.step if p.step is not None else (1 if p.kind is int else None)
    return st.number_input(
        label,
        min_value=p.kind(p.lo),
        max_value=p.kind(p.hi),
        step=p.kind(step) if step is not None else None,
        format=None if p.kind is int else "%.4g",
        key=key,
        persist_state="session",
        help=f"{p.help} Between {p.lo:g} and {p.hi:g}.",
    )


def _mask(p: Param, key: str, scene: Scene) -> str:
    """Painted on the picture."""

    def paint(mask: str) -> None:
        st.session_state[key] = mask

    st.caption("Click or drag to paint the cells that may change.")
    mask_editor(scene.picture, st.session_state[key], key=f"{key}.editor", label=p.label, on_paint=paint)
    return st.session_state[key]


def _models(p: Param, key: str, scene: Scene) -> str:
    """Chosen from a list; names that are not in it (any more) are dropped."""
    chosen = f"{key}.chosen"
    put(chosen, [name for name in st.session_state[key].split("+") if name in scene.models])
    put(key, "+".join(st.session_state[chosen]))

    def choose() -> None:
        st.session_state[key] = "+".join(st.session_state[chosen])

    st.multiselect(
        p.label, list(scene.models), key=chosen, on_change=choose, format_func=lambda name: scene.models[name],
        placeholder="Choose at least one", help=p.help,
    )  # fmt: skip
    return st.session_state[key]
