"""What adding a model does: start it, check one again, accept its changed files, remove it; each asks for permission first."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from explorer.engine.adding import Added, accept_work, check_work
from explorer.engine.aside import Aside, Asides, Work
from explorer.evaluation import checking
from explorer.ui import permission
from explorer.ui.notices import notice, told

JOB = "add.job"  # in st.session_state: this session's newest addition;
CHECKED = "add.checked job"  # its newest check, with the model's name


@st.cache_resource(show_spinner=False)
def adder() -> Asides[Added]:
    """Who adds models, one at a time for all sessions."""
    return Asides("A model is being added")


def own() -> Aside[Added] | None:
    """This session's newest addition."""
    found: Aside[Added] | None = st.session_state.get(JOB)
    return found


def checked(name: str) -> Aside[Added] | None:
    """This session's newest check, if it is of this model."""
    kept: tuple[str, Aside[Added]] | None = st.session_state.get(CHECKED)
    return kept[1] if kept is not None and kept[0] == name else None


def add(what: str, make: Callable[[], Work[Added]]) -> None:
    """Begin an addition. `make` checks what is asked for and raises ExplorerError."""
    with told():
        permission.check("add model", what)
        st.session_state[JOB] = adder().start(f"adding {what}", make())


def check(name: str) -> None:
    _look(name, "check model", lambda: check_work(name))


def accept(name: str) -> None:
    _look(name, "accept model", lambda: accept_work(name))


def _look(name: str, action: str, make: Callable[[], Work[Added]]) -> None:
    with told():
        permission.check(action, name)
        st.session_state[CHECKED] = name, adder().start(f"looking at {name}", make())


def remove(name: str) -> None:
    """Take it away, for everybody."""
    with told():
        permission.check("remove model", name)
        checking.remove(name)
        notice(f"{name} was removed.")
