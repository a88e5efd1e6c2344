"""The Models page: a table of what was measured, and each card in full."""

from __future__ import annotations

from typing import Any

import streamlit as st

from explorer.evaluation.tables import markdown, measures
from explorer.models.zoo import Card
from explorer.plots.training import MEASURES
from explorer.ui import controls


def overview() -> None:
    """One row a model: what it is for, and its headline measures, each with its 95 % interval."""
    st.subheader("Models", anchor=False)
    st.markdown(
        "Accuracy is the share of test images classified right. *Under attack* counts an image only if it is classified "
        "right **and** no attack within the stated distance changed that. In brackets: the 95 % interval. "
        "*Not adaptive*: the attack saw one draw of a random model per step, which flatters the model."
    )
    st.markdown(markdown(controls.families()))


def details() -> None:
    """One card, whole."""
    cards = {card.name: card for card in controls.families()}
    chosen = st.selectbox("Look at one model", list(cards), format_func=lambda name: f"{cards[name].title} ({name})")
    if chosen is None:
        return
    card = cards[chosen]
    st.subheader("What was measured", anchor=False)
    st.markdown(measures(card) if card.measures else "Nothing yet.")
    for note in dict.fromkeys(m["note"] for m in card.measures if m.get("note") and m.get("attack")):
        st.caption(note)
    with st.expander("All conditions of each measure"):
        st.dataframe([_measure(m) for m in card.measures], hide_index=True, width="stretch")
    left, right = st.columns(2, gap="large")
    with left:
        st.subheader("How it was made", anchor=False)
        st.markdown(card.summary)
        st.code(card.command, language="bash", wrap_lines=True)
        widths = {"": st.column_config.TextColumn(width="small"), "value": st.column_config.TextColumn(width="large")}
        st.dataframe(_facts(card), hide_index=True, width="stretch", height="content", column_config=widths)
    if card.history:
        series = [key for key in MEASURES if key in card.history[0]]
        curve = [{"epoch": e["epoch"], **{s: 100 * e[s] for s in series}} for e in card.history]
        with right:
            st.subheader("Held-out accuracy while it was trained", anchor=False)
            st.line_chart(curve, x="epoch", y=series, y_label="accuracy, %", x_label="epoch", height=320)


def _measure(m: dict[str, Any]) -> dict[str, str]:
    return {key.replace("_", " "): _plain(value) for key, value in m.items() if value not in (None, "", {})}


def _plain(value: Any) -> str:
    return ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)


def _facts(card: Card) -> list[dict[str, str]]:
    training = card.training
    facts = {
        "architecture": f"{card.architecture}, {', '.join(f'{k}={v}' for k, v in card.arguments.items())}",
        "parameters": f"{card.parameters:,}",
        "random at test time": "yes" if card.stochastic else "no",
        "recipe": card.recipe + (f" (hash {card.recipe_hash[:12]})" if card.recipe_hash else ""),
        "weights": f"{card.bytes / 2**20:.1f} MiB, {card.precision}, sha256 {card.sha256[:12]}…",
        **{key.replace("_", " "): _plain(value) for key, value in training.items()},
    }
    return [{"": key, "value": value} for key, value in facts.items()]
