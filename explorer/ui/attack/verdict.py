"""Verdict on a finished walk, as the Attack page shows it: in one colour, with its facts and the next step."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import streamlit as st

from explorer.engine import AttackRequest, Result, Snapshot
from explorer.engine.masking import remembered
from explorer.models import zoo
from explorer.plots.theme import STATE_COLORS
from explorer.ui.components.conditions import as_json, as_python
from explorer.ui.text import attack as verdicts
from explorer.ui.text.masking import pattern

ICONS = {"fooled": "gpp_bad", "holds": "gpp_good", "wrong": "help"}
_CSS = "<style>" + "".join(
    f"[class*=verdict-{state}] {{ border-left: 5px solid {color}; border-radius: 0.5rem; padding: 0.7rem 1rem; "
    f"background: color-mix(in srgb, {color} 15%, transparent); }}"
    for state, color in STATE_COLORS.items()
)
_CSS += "</style>"


def box(state: str, sentence: str, key: str = "verdict") -> None:
    """A verdict in the colour that it has everywhere; `state`: "fooled", "holds" or "wrong". A second one needs a `key`, which
    ends in "verdict"."""
    st.html(_CSS)
    with st.container(key=f"{key}-{state}"):
        st.markdown(f":material/{ICONS[state]}: {sentence}", help=verdicts.help_for(sentence))


def show(snapshot: Snapshot, result: Result, request: AttackRequest, ask: Callable[[], None]) -> None:
    """What happened, what makes it doubtful, what to `ask` next, and the facts."""
    trace, stochastic = snapshot.trace, zoo.card(request.model).stochastic
    left, right = st.columns(2, gap="large")
    with left:
        _, sentence = verdicts.headline(trace, result, request)
        box(verdicts.state(result), sentence)
        _doubts(result, request, stochastic)
        ask()
    with right:
        _facts(verdicts.details(trace, result, request, stochastic))
        with st.expander("All conditions, and the same attack as Python"):
            as_python(request.to_python(trace.label))
            as_json(result.conditions)


def _doubts(result: Result, request: AttackRequest, stochastic: bool) -> None:
    if doubt := verdicts.warning(request, stochastic):
        st.warning(doubt, icon=":material/help:")
    if sign := pattern(*remembered(st.session_state.setdefault("tried", {}), result, request)):
        (st.warning if sign.flag else st.info)(sign.words, icon=":material/visibility_off:" if sign.flag else None)


def _facts(lines: Iterable[str]) -> None:
    for line in lines:
        st.markdown(f"- {line}", help=verdicts.help_for(line))
