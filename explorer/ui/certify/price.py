"""How the proofs were paid for: certified accuracy of the models' cards beside their clean and attacked accuracy."""

from __future__ import annotations

import streamlit as st

from explorer.certify.certifiers import CERTIFIERS
from explorer.evaluation.paid import DISTANCES, Paid, paid
from explorer.evaluation.tables import distance
from explorer.plots.proofs import Price, prices
from explorer.ui.components.figures import chart, dark
from explorer.ui.components.save import save_place
from explorer.ui.inputs.choices import families
from explorer.ui.text import proofs as words

NORM = "certify.price.norm"  # in st.session_state


def show() -> None:
    """A figure for each norm in which models of the chosen dataset have certified accuracies."""
    cards = [card for card in families() if card.dataset == st.session_state["dataset"]]
    found = {norm: rows for norm in DISTANCES if (rows := paid(cards, norm))}
    if not found:
        return
    st.header("How the proof was paid for", anchor=False)
    if st.session_state.get(NORM) not in found:
        st.session_state[NORM] = next(iter(found))
    if len(found) > 1:
        st.segmented_control(
            "Norm", list(found), key=NORM, persist_state="session", required=True, label_visibility="collapsed",
            format_func=words.NORMS.__getitem__,
        )  # fmt: skip
    norm = st.session_state[NORM]
    kinds = [entry.title for entry in CERTIFIERS]
    chart(prices([_price(row, norm) for row in found[norm]], kinds, dark=dark()), "certify.price")
    st.caption(words.PRICE)
    save_place(
        f"price-of-proofs-{norm}", about=words.PRICE, figures={"certify.price": "How the proof was paid for"}, key="certify.price.save",
    )  # fmt: skip


def _price(row: Paid, norm: str) -> Price:
    return Price(
        row.model,
        CERTIFIERS.entry(row.certificate).title,
        distance({"norm": norm, "eps": row.distance}).removeprefix("L2 ").removeprefix("L∞ ").removeprefix("patch "),
        None if row.clean is None else row.clean.accuracy,
        None if row.attacked is None else row.attacked.accuracy,
        (row.certified.accuracy, row.certified.low, row.certified.high),
    )
