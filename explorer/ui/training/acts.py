"""What can be done with a training run: start, cancel, resume, delete, clone, attack its model, put it on show."""

from __future__ import annotations

import streamlit as st

from explorer.engine import AttackRequest
from explorer.jobs import Permit
from explorer.models import zoo
from explorer.ui import frame
from explorer.ui.attack import ATTACK
from explorer.ui.inputs import attack as controls
from explorer.ui.inputs.choices import FIRST_PICTURES
from explorer.ui.notices import notice, noticed, told
from explorer.ui.run_record import Seen
from explorer.ui.session import session_id, store
from explorer.ui.training import choice

SHOWN = "training.shown"  # in st.session_state: ids of the runs on show, in the order in which they were chosen
AT_MOST = 6  # runs overlaid; more could not be told apart


def _permit() -> Permit:
    return Permit(st.session_state.get(choice.PASSWORD) or None, who=f"browser {session_id()[:8]}")


def start() -> None:
    """A run of what the form says."""
    with told():
        run = store().submit(choice.current_spec(), _permit())
        st.session_state[choice.TITLE] = ""
        _show_only(run.id)


def act(action: str, id: str) -> None:
    """Cancel, resume or delete; another session may have been quicker."""
    with told():
        run = store().run(id)
        {"cancel": run.cancel, "resume": run.resume, "delete": run.delete}[action](_permit())
        if action == "delete":
            forget(id)


def clone(seen: Seen) -> None:
    """Its settings into the form, to be changed and started."""
    if seen.spec is not None:
        with told():
            choice.show(seen.spec)
            notice(f"The settings of {seen.title} are in the form: change what you like and press Start.")


def attack(name: str) -> None:
    """The Attack page, with this model and what else was chosen there."""
    state = st.session_state
    with noticed():
        card = zoo.card(name)
        if "image" in state and state["dataset"] == card.dataset:
            state["model"] = name
            ATTACK.start(controls.current_request(name))
        else:
            picture = FIRST_PICTURES.get(card.dataset, 0)
            ATTACK.play(AttackRequest(dataset=card.dataset, image=picture, model=name).checked())
        frame.go_to("attack")


def _show_only(id: str) -> None:
    st.session_state[SHOWN] = [id]


def toggle(id: str) -> None:
    """Its tick was set or taken away."""
    state = st.session_state
    others = [shown for shown in state[SHOWN] if shown != id]
    if not state[f"training.show.{id}"]:
        state[SHOWN] = others
    elif len(others) == AT_MOST:
        notice(f"At most {AT_MOST} runs can be told apart: take one away first.")
    else:
        state[SHOWN] = [*others, id]


def forget(id: str) -> None:
    """Take it off the page."""
    state = st.session_state
    state[SHOWN] = [shown for shown in state[SHOWN] if shown != id]
    state.pop(f"training.show.{id}", None)
