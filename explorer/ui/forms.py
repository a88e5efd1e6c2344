"""Widgets made from a class's own fields: label, range, unit, help, presets."""

from __future__ import annotations

from typing import Any

import streamlit as st

from explorer.core import Hyper, Param

PRESET = "preset"


def form_for(cls: type[Hyper], prefix: str) -> dict[str, Any]:
    """One widget a field; returns the chosen values. `prefix` keeps the keys of different classes apart."""
    remember(cls, prefix)
    if len({tuple(sorted(p.items())) for p in cls.presets.values()}) > 1:
        _preset_row(cls, prefix)
    return {p.name: _widget(p, f"{prefix}.{p.name}") for p in cls.params()}


def set_form(cls: type[Hyper], prefix: str, values: dict[str, Any]) -> None:
    """Make the form show these values (and the defaults elsewhere). Call it before the form is drawn."""
    for p in cls.params():
        st.session_state[f"{prefix}.{p.name}"] = p.check(values.get(p.name, p.default))


def remember(cls: type[Hyper], prefix: str) -> None:
    """Keep a form's values through a run in which it is not drawn; the defaults at first."""
    for p in cls.params():
        key = f"{prefix}.{p.name}"
        st.session_state[key] = st.session_state.get(key, p.default)


def _preset_row(cls: type[Hyper], prefix: str) -> None:
    key = f"{prefix}.{PRESET}"
    now = {p.name: st.session_state[f"{prefix}.{p.name}"] for p in cls.params()}
    st.session_state[key] = next((name for name in cls.presets if now == _full(cls, name)), None)

    def apply() -> None:
        chosen = st.session_state[key]
        if chosen is not None:
            set_form(cls, prefix, dict(cls.presets[chosen]))

    st.segmented_control(
        "Strength",
        list(cls.presets),
        key=key,
        on_change=apply,
        help="Sets all values below; change any of them afterwards.",
    )


def _full(cls: type[Hyper], preset: str) -> dict[str, Any]:
    return cls(**cls.presets[preset]).to_dict()


def _widget(p: Param, key: str) -> Any:
    label = f"{p.label} ({p.unit})" if p.unit else p.label
    if p.kind is bool:
        return st.toggle(label, key=key, help=p.help)
    if p.choices:
        return st.selectbox(label, p.choices, key=key, help=p.help)
    if p.kind is str:
        return st.text_input(label, key=key, help=p.help)
    step = p.step if p.step is not None else (1 if p.kind is int else None)
    return st.number_input(
        label,
        min_value=p.kind(p.lo),
        max_value=p.kind(p.hi),
        step=p.kind(step) if step is not None else None,
        format=None if p.kind is int else "%.4g",
        key=key,
        help=f"{p.help} Between {p.lo:g} and {p.hi:g}.",
    )
