"""Permission to bring models and attacks: everybody where the app is reached from this computer alone, else the password.

Asked once a session, by the same guard and with the same log as the training runs (`jobs/access.py`), and again at every act.
"""

from __future__ import annotations

import streamlit as st

from explorer.core import confinement
from explorer.engine.adding import sentence
from explorer.jobs import Permit
from explorer.ui.notices import noticed
from explorer.ui.session import session_id, store
from explorer.ui.uploads import allow_large

TYPED, KEPT = "permission.typed", "permission.password"  # in st.session_state: the widget's, and the one that was right


def permit() -> Permit:
    """What this session shows."""
    return Permit(st.session_state.get(KEPT), who=f"browser {session_id()[:8]}")


def check(action: str, what: str) -> None:
    """Whether this session may do this; logged. Raises Refused."""
    store().allow(action, permit(), what)


def has() -> bool:
    """Whether this session may bring something, as far as is known: the act asks again."""
    guard = store().guard
    return guard is None or not guard.needed or bool(st.session_state.get(KEPT))


def asked(key: str) -> bool:
    """As `has`; draws the box for the password where it is needed and was not said yet."""
    if has():
        allow_large(session_id())
        return True
    st.text_input(
        "Instructor's password", type="password", key=f"{TYPED}.{key}", autocomplete="off", on_change=_typed, args=(key,),
        help="This app can be reached from other computers: bringing models and attacks, and measuring, need it.",
    )  # fmt: skip
    return False


def may_run_code(key: str) -> bool:
    """As `asked`, for what others wrote: where it cannot be confined that is said, and a page runs it only if the command line allows."""
    if said := confinement.refused_on_pages():
        st.warning(sentence(said), icon=":material/block:")
        return False
    if not asked(key):
        return False
    if said := confinement.not_prevented():
        st.warning(sentence(said), icon=":material/warning:")
    return True


def _typed(key: str) -> None:
    typed = st.session_state[f"{TYPED}.{key}"]
    with noticed():
        store().allow("bring", Permit(typed or None, who=f"browser {session_id()[:8]}"))
        st.session_state[KEPT] = typed
