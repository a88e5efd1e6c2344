"""A strip of attacked pictures as it stands: how many fell, each picture before and now, one of them in large, and figures."""

from __future__ import annotations

import numpy as np
import streamlit as st

from explorer.data.pictures import amplified
from explorer.engine.batch_request import ManyRequest
from explorer.engine.batch_result import BatchResult
from explorer.engine.rounding import size
from explorer.plots import many as plots
from explorer.ui import frame
from explorer.ui.attack import ATTACK
from explorer.ui.components.figures import chart, dark
from explorer.ui.components.pictures import large, to_url
from explorer.ui.components.strip import Card, strip
from explorer.ui.many.choice import USUAL
from explorer.ui.notices import noticed
from explorer.ui.text import batch as words

FIGURES = {"many.fall": "When they fall", "many.reach": "How far each had to go", "many.margins": "By what margin",
           "many.carried": "The change on other pictures"}  # fmt: skip
NUMBERS = {
    **{name: st.column_config.NumberColumn(format="percent") for name in ("probability_before", "probability")},
    **{name: st.column_config.NumberColumn(format="%.2f") for name in ("margin_before_logits", "margin_logits")},
    **{f"{what}_pixel_units": st.column_config.NumberColumn(format="%.4f") for what in (
        "linf", "l2", "smallest_change_linf", "smallest_change_l2")},
}  # fmt: skip
PICKED = "many.picked"  # in st.session_state: the row of the picture in large, or None


def forget() -> None:
    """No picture is picked."""
    st.session_state[PICKED] = None


def picked() -> int | None:
    """The row of the picture that is shown in large."""
    row: int | None = st.session_state.get(PICKED)
    return row


def show(now: BatchResult) -> None:
    """All of it."""
    st.caption(f"{now.request.title()}, {now.request.chosen_words()}")
    st.markdown(f"## {words.headline(now)}")
    parts = words.separated(now)
    st.markdown(words.measured(now) + " " + " ".join(ICONS[state].format(said) for state, said in parts.items()))
    _close_look(now)
    _cards(now)
    _figures(now)


ICONS = {"wrong": ":gray-badge[:material/remove: {}]", "fooled": ":orange-badge[:material/close: {}]",
         "holds": ":blue-badge[:material/shield: {}]"}  # fmt: skip


def _cards(now: BatchResult) -> None:
    state = st.session_state
    state.setdefault("many.change", False)
    shown = st.toggle(
        "Show what was changed",
        key="many.change",
        persist_state="session",
        help="Between the two pictures: the change, amplified around grey by the factor below it.",
    )
    cards = [_card(now, at, shown) for at in range(len(now.rows))]
    with st.container(key="many-cards" if len(cards) == USUAL else None):  # its height is reserved
        picked = strip(cards, state[PICKED], key="many.strip", label="Attacked pictures: before and now")
    if picked is not None and picked != state[PICKED] and picked in now.rows:
        state[PICKED] = picked
        st.rerun()  # the whole page: the picture is offered further below, too


def _card(now: BatchResult, at: int, with_change: bool) -> Card:
    classes, state, norm = now.request.classes, now.states[at], now.request.norm
    true, row = classes[now.labels[at]], int(now.rows[at])
    pictures = [(to_url(now.originals[at]), "original")]
    change, factor = amplified(now.images[at] - now.originals[at])
    if with_change:
        pictures.append((to_url(change), "change, amplified"))
    pictures.append((to_url(now.images[at]), "now"))
    seen = f"{classes[now.after.predicted[at]]}, {_sure(now.after.sure[at])}"
    if state == "wrong":
        lines = (true, f"seen as {seen}", "not attacked")
    else:
        before = f"{true}, {_sure(now.before.sure[at])}"
        changed = f"changed by {size(float(now.distance[at]), norm)}"
        lines = (before, f"→ {seen}", changed + (f", × {factor:g}" if with_change and factor else ""))
    if state == "holds" and not now.finished:
        state, word = "waiting", "holds so far"
    else:
        word = {"wrong": "wrong before", "fooled": "fooled", "holds": "holds"}[state]
    if state in ("fooled", "holds") and now.verdict is not None and now.verdict.draws > 1:
        share = float(now.verdict.share[int(now.right[:at].sum())])
        word += f", {round(share * now.verdict.draws)}/{now.verdict.draws} draws"
    return Card(row, f"{true}, picture {row}: {word}", state, word, tuple(pictures), lines)


def _sure(p: float) -> str:
    return "over 99 %" if p > 0.99 else f"{100 * p:.0f} %"


def _close_look(now: BatchResult) -> None:
    """The picked picture, large, with what can be done with it: at first the first that is attacked."""
    state, classes = st.session_state, now.request.classes
    if state[PICKED] not in now.rows:
        state[PICKED] = int(now.rows[int(now.right.argmax())])
    picked = state[PICKED]
    at = int(np.flatnonzero(now.rows == picked)[0])
    change, factor = amplified(now.images[at] - now.originals[at])
    with st.container(border=True, key="close-look"):
        columns = st.columns([1, 1, 1, 2.4], gap="medium")
        before, after = (f"{classes[seen.predicted[at]]}, {_sure(seen.sure[at])}" for seen in (now.before, now.after))
        large(columns[0], now.originals[at], f"before: {before}")
        large(columns[1], change, "no change" if factor is None else f"the change, × {factor:g}")
        large(columns[2], now.images[at], f"now: {after}")
        with columns[3]:
            card = _card(now, at, False)
            st.markdown(f"**Picture {picked}, {classes[now.labels[at]]}**: {card.word}")
            about = (
                "Plays the same attack on this picture alone, on the Attack page. Alone it draws other random numbers than "
                "in a batch, so an attack with random parts takes another walk there."
                + (" A shared change becomes one made for this picture only." if now.shared is not None else "")
            )
            st.button(
                "Watch this one",
                icon=":material/play_circle:",
                key="many.watch",
                help=about,
                on_click=_watch_one,
                args=(now.request, int(picked)),
            )
            st.caption("Click any picture below to have it here.")


def _watch_one(request: ManyRequest, row: int) -> None:
    with noticed():
        ATTACK.play(request.single(row).within())
        frame.go_to("attack")


def _figures(now: BatchResult) -> None:
    if not now.fooling_rate.right:
        return
    names = [f"{now.request.classes[label]}, picture {row}" for label, row in zip(now.labels, now.rows, strict=True)]
    left, right = st.columns(2, gap="large")
    with left:
        tally, curve = now.fooling_rate, now.curve.get("reached", np.zeros((1, 1), bool))
        fresh = tally.fooled if now.verdict is not None and now.verdict.draws > 1 else None
        st.markdown("**When they fall**")
        chart(plots.fall(curve.sum(1), tally.n, tally.wrong, now.planned, fresh, dark=dark()), "many.fall")
        st.caption(
            "Each picture counts by the best point that the attack has found so far, as the attack saw it"
            + ("; the star is the verdict on fresh draws." if fresh is not None else ".")
        )
    with right:
        if now.request.is_minimal:
            st.markdown("**How far each had to go**")
            chart(plots.reach(now.found, now.fooling_rate.right, now.request.norm, dark=dark()), "many.reach")
            st.caption("The size of the smallest change found: an upper bound of what would have been needed.")
        else:
            st.markdown("**By what margin**")
            chart(plots.margins(now.before.margin, now.after.margin, now.states, names, dark=dark()), "many.margins")
            st.caption("The true class's logit minus the largest other one: below zero the model is wrong.")
