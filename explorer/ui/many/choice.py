"""Which pictures of a strip: drawn at random (of all, of those the model gets right, of a class), or chosen by hand."""

from __future__ import annotations

from functools import partial

import streamlit as st

from explorer.engine.batch_request import MAX_PICTURES, ManyRequest
from explorer.ui.components.gallery import gallery
from explorer.ui.inputs.choices import (
    EVERY,
    class_number,
    classes_of,
    classes_with_pictures,
    draw_others,
    named,
    rows_of_class,
    thumbs,
)
from explorer.ui.inputs.picture import dataset_box
from explorer.ui.notices import notice
from explorer.ui.text.keys import GRID, keys

PER_PAGE = 40
USUAL = 16  # pictures, at first
PICKS = {
    "random": "drawn at random",
    "right": "at random, of those it gets right",
    "hand": "chosen by hand",
}


def prepare() -> None:
    """The first choices; classes and rows of another dataset are taken off."""
    state = st.session_state
    for key, default in (("pick", "random"), ("of", EVERY), ("count", USUAL), ("shuffle", 0), ("rows", []), ("leaf", 0),
                         ("precision", "auto")):  # fmt: skip
        state.setdefault(f"many.{key}", default)
    if state.get("many.dataset", state["dataset"]) != state["dataset"]:
        state["many.rows"], state["many.of"] = [], EVERY
    state["many.dataset"] = state["dataset"]


def show(request: ManyRequest) -> None:
    """Make the controls show these pictures."""
    state = st.session_state
    state["many.pick"], state["many.count"], state["many.dataset"] = request.pick, request.count, request.dataset
    state["many.of"] = EVERY if request.of is None else request.classes[request.of]
    state["many.shuffle"], state["many.rows"] = request.shuffle, list(request.rows)
    state["many.precision"] = request.precision


def pictures_panel() -> None:
    """Which pictures: drawn at random (of all, or of those the model gets right, or of a class), or chosen by hand."""
    state = st.session_state
    st.header("Pictures", anchor=False)
    dataset_box()
    name = state["dataset"]
    st.radio(
        "Which pictures",
        list(PICKS),
        key="many.pick",
        persist_state="session",
        format_func=named(PICKS),
        label_visibility="collapsed",
        help="Random pictures stand for the test set; those that the model gets right leave out the trivial ones.",
    )
    classes = [EVERY, *classes_with_pictures(name)]
    st.selectbox("Class", classes, key="many.of", persist_state="session", label_visibility="collapsed")
    if state["many.pick"] == "hand":
        _choose_by_hand(name)
        return
    st.slider("How many", 1, MAX_PICTURES, key="many.count", persist_state="session")
    draw_others("many.shuffle")


def _choose_by_hand(name: str) -> None:
    state = st.session_state
    rows, chosen = rows_of_class(name, state["many.of"]), state["many.rows"]
    pages = -(-len(rows) // PER_PAGE)
    page = state["many.leaf"] % pages
    shown = rows[page * PER_PAGE : (page + 1) * PER_PAGE]
    st.caption(f"{len(chosen)} of at most {MAX_PICTURES} chosen. Click to add, click again to take away.")
    gallery(
        thumbs(name, tuple(shown)),
        chosen,
        key="many.gallery",
        label="Pictures to choose",
        on_pick=partial(_choose, {*shown, *chosen}),
        most=MAX_PICTURES,
    )
    left, right = st.columns(2)
    left.button("More", on_click=_turn_leaf, args=(pages,), width="stretch", icon=":material/navigate_next:")
    right.button("None", on_click=_choose_none, width="stretch", icon=":material/close:", disabled=not chosen)
    st.caption(keys(GRID))


def _choose(offered: set[int], picked: list[int]) -> None:
    state = st.session_state
    if len(picked) > MAX_PICTURES:
        notice(f"At most {MAX_PICTURES} pictures make a strip: take one away first.")
    elif offered.issuperset(picked):
        state["many.rows"] = list(dict.fromkeys(picked))


def _turn_leaf(pages: int) -> None:
    st.session_state["many.leaf"] = (st.session_state["many.leaf"] + 1) % pages


def _choose_none() -> None:
    st.session_state["many.rows"] = []


def own_classes() -> list[int]:
    """Classes that cannot be wished for: that of the pictures, where only one is drawn from."""
    state = st.session_state
    if state["many.pick"] == "hand":
        return classes_of(state["many.rows"])
    return [] if state["many.of"] == EVERY else [class_number(state["many.of"])]
