"""The page of many pictures: choose a strip, attack it in one batch, and put one change on pictures it was not made for."""

from __future__ import annotations

import json
from functools import partial
from html import escape

import numpy as np
import streamlit as st

from explorer.attacks import ATTACKS
from explorer.core import ExplorerError, InvalidValue
from explorer.data import dataset
from explorer.data.pictures import amplification
from explorer.engine import Future
from explorer.engine.batch_request import MAX_PICTURES, ManyRequest
from explorer.engine.batch_result import BatchResult
from explorer.engine.many import many_work
from explorer.engine.transfer import MAX_OTHERS, PerturbationTransfer, transfer_work
from explorer.models import zoo
from explorer.plots import many as plots
from explorer.ui import controls, frame, stage, tallies, verdicts
from explorer.ui.gallery import gallery
from explorer.ui.pictures import to_url
from explorer.ui.session import engine, look_again, session_id, still_open
from explorer.ui.strip import Card, strip

POLL = 0.8  # seconds between two looks at a running batch: each sends all its pictures
EXAMPLES = 12  # others that are shown
PER_PAGE = 40
PICKS = {
    "random": "drawn at random",
    "right": "at random, of those it gets right",
    "hand": "chosen by hand",
}
GREY = 0.5  # "unchanged" in the picture of a change


# What is asked for


def open_page() -> None:
    """A first visit: what the link asks for, else the settings of the other pages, and it runs at once."""
    state = st.session_state
    back = stage.gone_back()
    if "many.shown" in state and not back:
        return
    query = st.query_params.to_dict()
    try:
        request = ManyRequest.from_query(query).within() if {"data", "model"} & query.keys() else _default()
    except ExplorerError as error:
        state["notice"], request = controls.not_followed(error), _default()
    if back and is_shown(request):
        return
    controls.show(request.one)
    state["many.pick"], state["many.count"] = request.pick, request.count
    state["many.of"] = controls.EVERY if request.of is None else request.classes[request.of]
    state["many.shuffle"], state["many.rows"] = request.shuffle, list(request.rows)
    _start(request)


def _default() -> ManyRequest:
    """The attack that the other pages are set to, else their default."""
    if "image" in st.session_state:
        try:
            return ManyRequest(**controls.attack_settings()).checked().within()
        except ExplorerError as error:
            st.session_state["notice"] = str(error)
    one = controls.default_request()
    return ManyRequest(one.dataset, one.model).checked()


def pictures_panel() -> None:
    """Which pictures: drawn at random (of all, or of those the model gets right, or of a class), or chosen by hand."""
    state = st.session_state
    st.subheader("Pictures", anchor=False)
    controls.dataset_box()
    name = state["dataset"]
    if state.get("many.dataset", name) != name:
        state["many.rows"], state["many.of"] = [], controls.EVERY
    state["many.dataset"] = name
    for key, default in (("many.pick", "random"), ("many.of", controls.EVERY), ("many.count", 16)):
        st.session_state.setdefault(key, default)
    st.session_state.setdefault("many.shuffle", 0)
    st.session_state.setdefault("many.rows", [])
    st.radio(
        "Which pictures",
        list(PICKS),
        key="many.pick",
        persist_state="session",
        format_func=PICKS.get,
        label_visibility="collapsed",
        help="Random pictures stand for the test set; those that the model gets right leave out the trivial ones.",
    )
    classes = [controls.EVERY, *dataset(name).classes]
    st.selectbox("Class", classes, key="many.of", persist_state="session", label_visibility="collapsed")
    if state["many.pick"] == "hand":
        _choose_by_hand(name)
        return
    st.slider("How many", 1, MAX_PICTURES, key="many.count", persist_state="session")
    st.button(
        "Draw others",
        on_click=_draw_others,
        width="stretch",
        icon=":material/shuffle:",
        help=f"Draw number {state['many.shuffle']} of the random choice: the same number, the same pictures.",
    )


def _draw_others() -> None:
    st.session_state["many.shuffle"] = (st.session_state["many.shuffle"] + 1) % 2**31


def _choose_by_hand(name: str) -> None:
    state = st.session_state
    rows, chosen = controls.rows_of_class(name, state["many.of"]), state["many.rows"]
    pages = -(-len(rows) // PER_PAGE)
    page = state.setdefault("many.leaf", 0) % pages
    shown = rows[page * PER_PAGE : (page + 1) * PER_PAGE]
    st.caption(f"{len(chosen)} of at most {MAX_PICTURES} chosen. Click to add, click again to take away.")
    gallery(
        controls.thumbs(name, tuple(shown)),
        chosen,
        key="many.gallery",
        label="Pictures to choose",
        on_pick=partial(_choose, {*shown, *chosen}),
        most=MAX_PICTURES,
    )
    left, right = st.columns(2)
    left.button("More", on_click=_turn_leaf, args=(pages,), width="stretch", icon=":material/navigate_next:")
    right.button("None", on_click=_choose_none, width="stretch", icon=":material/close:", disabled=not chosen)


def _choose(offered: set[int], picked: list[int]) -> None:
    state = st.session_state
    if len(picked) > MAX_PICTURES:
        state["notice"] = f"At most {MAX_PICTURES} pictures make a strip: take one away first."
    elif offered.issuperset(picked):
        state["many.rows"] = list(dict.fromkeys(picked))


def _turn_leaf(pages: int) -> None:
    st.session_state["many.leaf"] = (st.session_state["many.leaf"] + 1) % pages


def _choose_none() -> None:
    st.session_state["many.rows"] = []


def own_classes() -> list[int]:
    """Classes that cannot be wished for: that of the pictures, where only one is drawn from."""
    state = st.session_state
    if state.get("many.pick") == "hand":
        labels = controls.sample(state["dataset"]).y
        return sorted({int(labels[row]) for row in state["many.rows"]})
    of = state.get("many.of", controls.EVERY)
    return [] if of == controls.EVERY else [dataset(state["dataset"]).classes.index(of)]


def current_request() -> ManyRequest:
    """What the controls say, checked; raises ExplorerError with one sentence."""
    state = st.session_state
    settings = controls.attack_settings()
    if state["many.pick"] == "hand":
        if not state["many.rows"]:
            raise InvalidValue("No picture is chosen yet: click some in the list at the left.")
        return ManyRequest(pick="hand", rows=tuple(state["many.rows"]), **settings).checked().within()
    of = None if state["many.of"] == controls.EVERY else state["many.of"]
    pick, count, shuffle = state["many.pick"], state["many.count"], state["many.shuffle"]
    return ManyRequest(pick=pick, count=count, of=of, shuffle=shuffle, **settings).checked().within()


# The run


def begin() -> None:
    """Attack with what the controls say; a request that cannot be made becomes a notice."""
    try:
        _start(current_request())
    except ExplorerError as error:
        st.session_state["notice"] = str(error)


def _start(request: ManyRequest) -> None:
    state = st.session_state
    for key in ("many.future", "many.applied"):
        if state.get(key) is not None:
            state[key].cancel()
    state["many.shown"], state["many.picked"], state["many.applied"] = request, None, None
    state["many.future"] = _submitted(lambda: many_work(engine(), request))


def _submitted(work) -> Future | None:
    try:
        return engine().submit(session_id(), work(), alive=still_open())
    except ExplorerError as error:
        st.session_state["notice"] = str(error)
        return None


def running() -> bool:
    """Whether this session's batch is under way."""
    future = st.session_state.get("many.future")
    return future is not None and not future.finished


def cancel() -> None:
    st.session_state["many.future"].cancel()


def is_shown(request: ManyRequest) -> bool:
    """Whether what is shown is this request's (eps compared as the page shows it)."""
    shown: ManyRequest | None = st.session_state.get("many.shown")
    return shown is not None and stage.same_walk(shown, request)


def watch() -> None:
    """The strip and its figures; looks at a running batch again and again, and stands still when it has ended."""
    future: Future[BatchResult] | None = st.session_state.get("many.future")
    if future is None:
        return
    stage.set_link(st.session_state["many.shown"].to_query())
    polling = not future.finished
    look_again(_stage, future, polling, every=POLL if polling else None, key="many.stage")


def _stage(future: Future[BatchResult], polling: bool) -> None:
    if frame.WANTED in st.session_state:
        st.rerun()  # of the whole app, which goes to that page
    stage.await_first(future)
    now = future.latest
    if now is not None:
        _summary(now)
        _close_look(now)
        _cards(now)
        _figures(now)
    stage.say_how_it_stands(future, polling)


ICONS = {"wrong": ":gray-badge[:material/remove: {}]", "fooled": ":orange-badge[:material/close: {}]",
         "holds": ":blue-badge[:material/shield: {}]"}  # fmt: skip


def _summary(now: BatchResult) -> None:
    st.caption(f"{now.request.title()}, {now.request.chosen_words()}")
    st.markdown(f"#### {tallies.headline(now)}")
    parts = tallies.separated(now)
    st.markdown(tallies.measured(now) + " " + " ".join(ICONS[state].format(words) for state, words in parts.items()))


def _cards(now: BatchResult) -> None:
    state = st.session_state
    st.session_state.setdefault("many.change", False)
    shown = st.toggle(
        "Show what was changed",
        key="many.change",
        persist_state="session",
        help="Between the two pictures: the change, amplified around grey by the factor below it.",
    )
    cards = [_card(now, at, shown) for at in range(len(now.rows))]
    picked = strip(cards, state["many.picked"], key="many.strip", label="Attacked pictures: before and now")
    if picked is not None and picked != state["many.picked"] and picked in now.rows:
        state["many.picked"] = picked
        st.rerun()  # the whole page: the picture is offered further below, too


def _card(now: BatchResult, at: int, with_change: bool) -> Card:
    classes, state, norm = now.request.classes, now.states[at], now.request.norm
    true, row = classes[now.labels[at]], int(now.rows[at])
    pictures = [(to_url(now.originals[at]), "original")]
    change, factor = _amplified(now, at)
    if with_change:
        pictures.append((to_url(change), "change, amplified"))
    pictures.append((to_url(now.images[at]), "now"))
    seen = f"{classes[now.after.predicted[at]]}, {_sure(now.after.sure[at])}"
    if state == "wrong":
        lines = (true, f"seen as {seen}", "not attacked")
    else:
        before = f"{true}, {_sure(now.before.sure[at])}"
        size = f"changed by {tallies.distance(float(now.distance[at]), norm)}"
        lines = (before, f"→ {seen}", size + (f", × {factor:g}" if with_change and factor else ""))
    if state == "holds" and not now.finished:
        state, word = "waiting", "holds so far"
    else:
        word = {"wrong": "wrong before", "fooled": "fooled", "holds": "holds"}[state]
    if state in ("fooled", "holds") and now.verdict is not None and now.verdict.draws > 1:
        share = float(now.verdict.share[int(now.right[:at].sum())])
        word += f", {round(share * now.verdict.draws)}/{now.verdict.draws} draws"
    return Card(row, f"{true}, picture {row}: {word}", state, word, tuple(pictures), lines)


def _amplified(now: BatchResult, at: int) -> tuple[np.ndarray, float | None]:
    """The change (C,H,W) around grey, and its factor; None where nothing changed."""
    change = now.images[at] - now.originals[at]
    factor = amplification(float(np.abs(change).max()))
    return GREY + (factor or 1) * change, factor


def _sure(p: float) -> str:
    return "over 99 %" if p > 0.99 else f"{100 * p:.0f} %"


def _close_look(now: BatchResult) -> None:
    """The picked picture, large, with what can be done with it: at first the first that is attacked."""
    state, classes = st.session_state, now.request.classes
    if state["many.picked"] not in now.rows:
        state["many.picked"] = int(now.rows[int(now.right.argmax())])
    picked = state["many.picked"]
    at = int(np.flatnonzero(now.rows == picked)[0])
    change, factor = _amplified(now, at)
    with st.container(border=True):
        columns = st.columns([1, 1, 1, 2.4], gap="medium")
        words = f"{classes[now.before.predicted[at]]}, {_sure(now.before.sure[at])}"
        _picture(columns[0], now.originals[at], f"before: {words}")
        words = "no change" if factor is None else f"the change, × {factor:g}"
        _picture(columns[1], change, words)
        words = f"{classes[now.after.predicted[at]]}, {_sure(now.after.sure[at])}"
        _picture(columns[2], now.images[at], f"now: {words}")
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


def _picture(place, pixels: np.ndarray, caption: str) -> None:
    """Large and sharp. As a data URL: what `st.image` serves is gone where a running strip is drawn again and again."""
    url = to_url(pixels)
    place.html(
        f'<img src="{url}" alt="{escape(caption)}" style="width:100%;image-rendering:pixelated;border-radius:8px">'
    )
    place.caption(caption, text_alignment="center")


def _watch_one(request: ManyRequest, row: int) -> None:
    try:
        one = request.single(row).within()
    except ExplorerError as error:
        st.session_state["notice"] = str(error)
        return
    controls.show(one)
    stage.start(one)
    st.query_params.clear()  # they are this page's
    st.session_state[frame.WANTED] = "attack"


def _figures(now: BatchResult) -> None:
    if not now.fooling_rate.right:
        return
    names = [f"{now.request.classes[label]}, picture {row}" for label, row in zip(now.labels, now.rows, strict=True)]
    left, right = st.columns(2, gap="large")
    with left:
        tally, curve = now.fooling_rate, now.curve.get("reached", np.zeros((1, 1), bool))
        fresh = tally.fooled if now.verdict is not None and now.verdict.draws > 1 else None
        st.markdown("**When they fall**")
        figure = plots.fall(curve.sum(1), tally.n, tally.wrong, now.planned, fresh, dark=_dark())
        st.plotly_chart(figure, key="many.fall", theme=None, config=PLAIN)
        st.caption(
            "Each picture counts by the best point that the attack has found so far, as the attack saw it"
            + ("; the star is the verdict on fresh draws." if fresh is not None else ".")
        )
    with right:
        if now.request.is_minimal:
            st.markdown("**How far each had to go**")
            figure = plots.reach(now.found, now.fooling_rate.right, now.request.norm, dark=_dark())
            st.plotly_chart(figure, key="many.reach", theme=None, config=PLAIN)
            st.caption("The size of the smallest change found: an upper bound of what would have been needed.")
        else:
            st.markdown("**By what margin**")
            figure = plots.margins(now.before.margin, now.after.margin, now.states, names, dark=_dark())
            st.plotly_chart(figure, key="many.margins", theme=None, config=PLAIN)
            st.caption("The true class's logit minus the largest other one: below zero the model is wrong.")


PLAIN = {"displayModeBar": False}


def _dark() -> bool:
    return st.context.theme.type == "dark"


# The result


def outcome() -> None:
    """What the finished batch showed, under which conditions; then its change on other pictures."""
    future: Future[BatchResult] | None = st.session_state.get("many.future")
    now = future.latest if future is not None else None
    if now is None or not now.finished:
        return
    if now.shared is not None and now.fooling_rate.right:
        _others(now)  # what this attack is about
    stochastic = zoo.card(now.request.model).stochastic
    if doubt := verdicts.warning(now.request.one, stochastic):
        st.warning(doubt, icon=":material/help:")
    st.subheader("What was measured", anchor=False)
    st.markdown("\n".join(f"- {line}" for line in tallies.details(now)))
    with st.expander("All conditions, and the same attack as Python"):
        st.code(now.request.to_python(tuple(now.rows[now.right].tolist())), language="python", wrap_lines=True)
        st.code(json.dumps(dict(now.conditions), indent=1, ensure_ascii=False), language="json")
    if now.shared is None and now.fooling_rate.right:
        _others(now)


def _others(now: BatchResult) -> None:
    """One change on pictures it was not made for."""
    state = st.session_state
    st.subheader("The same change on other pictures", anchor=False)
    if now.shared is not None:
        st.markdown(
            "This attack made **one change for all** pictures of the strip. Does it fool the model on pictures it has not seen?"
        )
        if state["many.applied"] is None:
            _apply(now, None, MAX_OTHERS)  # it is what this attack is about
    else:
        _apply_row(now)
    future: Future[PerturbationTransfer] | None = state["many.applied"]
    if future is not None:
        polling = not future.finished
        look_again(_applied, now, future, polling, every=POLL if polling else None, key="many.others")


def _apply_row(now: BatchResult) -> None:
    state = st.session_state
    changed = [int(row) for row, right, d in zip(now.rows, now.right, now.distance, strict=True) if right and d > 0]
    if not changed:
        st.caption("No picture was changed.")
        return
    st.markdown("A change is made for one picture. How much of it works on pictures it was not made for?")
    columns = st.columns([3, 2, 2, 3], vertical_alignment="bottom")
    labels = dict(zip(now.rows.tolist(), now.labels.tolist(), strict=True))
    if state["many.picked"] in changed and state.get("many.offered") != state["many.picked"]:
        state["many.given"] = state["many.offered"] = state["many.picked"]
    if state.get("many.given") not in changed:
        fooled = [row for row in changed if now.fooled[now.rows == row][0]]
        state["many.given"] = (fooled or changed)[0]
    columns[0].selectbox(
        "Take the change of",
        changed,
        key="many.given",
        format_func=lambda row: f"{now.request.classes[labels[row]]}, picture {row}",
    )
    st.session_state.setdefault("many.n", 100)
    columns[1].number_input("and put it on (pictures)", 1, MAX_OTHERS, key="many.n", persist_state="session")
    if columns[2].button("Put it on others", icon=":material/content_copy:", width="stretch", key="many.apply"):
        _apply(now, state["many.given"], state["many.n"])
        st.rerun()


def _apply(now: BatchResult, given: int | None, n: int) -> None:
    state = st.session_state
    if state["many.applied"] is not None:
        state["many.applied"].cancel()
    state["many.applied"] = _submitted(lambda: transfer_work(engine(), now, given, n, seed=now.request.seed % 2**31))


def _applied(now: BatchResult, future: Future[PerturbationTransfer], polling: bool) -> None:
    if not future.finished:
        st.button("Cancel", icon=":material/stop_circle:", on_click=future.cancel, key="many.stop")
    if future.latest is not None:
        _carried(now, future.latest)
    stage.say_how_it_stands(future, polling)


def _carried(now: BatchResult, made: PerturbationTransfer) -> None:
    st.markdown(tallies.applied_headline(made))
    factor = amplification(float(np.abs(made.change).max()))
    left, right = st.columns([1, 3], gap="large")
    with left:
        whose = "made on all of them" if made.given is None else f"made on picture {made.given}"
        _picture(st, GREY + factor * made.change, f"the change, × {factor:g} around grey, {whose}")
    with right:
        rows = [("others", made.fooling_rate("change")), ("others, noise of the same size", made.fooling_rate("noise")),
                ("others, the change shuffled", made.fooling_rate("shuffled"))]  # fmt: skip
        if made.given is None:
            rows.insert(0, ("those it was made on", now.fooling_rate))
        rows = [(name, tally) for name, tally in rows if tally.right]
        if rows:
            st.plotly_chart(
                plots.carried(
                    [name for name, _ in rows],
                    [(tally.fooled, tally.right) for _, tally in rows],
                    [tally.interval for _, tally in rows],
                    own=2 if made.given is None else 1,
                    dark=_dark(),
                ),
                key="many.carried",
                theme=None,
                config=PLAIN,
            )
    classes = now.request.classes
    cards = []
    for at in range(min(EXAMPLES, len(made.rows))):
        state = "wrong" if not made.right[at] else "fooled" if made.fooled["change"][at] else "holds"
        word = {"wrong": "wrong before", "fooled": "fooled", "holds": "holds"}[state]
        row, true = int(made.rows[at]), classes[made.labels[at]]
        lines = (true, f"→ {classes[made.after['change'][at]]}")
        original = controls.sample(now.request.dataset).x[row].numpy()
        pictures = ((to_url(original), "original"), (to_url(made.images[at]), "with the change"))
        cards.append(Card(row, f"{true}, picture {row}: {word}", state, word, pictures, lines))
    strip(cards, None, key="many.examples", label="Other pictures with the change")
    if made.finished:
        st.markdown("\n".join(f"- {line}" for line in tallies.applied_details(made)))
        with st.expander("All conditions of this"):
            st.code(json.dumps(dict(made.conditions), indent=1, ensure_ascii=False), language="json")


def method() -> None:
    """How the attack works, once more."""
    entry = ATTACKS.entry(st.session_state["many.shown"].attack)
    st.caption(f"{entry.title}: {entry.summary} Source: {entry.paper}")
