"""What a run would cost on this computer: a few updates are timed by the engine, when somebody asks."""

from __future__ import annotations

import json
from collections.abc import Iterator

import streamlit as st

from explorer.core import InvalidValue
from explorer.core.device import choose
from explorer.engine.stopping import wanted
from explorer.jobs import Spec
from explorer.jobs.environment import precision_of
from explorer.training import Cost, estimate
from explorer.ui.notices import noticed
from explorer.ui.page_run import Task
from explorer.ui.session import engine, look_again
from explorer.ui.text import training as words

COST: Task[Cost] = Task("training.cost")
OF = "training.cost.of"  # in st.session_state: the settings it is of
POLL = 0.5  # seconds between two looks at a running estimate


def show(spec: Spec, live: int) -> None:
    """The estimate for these settings, or the button that makes one. `live`: runs that compute here now."""
    working = _is_of(spec) and COST.running
    look_again(_panel, spec, live, working, every=POLL if working else None, key="training.cost panel")


def _panel(spec: Spec, live: int, working: bool) -> None:
    future = COST.future
    st.markdown("**What it costs here**")
    if not _is_of(spec) or future is None:
        st.button("Time a few updates", icon=":material/timer:", key="training.cost.ask", on_click=_ask, args=(spec,), help=(
            "Trains on random pixels for a moment, with these settings, and reckons from that how long the run would take."))  # fmt: skip
        st.caption("Not measured yet for these settings.")
        return
    if not future.finished and not working:
        st.rerun()  # asked for just now: begin to look again and again
    if future.latest is not None:
        told(spec, future.latest, live)
    if future.state == "failed":
        st.error(str(future.error), icon=":material/error:")
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


def _is_of(spec: Spec) -> bool:
    """Whether the estimate is of these settings."""
    return bool(st.session_state.get(OF) == _key(spec))


def _key(spec: Spec) -> str:
    return json.dumps([spec.recipe, spec.dataset, spec.hyper, spec.device, spec.precision, spec.smoke], sort_keys=True)


def _ask(spec: Spec) -> None:
    with noticed():
        COST.submit(lambda: _timing(spec))
        st.session_state[OF] = _key(spec)


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
