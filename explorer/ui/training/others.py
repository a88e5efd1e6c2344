"""Background runs that measure (certify, evaluate), below the trainings: how far they are, cancel, resume, and what they found."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from explorer.engine.certifying_set import CertifySetRequest
from explorer.models import zoo
from explorer.ui import frame
from explorer.ui.notices import told
from explorer.ui.run_record import Seen
from explorer.ui.text import training as words
from explorer.ui.training import acts


def show(runs: Sequence[Seen]) -> None:
    """One row a run, the newest first; nothing where there are none."""
    if not runs:
        return
    st.header("Runs that measure", anchor=False)
    with st.container(border=True, key="training-others"):
        for seen in runs:
            _row(seen)
    st.caption("`python -m explorer jobs show ID` prints the whole table of a run, also before it is done.")


def _row(seen: Seen) -> None:
    name, status, said, *buttons = st.columns([3.5, 1.5, 4.5, 1.6, 1.4], vertical_alignment="center")
    name.markdown(f"{seen.spec.kind.capitalize() if seen.spec else ''} {seen.title}")
    status.markdown(words.badge(seen.state.status))
    said.markdown(f":small[{_progress(seen)}]")
    state = seen.state.status
    if seen.live:
        buttons[0].button("Cancel", key=f"training.cancel.{seen.id}", on_click=acts.act, args=("cancel", seen.id),
                          disabled=seen.run.stopping, width="stretch")  # fmt: skip
        return
    if state == "finished":
        if _on_the_page(seen):
            buttons[0].button("Open", key=f"training.open.{seen.id}", on_click=_open, args=(seen,), width="stretch",
                              help="On the Certify page, where its certificates are kept.")  # fmt: skip
    else:
        buttons[0].button("Resume", key=f"training.resume.{seen.id}", on_click=acts.act, args=("resume", seen.id),
                          width="stretch", help="What is measured already is not measured again.")  # fmt: skip
    with buttons[1].popover("Delete", width="stretch"):
        st.markdown(f"Delete **{seen.title}** and all that it has measured? This cannot be undone.")
        st.button("Delete for good", key=f"training.delete.{seen.id}", on_click=acts.act, args=("delete", seen.id))


def _progress(seen: Seen) -> str:
    """What it does, and how long that will take; what it found, once it has ended."""
    left = seen.state.progress.get("left")
    said = seen.state.message or "Waiting for its turn."
    return f"{said} About {words.duration(left)} left." if isinstance(left, (int, float)) else said


def _on_the_page(seen: Seen) -> bool:
    """Whether the Certify page can show the same set: of bundled pictures, with the draws that are kept."""
    asked = seen.spec.settings if seen.spec is not None else {}
    own = asked.get("certificate") == "gaussian" and asked.get("seed") == -1 and asked.get("precision") == "float32"
    return own and asked.get("shuffle", -1) >= 0


def _open(seen: Seen) -> None:
    """The Certify page with the same question; pressing Certify there finds every certificate."""
    assert seen.spec is not None  # `_on_the_page`
    with told():
        asked = seen.spec.settings
        same = {name: asked[name] for name in ("sigma", "n0", "n", "alpha", "sound", "shuffle")}
        request = CertifySetRequest(zoo.card(asked["model"]).dataset, asked["model"], count=asked["images"], **same)
        frame.go_to("certify", request.to_query())
