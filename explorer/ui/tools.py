"""Three tools under a finished walk: the smallest eps, a slice through input space, and saving. Nothing runs unasked."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import streamlit as st

from explorer.attacks import ATTACKS
from explorer.core import ExplorerError
from explorer.engine import AttackRequest, Export, Future, Snapshot
from explorer.engine.slices import DRAWS_LIMIT, EXTENTS, SIZES, Plan, Slice, slice_work
from explorer.engine.smallest import WIDTH, Search, smallest_work
from explorer.models import zoo
from explorer.plots import slices as slice_figures
from explorer.plots import smallest as smallest_figure
from explorer.ui import readings, verdicts
from explorer.ui.session import engine, look_again, session_id, still_open

SMALLEST, SLICE, SAVE = "smallest eps", "slice", "save"
LABELS = {
    SMALLEST: ":material/straighten: Find the smallest eps",
    SLICE: ":material/grid_on: Slice through input space",
    SAVE: ":material/download: Save",
}
POLL = 0.5  # seconds between two looks at a running tool
WIDTHS = (0.1, 0.05, WIDTH, 0.01)
EXTENT_LABELS = {name: f"{name} ({low:g} to {high:g})" for name, (low, high) in EXTENTS.items()}
HEAT, LAND = "as colours", "as a landscape"
PREVIEW = 224  # pixels that a saved picture's preview is at least wide
NO_BAR = {"displayModeBar": False, "scrollZoom": False}


def forget(request: AttackRequest | None) -> None:
    """Stop and drop what the tools computed for another walk than this."""
    kept = st.session_state.get("tools")
    if kept is not None and kept["request"] != request:
        for future in _futures(kept):
            future.cancel()
        del st.session_state["tools"]


def show(snapshot: Snapshot, request: AttackRequest, play: Callable[[AttackRequest], None]) -> None:
    """The chooser and the chosen tool; `play` shows another walk on the page."""
    forget(request)
    kept = st.session_state.setdefault("tools", {"request": request})
    st.subheader("Look further", anchor=False)
    st.segmented_control("Tools", list(LABELS), key="tool", format_func=LABELS.get, label_visibility="collapsed")
    working = any(not future.finished for future in _futures(kept))
    look_again(_panel, kept, snapshot, request, play, working, every=POLL if working else None, key="tools panel")


def _futures(kept: dict[str, Any]) -> Iterator[Future]:
    return (future for future in kept.values() if isinstance(future, Future))


def _panel(
    kept: dict, snapshot: Snapshot, request: AttackRequest, play: Callable[[AttackRequest], None], polling: bool
) -> None:
    if polling and all(future.finished for future in _futures(kept)):
        st.rerun()  # once more, without polling
    tool = st.session_state.get("tool")
    if tool == SMALLEST:
        _smallest(kept, snapshot, request, play)
    elif tool == SLICE:
        _slice(kept, snapshot, request)
    elif tool == SAVE:
        _save(Export(request, snapshot.trace, snapshot.result))


def _submit(kept: dict, tool: str, make: Callable[[], Callable]) -> None:
    """Start a tool's work, or say why that cannot be."""
    previous = kept.pop(tool, None)
    if isinstance(previous, Future):
        previous.cancel()
    try:
        kept[tool] = engine().submit(session_id(), make(), alive=still_open())
    except ExplorerError as error:
        kept[tool] = str(error)


def _run_or_cancel(kept: dict, tool: str, label: str, icon: str, make: Callable[[], Callable]) -> None:
    """The button that starts a tool, or stops it while it runs; the whole page is drawn anew, so that polling begins."""
    future = kept.get(tool)
    if isinstance(future, Future) and not future.finished:
        if st.button("Cancel", icon=":material/stop_circle:", key=f"{tool}.cancel", width="stretch"):
            future.cancel()
            future.wait(2)
            st.rerun()
    elif st.button(label, icon=icon, type="primary", key=f"{tool}.run", width="stretch"):
        _submit(kept, tool, make)
        st.rerun()


def _found(kept: dict, tool: str) -> Any:
    """A tool's newest answer, None before the first; what went wrong is said."""
    future = kept.get(tool)
    if isinstance(future, str):
        st.warning(future, icon=":material/info:")
        return None
    if future is None:
        return None
    if future.state == "failed":
        st.error(future.error, icon=":material/error:")
    if future.state == "cancelled":
        st.info("Stopped. What was found until then is shown.", icon=":material/stop_circle:")
    if future.latest is None and not future.finished:
        st.info("Waiting for its turn.", icon=":material/hourglass:")
    return future.latest


def _dark() -> bool:
    return st.context.theme.type == "dark"


# The smallest eps


def _smallest(kept: dict, snapshot: Snapshot, request: AttackRequest, play: Callable[[AttackRequest], None]) -> None:
    title = ATTACKS.entry(request.attack).title
    if request.is_minimal:
        st.info(
            f"{title} looks for the smallest change itself: the distance above is its answer. This tool is for attacks that "
            "are given an eps, such as PGD.",
            icon=":material/info:",
        )
        return
    about, width, button = st.columns([5, 1.6, 1.4], vertical_alignment="bottom", gap="medium")
    about.markdown(
        f"{title} is tried at one eps after another: doubled until it succeeds or halved until it fails, then the middle, "
        "again and again. Each try is the very walk this page plays at that eps, same seed."
    )
    chosen = width.selectbox(
        "until the interval is",
        WIDTHS,
        index=WIDTHS.index(WIDTH),
        key="smallest.width",
        format_func="{:.0%} wide".format,
        help="(smallest eps that succeeded - largest that failed) / smallest that succeeded",
    )
    with button:
        _run_or_cancel(kept, SMALLEST, "Search", ":material/search:", lambda: smallest_work(engine(), request, chosen))
    found: Search | None = _found(kept, SMALLEST)
    if found is None:
        return
    if found.clean is not None:
        _probes(found)
    if found.ended:
        _interval(found, play)
    elif not kept[SMALLEST].finished:
        st.caption(f"Attack {len(found.probes) + 1} is running.")


def _probes(found: Search) -> None:
    scale, unit = (255, "of 255, L∞") if found.request.norm == "linf" else (1, "length, L2")
    untargeted = found.request.target is None
    figure = smallest_figure.probes(
        np.array([p.eps * scale for p in found.probes]),
        np.array([p.margin for p in found.probes]),
        np.array([p.reached for p in found.probes], bool),
        found.clean.margin,
        found.held and found.held.eps * scale,
        found.fooled and found.fooled.eps * scale,
        unit=unit,
        margin_name="margin of the true class (logits)" if untargeted else "what the target lacks (logits)",
        dark=_dark(),
    )
    st.plotly_chart(figure, key="smallest.figure", theme=None, config=NO_BAR)


def _interval(found: Search, play: Callable[[AttackRequest], None]) -> None:
    reached, sentence = readings.smallest(found)
    (st.error if reached else st.success)(sentence, icon=":material/gpp_bad:" if reached else ":material/gpp_good:")
    if found.probes and not found.clean.reached:
        for column, probe, word in zip(st.columns(2), (found.fooled, found.held), ("succeeds", "fails"), strict=True):
            if probe is not None:
                asked = dataclasses.replace(found.request, eps=probe.eps)
                label = f"Play the walk at {readings.eps_words(asked.norm, asked.eps)}, which {word}"
                if column.button(
                    label,
                    icon=":material/play_arrow:",
                    on_click=play,
                    args=(asked,),
                    key=f"play.{word}",
                    width="stretch",
                ):
                    st.rerun()  # the whole page, not this part of it only
    st.markdown("\n".join(f"- {line}" for line in readings.smallest_notes(found)))


# The slice


def _slice(kept: dict, snapshot: Snapshot, request: AttackRequest) -> None:
    stochastic = zoo.card(request.model).stochastic
    st.markdown(
        "A plane through the original, the attacked picture and a random direction at right angles to the way between them: "
        "which class does the model see where, and how does its loss rise?"
    )
    columns = st.columns([2, 1.5, 1.5, 1.5, 1.6], vertical_alignment="bottom")
    usual = Plan.usual(stochastic)
    extent = columns[0].selectbox(
        "along the attack",
        list(EXTENTS),
        index=list(EXTENTS).index(usual.extent),
        key="slice.extent",
        format_func=EXTENT_LABELS.get,
        help="0 is the original, 1 the attacked picture. Sideways it is as wide.",
    )
    size = columns[1].selectbox(
        "points", SIZES, index=SIZES.index(usual.size), key=f"slice.size.{stochastic}", format_func="{0} x {0}".format
    )
    seed = columns[2].number_input(
        "seed of the direction", 0, 2**31 - 1, key="slice.seed", help="Another seed, another plane."
    )
    draws = 1
    if stochastic:
        draws = columns[3].number_input(
            "draws a point",
            1,
            DRAWS_LIMIT,
            usual.draws,
            key="slice.draws",
            help="This model is random: averaged over so many.",
        )
    plan = Plan(extent, size, int(seed), int(draws))
    trace, best = snapshot.trace, snapshot.result.best
    with columns[4]:
        _run_or_cancel(
            kept,
            SLICE,
            "Draw the slice",
            ":material/grid_on:",
            lambda: slice_work(engine(), request, trace.frames[best], trace.label, plan),
        )
    found: Slice | None = _found(kept, SLICE)
    if found is None:
        return
    if kept[SLICE].finished and found.plan != plan:
        st.info("The settings have changed: press **Draw the slice**.", icon=":material/arrow_upward:")
    if not found.ended and not kept[SLICE].finished:
        st.progress(float(found.seen.mean()), f"{found.seen.sum():,} of {found.seen.size:,} points")
    _maps(found, request)
    st.markdown("\n".join(f"- {line}" for line in readings.slice_notes(found, request)))


def _maps(found: Slice, request: AttackRequest) -> None:
    plan, dark, name, loss_name = (
        found.plan,
        _dark(),
        readings.outline_words(found, request),
        readings.loss_words(found),
    )
    head, words, toggle = st.columns([4, 1.6, 2.4], gap="medium", vertical_alignment="center")
    head.markdown("**What the model sees**")
    words.markdown("**Its loss**")
    view = toggle.segmented_control(
        "Show the loss", [HEAT, LAND], default=HEAT, key="slice.view", label_visibility="collapsed", required=True
    )
    left, right = st.columns(2, gap="medium")
    with left:
        figure = slice_figures.class_map(
            plan.along,
            plan.across,
            found.predicted,
            found.probability,
            found.margin,
            found.cut,
            found.classes,
            found.outline,
            name,
            stride=found.stride,
            dark=dark,
        )
        st.plotly_chart(figure, key="slice.classes", theme=None, config=NO_BAR)
    with right:
        about = {"loss_name": loss_name, "stride": found.stride, "dark": dark}
        if view == LAND and found.stride < plan.size:
            figure = slice_figures.loss_surface(plan.along, plan.across, found.loss, found.outline, name, **about)
        else:
            figure = slice_figures.loss_map(
                plan.along, plan.across, found.loss, found.margin, found.outline, name, **about
            )
        st.plotly_chart(figure, key=f"slice.loss.{view}", theme=None, config=NO_BAR)


# Saving


def _save(export: Export) -> None:
    verdict, factor = export.result.verdict, export.factor
    change = "nothing changed" if factor is None else f"change × {factor:g}, around grey"
    captions = {"original": "original", "adversarial": "attacked, in 8 bits", "perturbation": change}
    pictures, saved = st.columns([1.6, 1], gap="large")
    with pictures:
        scale = max(1, -(-PREVIEW // export.original.shape[2]))
        shown, plain = export.pictures(scale), export.pictures()
        for column, name in zip(st.columns(3), captions, strict=True):
            column.image(shown[name], caption=captions[name], width="stretch")
            column.download_button(
                "PNG",
                plain[name],
                f"{export.stem}-{name}.png",
                "image/png",
                key=f"save.{name}",
                on_click="ignore",
                icon=":material/image:",
                width="stretch",
            )
        st.caption(verdicts.saved(bool(verdict.reached[0]), bool(verdict.reached_8bit[0])))
    with saved:
        st.download_button(
            "Everything (zip)",
            export.bundle,
            f"{export.stem}.zip",
            "application/zip",
            key="save.zip",
            on_click="ignore",
            icon=":material/folder_zip:",
            type="primary",
            width="stretch",
        )
        st.download_button(
            "Exact arrays (npz)",
            export.arrays,
            f"{export.stem}.npz",
            "application/octet-stream",
            key="save.npz",
            on_click="ignore",
            icon=":material/data_array:",
            width="stretch",
        )
        st.download_button(
            "Conditions and verdict (JSON)",
            export.conditions,
            f"{export.stem}.json",
            "application/json",
            key="save.json",
            on_click="ignore",
            icon=":material/data_object:",
            width="stretch",
        )
        st.caption(
            "The arrays hold every frame in 32-bit floats, with logits, features, losses and distances; "
            "`numpy.load` reads them without pickle. A picture is rounded to 8 bits: for measuring, take the arrays."
        )
    st.markdown("**As Python.** Run beside the saved arrays, it makes the walk again and compares, bit for bit.")
    st.code(export.script(), language="python", wrap_lines=True)
