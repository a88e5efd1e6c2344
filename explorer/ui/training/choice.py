"""What is to be trained: the recipe, its hyper-parameters, the model's name, and how it is computed."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime

import streamlit as st

from explorer.core import InvalidValue, threads
from explorer.core.device import DEVICES, choose
from explorer.data import dataset, known
from explorer.defenses import GROUPS, RECIPES
from explorer.jobs import Spec
from explorer.ui.frame import row
from explorer.ui.inputs.forms import form_for, remember, set_form
from explorer.ui.session import store

RECIPE, SMOKE, TITLE, DATA = "training.recipe", "training.smoke", "training.title", "training.dataset"
DEVICE, PRECISION, PROCESSES = "training.device", "training.precision", "training.processes"
PASSWORD = "training.password"  # keys of st.session_state, all of them
FIRST = "baseline"
OWN = "the recipe's own"  # dataset


def prepare() -> None:
    """The first choices."""
    defaults = {RECIPE: FIRST, SMOKE: False, TITLE: "", DATA: OWN, DEVICE: "auto", PRECISION: "auto", PROCESSES: 1}
    for key, default in defaults.items():
        st.session_state.setdefault(key, default)


def show(spec: Spec) -> None:
    """Make the form show a run's settings, to be changed and started."""
    state, cls = st.session_state, RECIPES[spec.recipe]
    known = {p.name for p in cls.params()}
    set_form(cls, prefix(spec.recipe), {name: value for name, value in spec.hyper.items() if name in known})
    state[RECIPE], state[SMOKE], state[TITLE], state[DATA] = spec.recipe, spec.smoke, "", spec.dataset or OWN
    state[DEVICE] = spec.device if spec.device in choices() else "auto"
    state[PRECISION], state[PROCESSES] = spec.precision, spec.processes


def headline(start: Callable[[], None]) -> None:
    """Recipe (long titles need the room), smoke run or not, and the button that calls `start`."""
    state = st.session_state
    recipe, smoke, button = row([5, 1.6, 1.5], key="training-headline")
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
    button.button(
        "Start", type="primary", icon=":material/play_arrow:", on_click=start, width="stretch", key="training.start"
    )


def panel() -> None:
    """What the model is called, the recipe's hyper-parameters, and how it is computed."""
    state = st.session_state
    entry = RECIPES.entry(state[RECIPE])
    st.header(entry.title, anchor=False)
    st.caption(entry.summary)
    guard = store().guard
    if guard is not None and guard.needed:
        st.text_input("Instructor's password", type="password", key=PASSWORD, autocomplete="off", help=(
            "This app can be reached from other computers: starting, cancelling, resuming and deleting runs need it."))  # fmt: skip
    st.text_input("Call the model", key=TITLE, persist_state="session", max_chars=60, placeholder=_own_title(), help=(
        "What choosers will call it; its name in the zoo is made from this. Empty: the recipe's title with date and time."))  # fmt: skip
    added = [name for name in known() if dataset(name).folder is not None]
    if added:
        if state[DATA] not in (OWN, *added):
            state[DATA] = OWN
        st.selectbox("On this dataset", [OWN, *added], key=DATA, persist_state="session", format_func=_data_title, help=(
            "A recipe can train on any dataset that was added; it begins with random weights there."))  # fmt: skip
    for other in RECIPES:
        remember(other.cls, prefix(other.key))
    form_for(entry.cls, prefix(entry.key))
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


def prefix(key: str) -> str:
    """Before the keys of a recipe's form."""
    return f"train.{key}"


def _rank(group: str) -> int:
    return GROUPS.index(group) if group in GROUPS else len(GROUPS)


def chosen_dataset() -> str:
    """Whose pictures the recipe would train on."""
    state = st.session_state
    return RECIPES[state[RECIPE]].dataset if state[DATA] == OWN else str(state[DATA])


def _data_title(name: str) -> str:
    return name if name == OWN else dataset(name).title


def _apply_smoke() -> None:
    """A smoke run's few small values go into the form, and out again."""
    state = st.session_state
    cls, before = RECIPES[state[RECIPE]], prefix(state[RECIPE])
    fields = {p.name: p for p in cls.params()}
    for name, value in cls.smoke.items():
        key, default = f"{before}.{name}", fields[name].default
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
    data = None if state[DATA] == OWN else state[DATA]
    cls = RECIPES[key].on(data)
    hyper = {p.name: state[f"{prefix(key)}.{p.name}"] for p in cls.params()}
    typed = state[TITLE].strip()
    slug = re.sub(r"[^a-z0-9]+", "-", typed.lower()).strip("-")
    if data is not None and hyper.get("start") == RECIPES[key]().start:
        hyper["start"] = ""  # a model of the recipe's own dataset, which nobody asked for
    return Spec(
        recipe=key,
        dataset=data,
        hyper=cls(**hyper).to_dict(),
        name=f"{cls.dataset}/{slug}" if slug else None,
        title=typed or _own_title(),
        device=state[DEVICE],
        precision=state[PRECISION],
        processes=state[PROCESSES],
        threads=threads.asked(),
        smoke=state[SMOKE],
    )


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
