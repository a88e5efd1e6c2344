"""Column smoothing of one picture: its looks, the vote of each, and from where a patch could turn the vote."""

from __future__ import annotations

from html import escape

import numpy as np
import streamlit as st
import torch

from explorer.certify.columns import largest_patch, touches, turned
from explorer.core import ExplorerError
from explorer.engine.looking import ARCHITECTURE, Looks, looks_work
from explorer.models import zoo
from explorer.plots import columns as plots
from explorer.ui.certify.copies import copy_cell, copy_row
from explorer.ui.certify.picture import CERTIFICATE
from explorer.ui.components.figures import chart, dark
from explorer.ui.notices import noticed
from explorer.ui.page_run import Task, say_how_it_stands
from explorer.ui.session import engine
from explorer.ui.text import proofs as words

POLL = 0.5  # seconds between two looks at the work
OF, PATCH, LEFT = "certify.looks.of", "certify.looks.patch", "certify.looks.left"  # in st.session_state
LOOKS: Task[Looks] = Task("certify.looks", " looks")  # a moment's work, which takes turns with the certificate by noise


def show() -> None:
    """Of the chosen picture, where the chosen model looks at columns; nothing of any other."""
    try:
        asked = CERTIFICATE.current().one
    except ExplorerError:
        return  # the page's notices say so
    if zoo.card(asked.model).architecture != ARCHITECTURE:
        return
    if LOOKS.future is None or st.session_state.get(OF) != asked:
        with noticed():
            LOOKS.submit(looks_work(engine(), asked))
            st.session_state[OF] = asked
    st.header("Column smoothing: what each look votes", anchor=False)
    LOOKS.look(_draw, every=POLL, name="certify.looks.stage")


def _draw(polling: bool) -> None:
    if LOOKS.future is not None:
        LOOKS.future.wait_for(lambda _: True, POLL)
        if LOOKS.latest is not None:
            _looks(LOOKS.latest)
        say_how_it_stands(LOOKS.future, polling)


def _looks(now: Looks) -> None:
    ballots, classes = torch.from_numpy(now.ballots), now.request.classes
    across, counts = len(ballots), ballots.sum(0)
    proven = int(largest_patch(counts[None], now.columns, across)[0])
    st.session_state[PATCH] = min(st.session_state.get(PATCH, proven + 1), across)
    one, two = st.columns(2, gap="large")
    patch = one.slider("Side of the patch (pixels)", 1, across, key=PATCH, persist_state="session")
    if across > patch:
        st.session_state[LEFT] = min(st.session_state.get(LEFT, (across - patch) // 2), across - patch)
        two.slider("its leftmost column", 0, across - patch, key=LEFT, persist_state="session")
    left = st.session_state[LEFT] if across > patch else 0
    reached, wins = touches(now.columns, patch, across)[left], turned(ballots, now.columns, patch)
    st.markdown(words.looks(now, proven, patch, left, wins))
    _strips(now, reached.numpy(), int(counts.argmax()))
    one, two = st.columns(2, gap="large")
    with one:
        turning = wins.any(1).nonzero().flatten().numpy()
        chart(plots.looks(now.ballots, classes, reached.numpy(), turning, patch, dark=dark()), "certify.looks.votes")
        st.caption(words.LOOKS)
    with two:
        rest = ballots[~reached].sum(0).numpy()
        chart(plots.counts(counts.numpy(), rest, int(reached.sum()), classes, dark=dark()), "certify.looks.counts")
        st.caption(words.COUNTS)


def _strips(now: Looks, reached: np.ndarray, winner: int) -> None:
    """The picture, and what each look sees of it, with its vote."""
    classes, wide = now.request.classes, np.concatenate([now.picture, now.picture[..., : now.columns - 1]], axis=2)
    cells = []
    for w, votes in enumerate(now.ballots):
        said = ", ".join(classes[k] for k in np.flatnonzero(votes)) or "none"
        sign = "✓" if votes[winner] else "✗"
        touched = " ▚" if reached[w] else ""
        text = f"{sign} {escape(said)}{touched}"
        cells.append(
            copy_cell(
                wide[..., w : w + now.columns], f"look {w}, votes for {escape(said)}", text, not reached[w], "45%"
            )
        )
    st.html(copy_row(cells, "The looks at the picture and their votes", least=2.3))
