"""Repeat-a-paper sheets on the Lab page: every cell of a paper's tables and figures with its state, the reason and the command."""

from __future__ import annotations

from dataclasses import asdict
from urllib.parse import parse_qsl

import streamlit as st

from explorer.engine.tables import Table
from explorer.evaluation.sheets import STATES, Cell, cells, counts
from explorer.models import zoo
from explorer.ui import frame
from explorer.ui.components.save import save_place
from explorer.ui.lab import views
from explorer.ui.page_run import set_link

HEADS = {
    "what": "Cell", "published": "Published", "ours": "Ours [95 %]", "n": "n", "state": "State", "model": "Model", "reason": "Why",
    "command": "Command, or page", "table": "Table",
}  # fmt: skip
ABOUT = (
    "**Repeat a paper**: every number and figure, and how ours stands beside it. *Same*: the published number lies in our 95 % interval. "
    "*Other*: it does not. *Cannot be*: the two cannot be held against each other, or nothing here makes it."
)


def panel() -> None:
    """Which states to list, in the sidebar."""
    st.header("Which cells", anchor=False)
    st.pills("State", STATES, key="lab.p.states", persist_state="session", selection_mode="multi")
    st.text_input("Search", key="lab.p.search", persist_state="session", placeholder="PGD, certified, a model ...")


def show() -> None:
    """One paper's sheet, with the count of its states."""
    set_link({views.IN_LINK: views.PAPERS})
    st.markdown(ABOUT)
    found = cells(zoo.cards())
    papers = list(dict.fromkeys(cell.paper for cell in found))
    paper = st.selectbox("Paper or report", papers, key="lab.p.paper", persist_state="session", filter_mode="contains")
    sheet = [cell for cell in found if cell.paper == paper]
    told = " · ".join(f"{n} {state}" for state, n in counts(sheet).items())
    whole = " · ".join(f"{n} {state}" for state, n in counts(found).items())
    st.markdown(f"**{len(sheet)} cells**: {told}. :gray[All {len(papers)} sheets: {len(found)} cells, {whole}.]")
    shown = [cell for cell in sheet if _fits(cell)]
    picked = st.dataframe(
        [{head: getattr(cell, field) for field, head in HEADS.items()} for cell in shown], hide_index=True, width="stretch", height=560,
        key=f"lab.p.table.{hash(tuple(shown))}", placeholder="–", on_select="rerun", selection_mode="single-row",
        column_config={
            "Cell": st.column_config.TextColumn(width=250, pinned=True), "Why": st.column_config.TextColumn(width="large"),
            "State": st.column_config.TextColumn(width=100), "n": st.column_config.NumberColumn(width=64, format="localized"),
            "Command, or page": st.column_config.TextColumn(width="large"),
        },
    )  # fmt: skip
    rows = [row for row in picked.selection.rows if row < len(shown)]
    if rows:
        _details(shown[rows[0]])
    else:
        st.caption("Tick a row for its reason, its command, and the page that draws it.")
    open_ones = list(dict.fromkeys(cell.command for cell in sheet if cell.state == "not measured" and cell.command))
    if open_ones:
        st.markdown("**What measures the cells that are not measured yet:**")
        st.code("\n".join(open_ones), language="bash")
    save_place(
        "paper", about="", table=Table(tuple(asdict(cell) for cell in sheet), {"paper": paper}), key="lab.p.save"
    )


def _details(cell: Cell) -> None:
    """One cell in full, and the way to what measures or draws it."""
    st.markdown(f"**{cell.what}**: {cell.state}. {cell.reason}")
    if cell.command.startswith("python"):
        st.code(cell.command, language="bash")
    elif cell.command:
        st.caption(cell.command)
    page, query = cell.link
    if page:
        st.button(
            "Open",
            icon=":material/open_in_new:",
            key="lab.p.open",
            on_click=frame.go_to,
            args=(page, dict(parse_qsl(query))),
        )


def _fits(cell: Cell) -> bool:
    state = st.session_state
    words = (state.get("lab.p.search") or "").lower().split()
    text = f"{cell.table} {cell.what} {cell.model} {cell.reason} {cell.state}".lower()
    return cell.state in (state.get("lab.p.states") or STATES) and all(word in text for word in words)
