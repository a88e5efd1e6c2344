"""Beside certified accuracy: why an ordinary model certifies little, and what the report and the paper measured."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from explorer.data import DATASETS
from explorer.engine.rounding import share
from explorer.evaluation import published
from explorer.models.zoo import Card
from explorer.ui.certify.test_set import SET, cards_here
from explorer.ui.inputs.choices import FAVOURITE
from explorer.ui.text import certificate as words
from explorer.ui.text import certified as tables


def compare() -> None:
    """Why an ordinary model certifies little, and what others measured."""
    cards = cards_here()
    _ordinary(cards)
    if st.session_state["dataset"] != "cifar10":
        return
    st.header("Beside the report and the paper", anchor=False)
    st.markdown(
        f"**Certified accuracy in %, CIFAR-10** (the report's table 3; {published.COHEN.name}; ours from the model cards)"
    )
    st.html(tables.radii_table(cards))
    st.caption(tables.standing(cards))
    st.markdown("**Accuracy of the network itself on noisy pictures, %** (the report's table 1)")
    st.html(tables.noise_table(cards))
    st.caption(published.UNDER_NOISE_NOTE)
    st.markdown(f"**What PREDICT says with n copies, σ {published.PREDICT_SIGMA:g}, %** (the report's table 4)")
    st.html(tables.predict_table(cards))
    st.caption(
        "Right: PREDICT's class is the true one. Accurate: it is the smoothed model's own, the top class of up to 100,000 copies. "
        "With few copies it abstains often; with more it decides."
    )
    for line in tables.predict_notes(cards):
        st.caption(line)
    for source in (published.REPORT, published.COHEN):
        link = f" {source.url}" if source.url else ""
        st.caption(f"{source.name}: {source.what}.{link} {source.conditions}")


def _ordinary(cards: Sequence[Card]) -> None:
    state = st.session_state
    ordinary = next((card for card in cards if card.name == FAVOURITE), None)
    st.header("Why an ordinary model certifies little", anchor=False)
    st.markdown(words.ORDINARY)
    if ordinary is None:
        return
    for request, future in SET.made:
        now = future.latest
        if request.model == ordinary.name and now is not None and now.noisy is not None:
            right, total = now.natural
            st.markdown(
                f"Measured here: **{ordinary.title}** is right about {share(right / total, total)} of {total} clean "
                f"pictures, about {share(now.noisy.value, now.noisy.n)} of noisy copies at sigma {request.sigma:g}, and "
                f"certified right for {now.counts['right']} of {len(now.certificates)}."
            )
    st.button(
        f"Certify “{ordinary.title}” on the same pictures", icon=":material/visibility_off:", key="certify.set.ordinary",
        on_click=SET.certify_too, args=(ordinary.name,), disabled=SET.running,
        help=f"With the noise and the copies that are chosen above, on {DATASETS[state['dataset']].title}.",
    )  # fmt: skip
