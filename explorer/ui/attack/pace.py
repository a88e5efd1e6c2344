"""Pace of attacks on this computer: which are so quick that choosing a picture, a model or an attack may begin one."""

from __future__ import annotations

import streamlit as st

from explorer.engine import AttackRequest, Snapshot
from explorer.ui.session import engine

AT_ONCE = 1.5  # seconds of computing
KEPT = 1000  # kinds of walks whose seconds are remembered
Kind = tuple[str, str, tuple[tuple[str, str], ...]]


@st.cache_resource(show_spinner=False)
def _seconds() -> dict[Kind, float]:
    """Of the last walk of each kind, of all sessions."""
    return {}


def _kind(request: AttackRequest) -> Kind:
    """Model, attack and its settings: what decides how long a walk takes."""
    return request.model, request.attack, tuple(sorted((name, str(value)) for name, value in request.hyper.items()))


def took(request: AttackRequest, done: Snapshot) -> None:
    """A walk of this kind has ended. What came before the second step does not count: a model's first passes are slow."""
    known = _seconds()
    known[_kind(request)] = done.seconds - done.cold if len(done.trace.frames) > 2 else done.seconds
    while len(known) > KEPT:
        known.pop(next(iter(known)), None)


def is_quick(request: AttackRequest) -> bool:
    """Whether the last walk of this kind took no time worth a thought; False for one that was never made here."""
    return _seconds().get(_kind(request), AT_ONCE) < AT_ONCE


def is_free(mine: bool) -> bool:
    """Whether nobody else waits for the device; `mine`: this session has work there itself."""
    return engine().sessions <= int(mine)
