"""What a run would cost on this computer: a few updates are timed by the engine, when somebody asks."""

from __future__ import annotations

import json
from collections.abc import Iterator

import streamlit as st

from explorer.core import ExplorerError, InvalidValue
from explorer.core.device import choose
from explorer.engine import Future
from explorer.engine.stopping import wanted
from explorer.jobs import Spec
from explorer.jobs.environment import precision_of
from explorer.training import Cost, estimate
from explorer.ui import training_words as words
from explorer.ui.session import engine, look_again, session_id, still_open

ASKED = "training.cost"  # (what was asked for, its future)
POLL = 0.5  # seconds between two looks at a running estimate


def show(spec: Spec, live: int) -> None:
    """The estimate for these settings, or the button that makes one. `live`: runs that compute here now."""
    state = st.session_state
    asked, future = state.get(ASKED, (None, None))
    working = asked == _key(spec) and future is not None and not future.finished
    look_again(_panel, spec, live, working, every=POLL if working else None, key="training.cost panel")


def _panel(spec: Spec, live: int, working: bool) -> None:
    asked, future = st.session_state.get(ASKED, (None, None))
    st.markdown("**What it costs here**")
    if asked != _key(spec) or future is None:
        st.button("Time a few updates", icon=":material/timer:", key="training.cost.ask", on_click=_ask, args=(spec,), help=(
            "Trains on random pixels for a moment, with these settings, and reckons from that how long the run would take."))  # fmt: skip
        st.caption("Not measured yet for these settings.")
        return
    if not future.finished and not working:
        st.rerun()  # asked for just now: begin to look again and again
    if future.latest is not None:
        told(spec, future.latest, live)
    if future.state == "failed":
        st.error(future.error, icon=":material/error:")
    if not future.finished:
        st.button("Enough", icon=":material/stop_circle:", key="training.cost.stop", on_click=future.cancel)
        st.caption("Timing …" if future.latest is None else "Still timing: the estimate sharpens.")
    elif working:
        st.rerun()  # once more, without looking again and again


def told(spec: Spec, cost: Cost, live: int) -> None:
    """An estimate in words, with how it was made."""
    epochs = spec.hyper["epochs"]
    many = f"{epochs} epochs of {words.duration(cost.epoch_seconds)} each" if epochs > 1 else "one epoch"
    st.markdown(f"About **{words.duration(cost.total_seconds)}** in all: {many}.")
    parts = [f"{cost.images_per_second:,.0f} images per second", f"{1000 * cost.update_seconds:,.0f} ms an update"]
    if cost.memory is not None:
        parts.append(f"{words.size(cost.memory)} of the device's memory")
    st.markdown(", ".join(parts) + ".")
    scoring = "held-out scoring included" if cost.scoring_seconds is not None else "held-out scoring not yet included"
    updates = f"{cost.timed} timed update{'' if cost.timed == 1 else 's'}"
    st.caption(
        f"An estimate from {updates} on random pixels, in {precision_of(spec.precision, choose(spec.device))} on "
        f"{engine().description}; {scoring}, the final measuring not."
        + (f" {live} run{' is' if live == 1 else 's are'} under way here, which makes it slower." if live else "")
        + (f" {spec.processes} processes would share the work; one was timed." if spec.processes > 1 else "")
    )


def _key(spec: Spec) -> str:
    return json.dumps([spec.recipe, spec.hyper, spec.device, spec.precision, spec.smoke], sort_keys=True)


def _ask(spec: Spec) -> None:
    state = st.session_state
    _, before = state.get(ASKED, (None, None))
    if before is not None:
        before.cancel()
    try:
        future: Future[Cost] = engine().submit(session_id(), lambda: _timing(spec), alive=still_open())
    except ExplorerError as error:
        state["notice"] = str(error)
        return
    state[ASKED] = (_key(spec), future)


def _timing(spec: Spec) -> Iterator[Cost]:
    recipe, device = spec.build(), choose(spec.device)
    if spec.device != "auto" and device.type != engine().device.type:
        raise InvalidValue(
            f"Only {engine().description} is timed from this page; the run itself may take {spec.device}."
        )
    bf16 = precision_of(spec.precision, device) == "bfloat16"
    limit = recipe.smoke_images if spec.smoke else None
    yield from estimate(recipe, device=device, limit=limit, bf16=bf16, should_stop=_unwanted)


def _unwanted() -> bool:
    ask = wanted.get()
    return ask is not None and not ask()
