"""Repeat-a-paper sheets on the Lab page: every cell of a paper's tables and figures with its state, the reason and the command;
a cell that a run in the background can measure is measured from here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any
from urllib.parse import parse_qsl

import streamlit as st

from explorer.engine.tables import Table
from explorer.evaluation.report_tables import Ask
from explorer.evaluation.reports import Here
from explorer.evaluation.sheets import NOT_MEASURED, OTHER, STATES, Cell, cells, counts
from explorer.jobs import report_cells
from explorer.models import zoo
from explorer.ui import frame, permission
from explorer.ui.components.save import save_place
from explorer.ui.lab import views
from explorer.ui.page_run import set_link

HEADS = {
    "what": "Cell", "published": "Published", "ours": "Ours [95 %]", "n": "n", "state": "State", "model": "Model", "reason": "Why",
    "command": "Command, or page", "table": "Table",
}  # fmt: skip
ROW, TALLEST = 35, 560  # pixels: a row of the table, and all of it
ABOUT = (
    "**Repeat a paper**: every number and figure, and how ours stands beside it. *Same*: the published number lies in our 95 % interval. "
    "*Other*: it does not. *Cannot be*: the two cannot be held against each other, or nothing here makes it."
)


def panel() -> None:
    """Which states to list, in the sidebar."""
    st.header("Which cells", anchor=False)
    st.pills("State", STATES, key="lab.p.states", persist_state="session", selection_mode="multi")
    st.text_input("Search", key="lab.p.search", persist_state="session", placeholder="PGD, certified, a model ...")
    permission.asked("lab")


def show() -> None:
    """One paper's sheet, with the count of its states."""
    st.markdown(ABOUT)
    found = cells(zoo.cards(), _measured_here())
    papers = list(dict.fromkeys(cell.paper for cell in found))
    paper = st.selectbox("Paper or report", papers, key="lab.p.paper", persist_state="session", filter_mode="contains")
    sheet = [cell for cell in found if cell.paper == paper]
    told = " · ".join(f"{n} {state}" for state, n in counts(sheet).items())
    whole = " · ".join(f"{n} {state}" for state, n in counts(found).items())
    st.markdown(f"**{len(sheet)} cells**: {told}. :gray[All {len(papers)} sheets: {len(found)} cells, {whole}.]")
    shown = [cell for cell in sheet if _fits(cell)]
    picked = st.dataframe(
        [{head: getattr(cell, field) for field, head in HEADS.items()} for cell in shown],
        hide_index=True, width="stretch", height=min(TALLEST, ROW * (len(shown) + 1) + 3),
        key=f"lab.p.table.{hash(tuple((cell.table, cell.what, cell.model) for cell in shown))}", placeholder="–", on_select="rerun",
        selection_mode="single-row",
        column_config={
            "Cell": st.column_config.TextColumn(width=250, pinned=True), "Why": st.column_config.TextColumn(width="large"),
            "State": st.column_config.TextColumn(width=100), "n": st.column_config.NumberColumn(width=64, format="localized"),
            "Command, or page": st.column_config.TextColumn(width="large"),
        },
    )  # fmt: skip
    rows = [row for row in picked.selection.rows if row < len(shown)]
    measuring = bool(rows) and _details(shown[rows[0]])
    if not measuring:
        set_link({views.IN_LINK: views.PAPERS})
    if not rows:
        st.caption("Tick a row for its reason, its command, and the page that draws it.")
    open_ones = list(dict.fromkeys(cell.command for cell in sheet if cell.state == "not measured" and cell.command))
    if open_ones:
        st.markdown("**What measures the cells that are not measured yet:**")
        st.code("\n".join(open_ones), language="bash")
    save_place("paper", about="", table=Table(tuple(map(_saved, sheet)), {"paper": paper}), key="lab.p.save")


def _saved(cell: Cell) -> dict[str, Any]:
    return {one.name: getattr(cell, one.name) for one in fields(cell) if one.compare}


def _measured_here() -> Here:
    """What finished runs of the store tell of a cell; it stands in no card."""
    find = views.finder()

    def here(ask: Ask) -> Mapping[str, Any] | None:
        asked = report_cells.question(ask)
        answer = views.Answer() if asked is None else find(*asked)
        if asked is None or not answer.rows or not answer.finished:
            return None
        return report_cells.measure(ask, asked[0], answer.rows)

    return here


def _details(cell: Cell) -> bool:
    """One cell in full, and the way to what measures or draws it; whether a run in the background does."""
    st.markdown(f"**{cell.what}**: {cell.state}. {cell.reason}")
    if cell.command.startswith("python"):
        st.code(cell.command, language="bash")
    elif cell.command:
        st.caption(cell.command)
    page, query = cell.link
    measures, opens, _ = st.columns([2, 1, 1.5])
    if page:
        opens.button("Open", icon=":material/open_in_new:", key="lab.p.open", width="stretch", on_click=frame.go_to,
                     args=(page, dict(parse_qsl(query))), help="The page that draws ours.")  # fmt: skip
    asked = report_cells.question(cell.ask) if cell.ask is not None and cell.state in (NOT_MEASURED, OTHER) else None
    if asked is None:
        return False
    kind, settings = asked
    about = f"Exactly this cell, on {settings['images']:,} test pictures. The number goes into this sheet, not into the model's card."
    views.ask(measures, kind, lambda: settings, about, (views.PAPERS, "model"), _stage(kind))
    return True


def _stage(kind: str) -> Callable[[dict[str, Any], bool], None]:
    """How its run stands; the number is in the sheet."""

    def stage(asked: dict[str, Any], polling: bool) -> None:
        views.look(kind, asked, polling)

    return stage


def _fits(cell: Cell) -> bool:
    state = st.session_state
    words = (state.get("lab.p.search") or "").lower().split()
    text = f"{cell.table} {cell.what} {cell.model} {cell.reason} {cell.state}".lower()
    return cell.state in (state.get("lab.p.states") or STATES) and all(word in text for word in words)
