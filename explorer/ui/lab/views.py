"""The Lab's views, and the run in the background that answers one question of a kind: found, submitted, watched."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from explorer.core import ExplorerError, threads
from explorer.jobs import Spec
from explorer.jobs.measuring import result
from explorer.ui import frame, permission
from explorer.ui.inputs.choices import named
from explorer.ui.notices import NOTICE, draw_anew, noticed, say_notice, told
from explorer.ui.page_run import gone_back, set_link
from explorer.ui.run_record import Seen
from explorer.ui.session import look_again, store
from explorer.ui.text import training as words

CURVES, REAL, DRAWS, TRANSFER, ROC, BOARD, PAPERS = "curves", "real", "draws", "transfer", "roc", "board", "papers"
VIEWS = {
    CURVES: ":material/ssid_chart: Accuracy over eps", REAL: ":material/troubleshoot: Is it real?",
    DRAWS: ":material/casino: Random models", TRANSFER: ":material/grid_on: Transfer", ROC: ":material/area_chart: ROC",
    BOARD: ":material/leaderboard: Board",
    PAPERS: ":material/article: Papers",
}  # fmt: skip
VIEW, IN_LINK = "lab.view", "view"  # in st.session_state, and in a link
POLL = 2.0  # seconds between two looks at runs under way


def chosen() -> str:
    """Which view: as the link says at first, then as chosen."""
    state = st.session_state
    if VIEW not in state or gone_back():
        asked = st.query_params.get(IN_LINK, CURVES)
        state[VIEW] = asked if asked in VIEWS else CURVES
    st.pills(
        "What to look at", list(VIEWS), key=VIEW, persist_state="session", format_func=named(VIEWS),
        label_visibility="collapsed", required=True,
    )  # fmt: skip
    view: str = state[VIEW]
    return view


@dataclass(frozen=True)
class Answer:
    """What the store holds for one question of a kind."""

    rows: Sequence[Mapping[str, Any]] = ()  # the run's table, as far as it is measured
    run: Seen | None = None  # the newest that asks exactly this
    wrong: str = ""  # a sentence about a file that cannot be read

    @property
    def row(self) -> Mapping[str, Any] | None:
        """The first of the table, which has no other where one model is asked one question."""
        return self.rows[0] if self.rows else None

    @property
    def live(self) -> bool:
        return self.run is not None and self.run.live

    @property
    def finished(self) -> bool:
        return self.run is not None and self.run.state.status == "finished"


def find(kind: str, settings: Mapping[str, Any]) -> Answer:
    """Reads the store's runs, and looks after those that are live; computes nothing. A finished run before one that is not."""
    return finder()(kind, settings)


def finder() -> Callable[[str, Mapping[str, Any]], Answer]:
    """`find` for many questions: the store's runs are looked for once."""
    runs: dict[str, list[Seen]] = {}
    for seen in map(Seen.of, store().tend()):
        if seen.spec is not None:
            runs.setdefault(_key(seen.spec.kind, seen.spec.settings), []).append(seen)
    return lambda kind, settings: _answer(runs.get(_key(kind, settings), []))


def _key(kind: str, settings: Mapping[str, Any]) -> str:
    """Equal for equal questions, whatever their settings' order."""
    return json.dumps([kind, settings], sort_keys=True)


def _answer(same: Sequence[Seen]) -> Answer:
    if not same:
        return Answer()
    seen = next((one for one in reversed(same) if one.state.status == "finished"), same[-1])
    try:
        rows = (result(seen.run) or {})["rows"]
    except ExplorerError as error:
        return Answer((), seen, str(error))
    return Answer(rows, seen)


def beside(kind: str, settings: Mapping[str, Any], apart: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """Rows of finished runs that ask the same but for the settings `apart`, by the first of these; the newest of several."""
    same = {name: value for name, value in settings.items() if name not in apart}
    found: dict[str, Mapping[str, Any]] = {}
    for seen in map(Seen.of, store().runs()):
        if seen.spec is None or seen.spec.kind != kind or seen.state.status != "finished":
            continue
        own = seen.spec.settings
        if {name: value for name, value in own.items() if name not in apart} == same and own[apart[0]] != settings[
            apart[0]
        ]:
            with noticed():
                found[str(own[apart[0]])] = (result(seen.run) or {})["rows"][0]
    return found


def submit(kind: str, settings: Mapping[str, Any]) -> None:
    """The run that was stopped goes on, else a new one; a callback."""
    with told():
        seen = find(kind, settings).run
        if seen is not None and not seen.live:
            seen.run.resume(permission.permit())
        elif seen is None:
            store().submit(Spec(kind=kind, settings=dict(settings), threads=threads.asked()), permission.permit())


def button(place: DeltaGenerator, answer: Answer, kind: str, settings: Mapping[str, Any] | None) -> None:
    """Begins the run, or ends the one under way; `settings` None: nothing fit is asked."""
    key = f"lab.{kind}"
    if answer.live and answer.run is not None:
        place.button(
            "Cancel", icon=":material/stop_circle:", key=f"{key}.cancel", width="stretch", on_click=_cancel, args=(answer.run,),
            disabled=not permission.has() or answer.run.run.stopping,
        )  # fmt: skip
        return
    idle = settings is None or answer.finished
    place.button(
        "Measure in the background", type="secondary" if idle else "primary", icon=":material/schedule:", key=f"{key}.measure",
        width="stretch", on_click=submit, args=(kind, settings), disabled=idle or not permission.has(),
        help="A run that goes on when the app is closed. What is measured stays.",
    )  # fmt: skip


def ask(
    place: DeltaGenerator, kind: str, settings: Callable[[], dict[str, Any]], about: str, link: tuple[str, ...],
    stage: Callable[[dict[str, Any], bool], None],
) -> None:  # fmt: skip
    """What the controls ask, its button in this place, the address, and the stage, looked at while its run goes on.

    `settings` raises where nothing fit is asked, which is said. `link`: the view, the parameter that names the models, and
    further settings that the address holds under their own names.
    """
    try:
        asked = settings()
    except ExplorerError as error:
        button(place, Answer(), kind, None)
        with frame.notes():
            say_notice()
            st.error(str(error), icon=":material/error:")
        return
    answer = find(kind, asked)
    button(place, answer, kind, asked)
    with frame.notes():
        if not say_notice():
            st.markdown(about)
    view, models, *more = link
    set_link({IN_LINK: view, models: asked["model"]} | {name: str(asked[name]) for name in more if asked[name]})
    look_again(stage, asked, answer.live, every=POLL if answer.live else None, key=f"lab.{view}.stage")


def look(kind: str, asked: Mapping[str, Any], polling: bool) -> Answer:
    """What the store holds by now, and how its run stands; the page is drawn anew where that has begun or ended."""
    frame.leave_if_wanted()
    answer = find(kind, asked)
    if answer.live != polling or st.session_state.get(NOTICE):
        draw_anew()
    progress(answer)
    return answer


def nothing() -> None:
    """Where no number is there yet."""
    st.info("Nothing of this is measured yet: press **Measure in the background**.", icon=":material/arrow_upward:")


def progress(answer: Answer) -> None:
    """How the run stands, while it is not finished."""
    if answer.wrong:
        st.warning(answer.wrong, icon=":material/info:")
    if answer.run is None or answer.finished:
        return
    seen = answer.run
    left = seen.state.progress.get("left")
    time = f" About {words.duration(left)} left." if isinstance(left, (int, float)) else ""
    st.markdown(f"{words.badge(seen.state.status)} :small[{seen.state.message or 'Waiting for its turn.'}{time}]")


def _cancel(seen: Seen) -> None:
    with told():
        seen.run.cancel(permission.permit())


def grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """Head and rows together, as `text.certified.table` draws them."""
    return [list(head), *(list(row) for row in rows)]
