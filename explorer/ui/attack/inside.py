"""Look inside a network whose layers can be read: how a pursuit network's codes settle; which units of an LWTA network win."""

from __future__ import annotations

import numpy as np
import streamlit as st

from explorer.engine import AttackRequest, Result, Snapshot
from explorer.engine.rounding import percent
from explorer.engine.settling import STEPS, Settling, settles, settling_work
from explorer.engine.winners import DRAWS, Winners, has_units, winners_work
from explorer.plots import winners as plots
from explorer.plots.settling import answers_over_steps
from explorer.ui.attack.tool import answer, start_or_stop
from explorer.ui.components import pictures
from explorer.ui.components.figures import chart, dark
from explorer.ui.page_run import Task
from explorer.ui.session import engine

SETTLING: Task[Settling] = Task("tools.settling")
WINNERS: Task[Winners] = Task("tools.winners")


def readable(model: str) -> bool:
    """Whether there is something to see inside this model."""
    return settles(model) or has_units(model)


def show(snapshot: Snapshot, result: Result, request: AttackRequest) -> None:
    """From the button to what is seen."""
    (_codes if settles(request.model) else _units)(snapshot, result, request)


def _codes(snapshot: Snapshot, result: Result, request: AttackRequest) -> None:
    about, button = st.columns([5, 1.6], vertical_alignment="bottom", gap="medium")
    about.markdown(
        "This network looks for sparse codes that rebuild the picture, step by step. How many steps does it need, and what does it "
        "believe it sees?"
    )
    trace, best = snapshot.trace, result.best
    with button:
        start_or_stop(
            SETTLING, "settling", "Let the codes settle", ":material/waves:",
            lambda: settling_work(engine(), request, trace.frames[best], trace.label),
        )  # fmt: skip
    found = answer(SETTLING)
    if found is not None:
        _settled(found)


def _settled(found: Settling) -> None:
    steps = st.slider(
        "inference steps at test time", 0, STEPS, found.trained, key="settling.steps",
        help=f"0 is the feed-forward network. It was trained with {found.trained}.",
    )  # fmt: skip
    names = ("the picture", "its reconstruction", "the attacked picture", "its reconstruction")
    for place, column in enumerate(st.columns(4, gap="medium")):
        which = place // 2
        if place % 2 == 0:
            seen = int(found.probabilities[steps, which].argmax())
            caption = (
                f"{names[place]}: {found.classes[seen]}, {percent(float(found.probabilities[steps, which, seen]))}"
            )
            pictures.large(column, found.pictures[which], caption)
        else:
            caption = f"{names[place]}, off by {found.rebuilt_apart[steps, which]:.3f} a pixel"
            pictures.large(column, np.clip(found.rebuilt[steps, which], 0, 1), caption)
    left, right = st.columns(2, gap="medium")
    with left:
        own = found.probabilities[:, :, found.label]
        name = f"probability of {found.classes[found.label]}"
        chart(answers_over_steps(own, found.trained, name, share=True, dark=dark()), "settling.answers")
    with right:
        chart(answers_over_steps(found.energy, found.trained, "energy", dark=dark()), "settling.energy")
    st.caption(
        f"The attack went through the {found.trained} steps of training. With another number the same attacked picture is shown to the "
        "network, without a new attack. The pixels' difference is the root of the mean square. Energy: what the codes leave "
        "unexplained, and the price of their size; no step of deep pursuit raises it."
    )


def _units(snapshot: Snapshot, result: Result, request: AttackRequest) -> None:
    about, button = st.columns([5, 1.6], vertical_alignment="bottom", gap="medium")
    about.markdown(
        "In every block of this network's units one wins, drawn at random, and only it passes its value on. Which winners does the attack "
        "change, and which does chance alone?"
    )
    with button:
        start_or_stop(
            WINNERS, "winners", "See who wins", ":material/account_tree:",
            lambda: winners_work(engine(), request, snapshot.trace.frames[result.best]),
        )  # fmt: skip
    found = answer(WINNERS)
    if found is None:
        return
    layers = found.layers
    attack, chance = [one.by_attack for one in layers], [one.by_chance for one in layers]
    chart(plots.changed(attack, chance, dark=dark()), "winners.changed")
    at = st.select_slider("Layer", range(1, len(layers) + 1), key="winners.layer") - 1
    first, second, attacked = layers[at].shown
    seen = [found.classes[k] for k in found.answers]
    sheets = (
        (first, None, f"the picture, draw 1: {seen[0]}"),
        (second, first, f"what chance alone changes, draw 2: {seen[1]}"),
        (attacked, first, f"what the attack changes, draw 1: {seen[2]}"),
    )
    for column, (winners, before, words) in zip(st.columns(3, gap="medium"), sheets, strict=True):
        pictures.large(column, plots.maps(winners, before, dark=dark()), words)
    blocks, height, width = first.shape
    st.caption(
        f"Layer {at + 1}: one small map for each of its {blocks} blocks, {height} x {width} places; a colour is the unit that won, pale "
        f"where it is the same as in the first map. The shares are means over {DRAWS} draws, seed {found.seed}: of the attack between the "
        "picture and the attacked one under the same noise, of chance between two draws of the picture."
    )
