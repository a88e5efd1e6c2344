"""A slice through input space: class and loss on a plane through the picture and the attacked one, on the Attack page."""

from __future__ import annotations

from typing import Any

import streamlit as st

from explorer.engine import AttackRequest, Result, Snapshot
from explorer.engine.slices import DRAWS_LIMIT, EXTENTS, SIZES, Plan, Slice, slice_work
from explorer.models import zoo
from explorer.plots import slices as plots
from explorer.ui.attack.tool import answer, start_or_stop
from explorer.ui.components.conditions import bullets
from explorer.ui.components.figures import chart, dark
from explorer.ui.inputs.choices import named
from explorer.ui.page_run import Task
from explorer.ui.session import engine
from explorer.ui.text import attack_tools as words

EXTENT_LABELS = {name: f"{name} ({low:g} to {high:g})" for name, (low, high) in EXTENTS.items()}
HEAT, LAND = "as colours", "as a landscape"
SLICE: Task[Slice] = Task("tools.slice")


def show(snapshot: Snapshot, result: Result, request: AttackRequest) -> None:
    """The slice, from its settings to its maps."""
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
        format_func=named(EXTENT_LABELS),
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
    trace, best = snapshot.trace, result.best
    with columns[4]:
        start_or_stop(
            SLICE,
            "slice",
            "Draw the slice",
            ":material/grid_on:",
            lambda: slice_work(engine(), request, trace.frames[best], trace.label, plan),
        )
    found = answer(SLICE)
    if found is None:
        return
    if not SLICE.running and found.plan != plan:
        st.info("The settings have changed: press **Draw the slice**.", icon=":material/arrow_upward:")
    if not found.ended and SLICE.running:
        st.progress(float(found.seen.mean()), f"{found.seen.sum():,} of {found.seen.size:,} points")
    _maps(found, request)
    bullets(words.slice_notes(found, request))


def _maps(found: Slice, request: AttackRequest) -> None:
    plan, name, loss_name = found.plan, words.outline_words(found, request), words.loss_words(found)
    inks: dict[str, Any] = {"stride": found.stride, "dark": dark()}
    head, right_head, toggle = st.columns([4, 1.6, 2.4], gap="medium", vertical_alignment="center")
    head.markdown("**What the model sees**")
    right_head.markdown("**Its loss**")
    view = toggle.segmented_control(
        "Show the loss", [HEAT, LAND], default=HEAT, key="slice.view", label_visibility="collapsed", required=True
    )
    left, right = st.columns(2, gap="medium")
    with left:
        figure = plots.class_map(
            plan.along,
            plan.across,
            found.predicted,
            found.probability,
            found.margin,
            found.cut,
            found.classes,
            found.outline,
            name,
            **inks,
        )
        chart(figure, "slice.classes", scrollZoom=False)
    with right:
        if view == LAND and found.stride < plan.size:
            figure = plots.loss_surface(
                plan.along, plan.across, found.loss, found.outline, name, loss_name=loss_name, **inks
            )
        else:
            figure = plots.loss_map(
                plan.along, plan.across, found.loss, found.margin, found.outline, name, loss_name=loss_name, **inks
            )
        chart(figure, f"slice.loss.{view}", scrollZoom=False)
