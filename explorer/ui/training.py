"""The Training page: choose a recipe, change it, start it, and watch it; what runs goes on without the page."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import streamlit as st

from explorer.core import ExplorerError, InvalidValue
from explorer.core.device import DEVICES, choose
from explorer.data import dataset
from explorer.defenses import GROUPS, RECIPES
from explorer.engine import AttackRequest
from explorer.jobs import LIVE, Permit, Run, Spec
from explorer.models import zoo
from explorer.ui import controls, frame, stage, training_cost, training_watch
from explorer.ui import training_words as words
from explorer.ui.forms import form_for, put, remember, set_form
from explorer.ui.session import audience, look_again, session_id, store
from explorer.ui.training_record import Seen

RECIPE, SMOKE, TITLE = "training.recipe", "training.smoke", "training.title"
DEVICE, PRECISION, PROCESSES = "training.device", "training.precision", "training.processes"
PASSWORD, CLOSE, ALL = "training.password", "training.close", "training.all"
SHOWN = "training.shown"  # ids of the runs on show, in the order in which they were chosen
PULSE = 0.25  # seconds between two looks at a run that has yet to record something, or to stop
STEADY = 3.0  # seconds between two looks at runs that record all the time: each draws the page anew
QUIET = 5.0  # seconds between two looks whether somebody else has begun something
EASY = 6  # pages that may look so often; with more, each looks less often
AT_MOST = 6  # runs overlaid; more could not be told apart
ROWS = 6  # runs listed at first
FIRST = "baseline"

_CSS = """
<style>
.st-key-training-close-up [data-testid="stMetricValue"] { font-size: 1.25rem; }
.st-key-training-list [data-testid="stVerticalBlock"] { gap: 0.1rem; }
</style>
"""


# What is asked for


def open_page() -> None:
    """The first choices, and the runs that the link names."""
    state = st.session_state
    for key, default in (
        (RECIPE, FIRST),
        (SMOKE, False),
        (TITLE, ""),
        (DEVICE, "auto"),
        (PRECISION, "auto"),
        (PROCESSES, 1),
    ):
        state.setdefault(key, default)
    if SHOWN not in state:
        asked = st.query_params.get("run", "")
        state[SHOWN] = [id for id in asked.split(",") if id][:AT_MOST]


def headline() -> None:
    """Recipe (long titles need the room), smoke run or not, and the button."""
    state = st.session_state
    recipe, smoke, start = st.columns([5, 1.6, 1.5], vertical_alignment="bottom")
    keys = [e.key for e in sorted(RECIPES, key=lambda e: (_rank(e.group), e.key))]
    recipe.selectbox(
        "Train by this recipe",
        keys,
        key=RECIPE,
        persist_state="session",
        format_func=lambda k: f"{RECIPES.entry(k).title} · {RECIPES.entry(k).group or 'others'}",
        on_change=_apply_smoke,
    )
    smoke.toggle("Smoke run", key=SMOKE, persist_state="session", on_change=_apply_smoke, help=(
        f"A small network on {RECIPES[state[RECIPE]].smoke_images} images: about a minute, only to see that it works."))  # fmt: skip
    start.button(
        "Start", type="primary", icon=":material/play_arrow:", on_click=_start, width="stretch", key="training.start"
    )


def panel() -> None:
    """What the model is called, the recipe's hyper-parameters, and how it is computed."""
    state = st.session_state
    entry = RECIPES.entry(state[RECIPE])
    st.subheader(entry.title, anchor=False)
    st.caption(entry.summary)
    if store().guard is not None and store().guard.needed:
        st.text_input("Instructor's password", type="password", key=PASSWORD, autocomplete="off", help=(
            "This app can be reached from other computers: starting, cancelling, resuming and deleting runs need it."))  # fmt: skip
    st.text_input("Call the model", key=TITLE, persist_state="session", max_chars=60, placeholder=_own_title(), help=(
        "What choosers will call it; its name in the zoo is made from this. Empty: the recipe's title with date and time."))  # fmt: skip
    for other in RECIPES:
        remember(other.cls, _prefix(other.key))
    form_for(entry.cls, _prefix(entry.key))
    with st.expander("How it is computed", icon=":material/memory:"):
        st.selectbox(
            "Device",
            choices(),
            key=DEVICE,
            persist_state="session",
            help="auto: the GPU where there is one, else the CPU.",
        )
        st.selectbox("Precision", ["auto", "float32", "bfloat16"], key=PRECISION, persist_state="session", help=(
            "Of the passes. auto: bfloat16 where the device computes in it, else float32."))  # fmt: skip
        st.number_input("Processes", 1, 64, key=PROCESSES, persist_state="session", help=(
            "Several share each batch (DDP): one GPU each, or on the CPU. One is the usual."))  # fmt: skip


def _prefix(key: str) -> str:
    return f"train.{key}"


def _rank(group: str) -> int:
    return GROUPS.index(group) if group in GROUPS else len(GROUPS)


def _apply_smoke() -> None:
    """A smoke run's few small values go into the form, and out again."""
    state = st.session_state
    cls, prefix = RECIPES[state[RECIPE]], _prefix(state[RECIPE])
    fields = {p.name: p for p in cls.params()}
    for name, value in cls.smoke.items():
        key, default = f"{prefix}.{name}", fields[name].default
        if state[SMOKE]:
            state[key] = fields[name].check(value)
        elif state.get(key) == fields[name].check(value):
            state[key] = default


def _own_title() -> str:
    state = st.session_state
    smoke = "smoke, " if state[SMOKE] else ""
    now = datetime.now()
    return f"{RECIPES.entry(state[RECIPE]).title} ({smoke}{now.day} {now:%b %H:%M})"


def current_spec() -> Spec:
    """What the form says; raises ExplorerError with one sentence."""
    state = st.session_state
    key = state[RECIPE]
    cls = RECIPES[key]
    hyper = {p.name: state[f"{_prefix(key)}.{p.name}"] for p in cls.params()}
    typed = state[TITLE].strip()
    slug = re.sub(r"[^a-z0-9]+", "-", typed.lower()).strip("-")
    return Spec(
        recipe=key,
        hyper=cls(**hyper).to_dict(),
        name=f"{cls.dataset}/{slug}" if slug else None,
        title=typed or _own_title(),
        device=state[DEVICE],
        precision=state[PRECISION],
        processes=state[PROCESSES],
        threads=_threads(),
        smoke=state[SMOKE],
    )


def _threads() -> int | None:
    asked = os.environ.get("EXPLORER_THREADS", "")
    return int(asked) if asked.isdecimal() and int(asked) else None


@st.cache_data(show_spinner=False)
def choices() -> list[str]:
    """The devices that are there."""
    found = []
    for name in DEVICES:
        try:
            choose(name)
        except InvalidValue:
            continue
        found.append(name)
    return found


# What can be done with a run


def _permit() -> Permit:
    return Permit(st.session_state.get(PASSWORD) or None, who=f"browser {session_id()[:8]}")


@contextmanager
def _told() -> Iterator[None]:
    """What could not be done, as one sentence on the page that is drawn next."""
    try:
        yield
    except ExplorerError as error:
        st.session_state["notice"] = str(error)
    except OSError as error:
        st.session_state["notice"] = f"That could not be done: {error.strerror or type(error).__name__}."


def _start() -> None:
    with _told():
        run = store().submit(current_spec(), _permit())
        st.session_state[TITLE] = ""
        _show_only(run.id)


def _act(action: str, id: str) -> None:
    """Cancel, resume or delete; another session may have been quicker."""
    with _told():
        run = store().run(id)
        {"cancel": run.cancel, "resume": run.resume, "delete": run.delete}[action](_permit())
        if action == "delete":
            _forget(id)


def _clone(seen: Seen) -> None:
    """Its settings into the form, to be changed and started."""
    state, spec = st.session_state, seen.spec
    with _told():
        cls = RECIPES[spec.recipe]
        known = {p.name for p in cls.params()}
        set_form(cls, _prefix(spec.recipe), {name: value for name, value in spec.hyper.items() if name in known})
        state[RECIPE], state[SMOKE], state[TITLE] = spec.recipe, spec.smoke, ""
        state[DEVICE] = spec.device if spec.device in choices() else "auto"
        state[PRECISION], state[PROCESSES] = spec.precision, spec.processes
        state["notice"] = f"The settings of {seen.title} are in the form: change what you like and press Start."


def _attack(name: str) -> None:
    """The Attack page, with this model and what else was chosen there."""
    state = st.session_state
    try:
        card = zoo.card(name)
        if "image" in state and state.get("dataset") == card.dataset:
            state["model"] = name
            stage.start(controls.current_request(name))
        else:
            picture = controls.FIRST_PICTURES.get(card.dataset, 0)
            request = AttackRequest(dataset=card.dataset, image=picture, model=name).checked()
            controls.show(request)
            stage.start(request)
    except ExplorerError as error:
        state["notice"] = str(error)
        return
    st.query_params.clear()  # they are this page's
    state[frame.WANTED] = "attack"


def _show_only(id: str) -> None:
    state = st.session_state
    for other in state[SHOWN]:
        state[f"training.show.{other}"] = False
    state[SHOWN], state[f"training.show.{id}"] = [id], True


def _toggle(id: str) -> None:
    state = st.session_state
    others = [shown for shown in state[SHOWN] if shown != id]
    if not state[f"training.show.{id}"]:
        state[SHOWN] = others
    elif len(others) == AT_MOST:
        state[f"training.show.{id}"] = False
        state["notice"] = f"At most {AT_MOST} runs can be told apart: take one away first."
    else:
        state[SHOWN] = [*others, id]


def _forget(id: str) -> None:
    state = st.session_state
    state[SHOWN] = [shown for shown in state[SHOWN] if shown != id]
    state.pop(f"training.show.{id}", None)


# What is shown


def notices() -> None:
    """What the last click could not do, or has done."""
    if notice := st.session_state.pop("notice", None):
        st.warning(notice, icon=":material/info:")


def show() -> None:
    """All runs, those on show in full; looks again while something is under way."""
    runs = [Seen.of(run) for run in store().tend()]
    _settle(runs)
    chosen = [seen for id in st.session_state[SHOWN] for seen in runs if seen.id == id]
    stage.set_link({"run": ",".join(seen.id for seen in chosen)} if chosen else {})
    _recipe(runs)
    st.subheader("Runs", anchor=False)
    if runs:
        _list(runs)
    else:
        st.info(
            "Nothing has been trained here yet. Choose a recipe above, turn on **Smoke run** for a first look, and press "
            "**Start**: the run goes on in the background, also when this page is closed.",
            icon=":material/model_training:",
        )
    if chosen:
        st.html(_CSS)
        _close_up(chosen)
    _pulse(runs, chosen)


def _settle(runs: Sequence[Seen]) -> None:
    """Runs on show that are gone are taken off; a first visit sees the newest."""
    state = st.session_state
    there = {seen.id for seen in runs}
    for id in [id for id in state[SHOWN] if id not in there]:
        _forget(id)
        st.warning(
            f"The run {id[:12]} is not there any more: it was deleted, or the link is another computer's.",
            icon=":material/info:",
        )
    if not state[SHOWN] and runs and "training.visited" not in state:
        state[SHOWN] = [runs[0].id]
    state["training.visited"] = True


def _recipe(runs: Sequence[Seen]) -> None:
    """The idea, the formula, where it is from, and what it costs here."""
    entry = RECIPES.entry(st.session_state[RECIPE])
    with st.expander(f"How {entry.title} trains, and what it costs here", expanded=not runs, icon=":material/school:"):
        left, right = st.columns([3, 2], gap="large")
        with left:
            if entry.cls.formula:
                st.latex(entry.cls.formula)
            st.markdown(entry.cls.explanation or entry.summary)
            st.caption(f"{dataset(entry.cls.dataset).title}." + (f" Source: {entry.paper}" if entry.paper else ""))
        with right:
            try:
                training_cost.show(current_spec(), sum(seen.state.status == "running" for seen in runs))
            except ExplorerError as error:  # settings that no run can have
                st.error(str(error), icon=":material/error:")


def _list(runs: Sequence[Seen]) -> None:
    """One row a run, the newest first; a tick puts it on show."""
    state = st.session_state
    shown = runs if state.get(ALL) else runs[:ROWS]
    with st.container(border=True, key="training-list"):
        for seen in shown:
            _row(seen)
        if len(runs) > ROWS:
            st.toggle(f"Show all {len(runs)} runs", key=ALL)


def _row(seen: Seen) -> None:
    name, status, progress, scores, when = st.columns([4, 1.7, 2.2, 3, 1.6], vertical_alignment="center")
    key = f"training.show.{seen.id}"
    put(key, seen.id in st.session_state[SHOWN])
    name.checkbox(seen.title, key=key, on_change=_toggle, args=(seen.id,))
    status.markdown(words.badge(seen.state.status))
    if seen.spec is None:
        scores.caption(seen.state.message)
        return
    now = training_watch.record_of(seen).standing()
    for column, text in ((progress, words.progress(now)), (scores, words.scores(now.best) if now else "")):
        column.markdown(f":small[{text or '–'}]")
    when.markdown(f":small[{words.when(seen.spec.created)}]")


def _close_up(chosen: Sequence[Seen]) -> None:
    state = st.session_state
    seen = chosen[0]
    if len(chosen) > 1:
        titles = {one.id: one.title for one in chosen}
        if state.get(CLOSE) not in titles:
            state[CLOSE] = chosen[-1].id
        st.segmented_control("In close-up", list(titles), key=CLOSE, format_func=titles.get, required=True)
        seen = next(one for one in chosen if one.id == state[CLOSE])
    with st.container(key="training-close-up"):
        _head(seen)
        training_watch.numbers(seen, training_watch.record_of(seen).standing())
    training_watch.curves(chosen)
    if len(chosen) > 1:
        training_watch.comparison(chosen)
    if _begins(seen):  # what is below makes the browser work, while the run needs the processor for its first update
        return
    if seen.run.sights():
        st.subheader("What its loss sees" if len(chosen) == 1 else f"What the loss of {seen.title} sees", anchor=False)
        training_watch.images(seen)
    training_watch.log(seen)
    training_watch.facts(seen)


def _head(seen: Seen) -> None:
    """Name, status, what happened, and what can be done about it."""
    status = seen.state.status
    left, *buttons = st.columns([4, 2, 1.4, 1.4], vertical_alignment="center")
    left.markdown(f"#### {seen.title} {words.badge(status)}")
    first, second, third = buttons
    if seen.live:
        stopping = seen.run.stopping
        first.button("Stopping" if stopping else "Cancel", icon=":material/stop_circle:", key="training.cancel", width="stretch",
                     disabled=stopping, on_click=_act, args=("cancel", seen.id))  # fmt: skip
    elif status == "finished" and seen.state.model:
        first.button("Attack this model", type="primary", icon=":material/bolt:", key="training.attack", width="stretch",
                     on_click=_attack, args=(seen.state.model,))  # fmt: skip
    elif seen.spec is not None and status not in ("finished", "unreadable"):
        first.button("Resume", icon=":material/resume:", key="training.resume", width="stretch",
                     on_click=_act, args=("resume", seen.id), help="Goes on from the last checkpoint.")  # fmt: skip
    if seen.recipe is not None:
        second.button("Clone", icon=":material/content_copy:", key="training.clone", width="stretch",
                      on_click=_clone, args=(seen,), help="Puts its settings into the form above.")  # fmt: skip
    if not seen.live:
        with third.popover("Delete", icon=":material/delete:", width="stretch"):
            model = f" and its model {seen.state.model}" if seen.state.model else ""
            st.markdown(f"Delete **{seen.title}**, its checkpoints, curves and log{model}? This cannot be undone.")
            st.button("Delete for good", type="primary", key="training.delete", on_click=_act, args=("delete", seen.id))
    _message(seen)


def _message(seen: Seen) -> None:
    status, said = seen.state.status, seen.state.message
    if status == "queued" and not said:
        said = (
            f"Waiting for its turn on {seen.state.device}: one run at a time has a device."
            if seen.state.device
            else "Waiting."
        )
    if status == "finished" and seen.state.model:
        said = said or f"Its model is {seen.state.model}: it stands in every model chooser now."
    if not said:
        return
    tell = {"failed": st.error, "unreadable": st.error, "paused": st.warning, "interrupted": st.warning}.get(
        status, st.caption
    )
    tell(said)


# Looking again


def _pulse(runs: Sequence[Seen], chosen: Sequence[Seen]) -> None:
    """Draws nothing; draws the page anew when something has changed. Runs that have ended are not looked at."""
    live = [seen for seen in runs if seen.live]
    soon = any(_begins(seen) or (seen.live and seen.run.stopping) for seen in chosen)
    crowd = max(1.0, audience("training", within=20 * STEADY) / EASY)
    pause = PULSE * crowd if soon else STEADY * crowd if live else QUIET
    look_again(_draw_if_changed, _signs(live, chosen), live, chosen, every=pause, key="training.pulse")


def _begins(seen: Seen) -> bool:
    """Whether its first record is a matter of seconds. A run that waits for its turn says so."""
    waits = seen.state.status == "queued" and bool(seen.state.message)
    return seen.live and not waits and training_watch.record_of(seen).standing() is None


def _draw_if_changed(before: tuple[Any, ...], live: Sequence[Seen], chosen: Sequence[Seen]) -> None:
    if frame.WANTED in st.session_state or _signs(live, chosen) != before:
        st.rerun()
    state = st.session_state
    state["training.looks"] = state.get("training.looks", 0) + 1
    if live and state["training.looks"] % 5 == 0 and any(_ended(seen.run) for seen in live):
        st.rerun()


def _ended(run: Run) -> bool:
    """Whether a live run's process is gone (its files would not say so); one that should be started again is."""
    return run.tend().status not in LIVE


def _signs(live: Sequence[Seen], chosen: Sequence[Seen]) -> tuple[Any, ...]:
    """What changes when something happens: times and sizes of a few files, and what the runs on show say they do."""
    root = store().root
    on_show = {seen.id for seen in chosen}
    signs: list[Any] = [_sign(root)]
    for seen in live:
        folder = seen.run.folder
        names = ["state.json", "metrics.jsonl", "cancel"]
        if seen.id in on_show:
            signs.append(seen.run.state.message)
            if not _begins(seen):
                names += ["sights", "log.txt"]
        signs += [_sign(folder / name) for name in names]
    return tuple(signs)


def _sign(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
