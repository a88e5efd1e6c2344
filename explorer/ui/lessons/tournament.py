"""The tournament on the page: which entries, the word, one run in the background, and the board as it grows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st

from explorer.core import ExplorerError
from explorer.evaluation.tournament import RANKED, TESTS, Entry, Share, board
from explorer.jobs import Run, Spec
from explorer.jobs.measuring import result
from explorer.models import zoo
from explorer.ui import permission
from explorer.ui.components.save import save_place
from explorer.ui.lessons import class_matrix
from explorer.ui.notices import told
from explorer.ui.session import look_again, store

KIND = "tournament"
FIRST = "cifar10/lenet"  # the course's own network
LOOK = 2.0  # seconds between two looks at a board under way


def show(go: Callable[..., None]) -> None:
    """Begin one, and the newest board."""
    st.header("Tournament of the class's networks", anchor=False)
    st.button("All lessons", icon=":material/arrow_back:", on_click=go, args=(None,))
    st.markdown(
        "Every network of the class, attacked on the same pictures. Which pictures, the hash of all entries decides, with a word "
        "that is said once all are in. Submissions are brought on the Models page (a zip of folders, as the course hands them in)."
    )
    runs = [run for run in store().runs() if run.state.status != "unreadable" and run.spec.kind == KIND]
    with st.expander("Begin one", expanded=not runs, icon=":material/flag:"):
        if permission.asked(KIND):
            _form()
    if runs:
        newest = max(runs, key=lambda run: run.spec.created)
        going = newest.state.status not in ("finished", "failed", "cancelled")
        look_again(_board, newest, going, every=LOOK if going else None, key="tournament")


def _form() -> None:
    cards = [card for card in zoo.cards() if card.dataset == "cifar10"]
    names = [card.name for card in cards]
    submitted = [card.name for card in cards if card.recipe == "submission"]
    entries = st.multiselect(
        "Entries", names, default=submitted, key="tournament.entries", filter_mode="contains", wrap=True
    )
    baseline, word, number = st.columns([2, 2, 1])
    base = baseline.selectbox(
        "Baseline", names, index=names.index(FIRST) if FIRST in names else 0, key="tournament.base"
    )
    said = word.text_input("The word", max_chars=100, key="tournament.word", autocomplete="off")
    images = number.number_input("Pictures", 10, 2000, 500, step=50, key="tournament.images")
    class_matrix.form()
    asked = {"models": list(dict.fromkeys([*entries, base])), "model": base, "word": said, "images": images}
    st.button("Begin the tournament", type="primary", icon=":material/emoji_events:", on_click=_begin, args=(asked,))


def _begin(settings: dict[str, Any]) -> None:
    with told():
        store().submit(Spec(kind=KIND, settings=settings | class_matrix.asked()), permission.permit())


def _board(run: Run, going: bool, polling: bool = False) -> None:
    """The board of a run, also while it goes."""
    state = run.refresh()
    if going and state.status in ("finished", "failed", "cancelled"):
        st.rerun()
    try:
        rows = (result(run) or {"rows": []})["rows"]
    except ExplorerError as error:
        st.error(str(error), icon=":material/error:")
        return
    settings = run.spec.settings
    entries = board(rows, settings["model"])
    st.subheader(f"Board of {len(settings['models'])} entries", anchor=False)
    st.caption(state.message or "Waiting for its turn.")
    if not entries:
        return
    shown = [test for test in TESTS if any(test in entry.shares for entry in entries)]
    st.dataframe(
        [_line(place, entry, shown) for place, entry in enumerate(entries, 1)], hide_index=True, width="stretch"
    )
    conditions = (
        f"{settings['images']} pictures drawn by all entries and the word “{settings['word']}”. In brackets 95 % intervals; p: "
        f"McNemar's exact test against {settings['model']} on the same pictures, adjusted by Holm over the column. Places by "
        f"{', then '.join(RANKED)} accuracy. That an attack fails proves nothing."
    )
    st.caption(conditions)
    if not any(TESTS[test].train for test in shown):
        st.caption("As the course's platform did (on training images): not measured, there are none on this computer.")
    if not going:
        save_place(f"tournament-{run.id}", about=conditions, key="tournament.save")
    class_matrix.show(rows, settings, run.id, going)


def _line(place: int, entry: Entry, shown: list[str]) -> dict[str, Any]:
    title = entry.model.partition("/")[2]
    line: dict[str, Any] = {"place": str(place) if not entry.refused else "–", "entry": title}
    return line | {TESTS[test].title: _cell(entry.shares.get(test)) for test in shown} | {"refused": entry.refused}


def _cell(share: Share | None) -> str:
    if share is None:
        return "–"
    low, high = share.interval
    p = "" if share.p is None else f", p = {share.p:.2g}"
    return f"{100 * share.right / share.n:.1f} % [{100 * low:.1f}, {100 * high:.1f}], n={share.n}{p}"
