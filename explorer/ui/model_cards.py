"""Card of a model in full: what was measured, under which conditions, and how it was made."""

from __future__ import annotations

from typing import Any

import streamlit as st

from explorer.evaluation.measure import EACH
from explorer.evaluation.tables import measures
from explorer.models import zoo
from explorer.models.zoo import Card
from explorer.plots import training
from explorer.ui import add_model, model_course
from explorer.ui.components.figures import chart, dark
from explorer.ui.frame import asked
from explorer.ui.inputs.choices import families
from explorer.ui.model_table import LOOK, look_at
from explorer.ui.notices import notice, noticed
from explorer.ui.page_run import set_link
from explorer.ui.text.choosers import number

FOLLOWED = "models.followed"  # in st.session_state: the address that was followed last, so that a choice can leave it


def open_link() -> None:
    """The card that the address names (`?model=cifar10/pgd-linf`); before the page is drawn. What it names besides is told."""
    query = asked()
    if not query or st.session_state.get(FOLLOWED) == query:
        return
    st.session_state[FOLLOWED] = query
    if unknown := ", ".join(name for name in query if name != "model"):
        notice(f"The link names what this page does not know and leaves out: {unknown}.")
    if name := query.get("model"):
        with noticed():
            st.session_state["models.dataset"] = zoo.card(name).dataset
            look_at(name)


def details() -> None:
    """One card, whole: of the model that was ticked or clicked last, or is chosen here."""
    cards = {card.name: card for card in families()}
    if st.session_state.get(LOOK) not in cards:
        st.session_state[LOOK] = next(iter(cards))
    chosen = st.selectbox(
        "Look at one model", list(cards), key=LOOK, persist_state="session", filter_mode="contains",
        format_func=lambda name: f"{cards[name].title} ({name}) · {number(cards[name])}",
    )  # fmt: skip
    card = cards[chosen]
    st.session_state[FOLLOWED] = {"model": chosen}
    set_link({"model": chosen})
    st.header("What was measured", anchor=False)
    st.markdown(measures(card) if card.measures else "Nothing yet.")
    for note in dict.fromkeys(m["note"] for m in card.measures if m.get("note") and m.get("attack")):
        st.caption(note)
    with st.expander("All conditions of each measure"):
        st.dataframe([_measure(m) for m in card.measures], hide_index=True, width="stretch")
    model_course.show(card)
    add_model.elsewhere(card)
    left, right = st.columns(2, gap="large")
    with left:
        st.header("How it was made", anchor=False)
        st.markdown(card.summary)
        st.code(card.command, language="bash", wrap_lines=True)
        widths = {"": st.column_config.TextColumn(width=130), "value": st.column_config.TextColumn(width="large")}
        st.dataframe(_facts(card), hide_index=True, width="stretch", height="content", column_config=widths)
    if card.history:
        with right:
            st.header("Held-out accuracy while it was trained", anchor=False)
            figure = training.accuracy([training.Curves.of_history(card.title, card.history)], dark=dark())
            chart(figure, "models.history")


def _measure(m: dict[str, Any]) -> dict[str, str]:
    return {
        key.replace("_", " "): _plain(value)
        for key, value in m.items()
        if key not in EACH and value not in (None, "", {})
    }


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
