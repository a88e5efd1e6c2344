"""The page of many pictures: choose a strip, attack it in one batch, and put one change on pictures it was not made for."""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from explorer import __version__
from explorer.attacks import ATTACKS
from explorer.core import InvalidValue
from explorer.engine.batch_request import ManyRequest
from explorer.engine.batch_result import BatchResult
from explorer.engine.many import many_work
from explorer.engine.tables import of_batch
from explorer.models import zoo
from explorer.ui.components.conditions import as_json, as_python, bullets
from explorer.ui.components.save import save_place
from explorer.ui.frame import row
from explorer.ui.inputs import attack as controls
from explorer.ui.inputs.choices import EVERY
from explorer.ui.many import choice, others, result
from explorer.ui.page_run import PageRun, Work
from explorer.ui.session import engine
from explorer.ui.text import attack as verdicts
from explorer.ui.text import batch as words


class ManyRun(PageRun[ManyRequest, BatchResult]):
    """One attack on a strip of pictures."""

    prefix = "many."
    poll = 0.8  # each look sends all pictures
    names = frozenset(ManyRequest.link)
    about = "One attack on a whole strip of pictures: how many of those that the model gets right does it fool?"

    def prepare(self) -> None:
        choice.prepare()

    def filled(self, query: Mapping[str, str]) -> Mapping[str, str]:
        return controls.filled(query, picture=False)

    def of_link(self, query: Mapping[str, str]) -> ManyRequest:
        return ManyRequest.from_query(query).within()

    def current(self) -> ManyRequest:
        state = st.session_state
        settings = controls.attack_settings() | {"precision": state["many.precision"]}
        if state["many.pick"] == "hand":
            if not state["many.rows"]:
                raise InvalidValue("No picture is chosen yet: click some in the list at the left.")
            return ManyRequest(pick="hand", rows=tuple(state["many.rows"]), **settings).checked().within()
        of = None if state["many.of"] == EVERY else state["many.of"]
        pick, count, shuffle = state["many.pick"], state["many.count"], state["many.shuffle"]
        return ManyRequest(pick=pick, count=count, of=of, shuffle=shuffle, **settings).checked().within()

    def show(self, request: ManyRequest) -> None:
        controls.show(request.one)
        choice.show(request)

    def same(self, shown: ManyRequest, request: ManyRequest) -> bool:
        return controls.same_walk(shown, request)

    def work(self, request: ManyRequest) -> Work[BatchResult]:
        return many_work(engine(), request)

    def link(self, request: ManyRequest) -> dict[str, str]:
        return request.to_query()

    def forget_old(self, request: ManyRequest) -> None:
        result.forget()
        others.TRANSFER.forget()

    def draw(self, item: BatchResult, request: ManyRequest, finished: bool) -> None:
        result.show(item)


MANY = ManyRun()


def headline() -> None:
    """Model, attack and wish in one sentence-like row, and the button."""
    model, attack, wish, button = row([3, 3, 2.4, 1.5])
    controls.model_box(model)
    controls.attack_boxes(attack, wish, choice.own_classes())
    MANY.button(button)


def outcome() -> None:
    """What the finished batch showed, under which conditions; then its change on other pictures."""
    now = MANY.latest
    if now is None or not now.finished:
        return
    if now.shared is not None and now.fooling_rate.right:
        others.show(now, result.picked())  # what this attack is about
    stochastic = zoo.card(now.request.model).stochastic
    if doubt := verdicts.warning(now.request.one, stochastic):
        st.warning(doubt, icon=":material/help:")
    st.header("What was measured", anchor=False)
    bullets(words.details(now))
    _pictures(now)
    with st.expander("All conditions, and the same attack as Python"):
        as_python(now.request.to_python(tuple(now.rows[now.right].tolist()), now.conditions["precision"]))
        as_json(dict(now.conditions))
    if now.shared is None and now.fooling_rate.right:
        others.show(now, result.picked())


def _pictures(now: BatchResult) -> None:
    """One row a picture, to sort; and all of it to take home."""
    table = of_batch(now)
    with st.expander(f"Picture by picture: {len(table.rows)} rows"):
        st.dataframe(table.rows, hide_index=True, width="stretch", column_config=result.NUMBERS)
    save_place(
        f"{now.request.model.partition('/')[2]}-{now.request.attack}-{len(table.rows)}-pictures",
        about=f"{now.request.title()}, {now.request.chosen_words()}. Robustness Explorer {__version__}.",
        table=table,
        figures=result.FIGURES,
        key="many.save",
    )


def method() -> None:
    """How the attack works, once more."""
    if MANY.shown is not None:
        entry = ATTACKS.entry(MANY.shown.attack)
        st.caption(f"{entry.title}: {entry.summary} Source: {entry.paper}")
