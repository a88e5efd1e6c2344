"""A run as a film: how the boundary around one picture moves, which held-out pictures are learnt and lost, and what goes wrong."""

from __future__ import annotations

import numpy as np
import streamlit as st

from explorer.plots import film as plots
from explorer.training.watched import ACROSS, ALONG, SIDE, BoundarySlice, TapeColumn
from explorer.ui.components.figures import chart, dark
from explorer.ui.run_record import Seen
from explorer.ui.text import film as words
from explorer.ui.training.watch import classes_of, record_of


def show(run: Seen) -> None:
    """The film and the tape, where the run has recorded them."""
    record = record_of(run)
    slices, tape = record.slices(), record.tape()
    if remark := record.remark():
        st.warning(remark, icon=":material/warning:")
    if said := words.robust_overfitting(tape, record.losses()):
        st.warning(said, icon=":material/trending_down:")
    if not slices and not tape:
        return
    st.header("Watch it learn", anchor=False)
    left, right = st.columns([1.15, 1], gap="large")
    if slices:
        with left:
            _film(run, slices)
    if tape:
        with right:
            _tape(tape)


def _film(run: Seen, slices: list[BoundarySlice]) -> None:
    last = slices[-1]
    _, answers, _ = record_of(run).decisions(run.run)
    names = classes_of(run, max(answers.shape[2], 1 + max(int(one.classes.max()) for one in slices)))
    st.markdown(f"**The boundary around one picture** ({names[last.label]}), from update to update")
    figure = plots.boundary(
        [one.update for one in slices],
        np.stack([one.classes for one in slices]),
        np.stack([one.sure for one in slices]),
        np.linspace(*ALONG, SIDE),
        np.linspace(*ACROSS, SIDE),
        names,
        dark=dark(),
    )
    chart(figure, f"training.film.{run.id}", scrollZoom=False)
    st.caption(words.film(slices))


def _tape(tape: list[TapeColumn]) -> None:
    st.markdown("**Picture by picture**: learnt, lost, never")
    states, names = words.states(tape)
    chart(plots.tape([one.epoch for one in tape], states, names, dark=dark()), "training.tape")
    st.caption(words.fates(tape))
