"""The Certify page's second view: certified accuracy of many pictures, and what others measured beside it."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import streamlit as st

from explorer.core import ExplorerError, wilson
from explorer.data import DATASETS
from explorer.engine import Future
from explorer.engine.certifying import MOST
from explorer.engine.certifying_set import CertifiedSet, CertifySetRequest, certify_set_work
from explorer.engine.request import from_link
from explorer.evaluation import published
from explorer.evaluation.tables import NOT_MEASURED
from explorer.models import zoo
from explorer.models.zoo import Card
from explorer.plots import certify as plots
from explorer.ui import certify, certify_tables, controls, stage, tallies
from explorer.ui import certify_words as words
from explorer.ui.session import engine, look_again
from explorer.ui.training_words import duration

POLL = 1.0  # seconds between two looks at running work
KEPT = 6  # sets that are shown together
SHOWN = (0.0, 0.25, 0.5, 0.75, 1.0)  # radii of the table of numbers
_LINK = {name: name for name in ("model", "sigma", "count", "n0", "n", "alpha", "sound", "shuffle")} | {
    "data": "dataset"
}


# What is asked for


def open_page() -> None:
    """A first visit by a link to a set: it is certified at once."""
    state = st.session_state
    if "certify.sets" in state:
        return
    state["certify.sets"] = []
    query = st.query_params.to_dict()
    if query.get("view") != "set":
        return
    try:
        request = CertifySetRequest(**from_link(query, _LINK, needed=("data", "model")))
    except ExplorerError as error:
        state["notice"] = controls.not_followed(error)
        return
    for name in ("model", "sigma", "n0", "alpha", "sound", "count"):
        state[f"certify.{name}"] = getattr(request, name)
    state["dataset"], state["certify.each"], state["certify.shuffle"] = request.dataset, request.n, request.shuffle
    _start(request)


def to_query(request: CertifySetRequest) -> dict[str, str]:
    """A link that `open_page` turns into an equal request; defaults are left out."""
    query = {"view": "set", "data": request.dataset, "model": request.model, "sigma": repr(request.sigma)}
    for key in ("count", "n0", "n", "alpha", "shuffle"):
        if getattr(request, key) != getattr(CertifySetRequest, key):
            query[key] = repr(getattr(request, key))
    return query | ({"sound": "1"} if request.sound else {})


def pictures_panel() -> None:
    """Which pictures: how many, and which draw."""
    state = st.session_state
    st.subheader("Pictures", anchor=False)
    controls.dataset_box()
    st.session_state.setdefault("certify.count", CertifySetRequest.count)
    st.session_state.setdefault("certify.shuffle", 0)
    st.slider(
        "How many", 10, MOST["pictures"], step=10, key="certify.count", persist_state="session",
        help="Drawn at random; more begin with the same ones.",
    )  # fmt: skip
    st.button(
        "Draw others",
        on_click=_draw_others,
        width="stretch",
        icon=":material/shuffle:",
        help=f"Draw number {state['certify.shuffle']}: the same number, the same pictures for every model.",
    )


def _draw_others() -> None:
    st.session_state["certify.shuffle"] = (st.session_state["certify.shuffle"] + 1) % 2**31


def headline() -> None:
    columns = st.columns([3, 1.6, 1.9, 1.5], vertical_alignment="bottom")
    certify.model_and_noise(columns)
    certify.draws_box(columns[2], "certify.each", CertifySetRequest.n)
    if (future := _running()) is not None:
        columns[3].button(
            "Cancel", icon=":material/stop_circle:", on_click=future.cancel, width="stretch", key="certify.set.cancel"
        )
    else:
        columns[3].button(
            "Certify", type="primary", icon=":material/verified_user:", on_click=_begin, width="stretch", key="certify.set.begin",
            help=f"{st.session_state['certify.count']} pictures, one after the other; you can go on using the app.",
        )  # fmt: skip


def current_request(model: str | None = None) -> CertifySetRequest:
    """What the controls say (of `model`, None: the chosen one), checked; raises ExplorerError with one sentence."""
    state = st.session_state
    own = {name: state[f"certify.{name}"] for name in ("sigma", "count", "n0", "alpha", "sound", "shuffle")}
    return CertifySetRequest(state["dataset"], model or state["certify.model"], n=state["certify.each"], **own)


# The run


def _begin(model: str | None = None) -> None:
    try:
        _start(current_request(model))
    except ExplorerError as error:
        st.session_state["notice"] = str(error)


def _start(request: CertifySetRequest) -> None:
    """Beside the sets that are there; the same one again, or one too many, takes a place of another."""
    state = st.session_state
    if (running := _running()) is not None:
        running.cancel()
    future = certify.submitted(lambda: certify_set_work(engine(), request))
    if future is not None:
        others = [(asked, old) for asked, old in state["certify.sets"] if asked != request]
        state["certify.sets"] = [*others, (request, future)][-KEPT:]


def _running() -> Future[CertifiedSet] | None:
    return next((future for _, future in st.session_state["certify.sets"] if not future.finished), None)


def _forget() -> None:
    if (future := _running()) is not None:
        future.cancel()
    st.session_state["certify.sets"] = []


def notices() -> None:
    """Above what is shown."""
    asked = [request for request, _ in st.session_state["certify.sets"]]
    certify.notices(current_request, lambda request: not asked or request in asked)


def watch() -> None:
    """The curves; looks at a running set again and again."""
    sets = st.session_state["certify.sets"]
    stage.set_link(to_query(sets[-1][0]) if sets else {"view": "set"})
    polling = _running() is not None
    look_again(_stage, polling, every=POLL if polling else None, key="certify.set.stage")


def _stage(polling: bool) -> None:
    state = st.session_state
    futures: list[Future[CertifiedSet]] = [future for _, future in state["certify.sets"]]
    st.markdown(
        "**Certified accuracy**: the share of pictures that the smoothed model gets right, and provably so for every change up to the "
        "radius. Less noise keeps more accuracy, more noise reaches farther."
    )
    if futures:
        stage.await_first(futures[-1])
        _progress(futures[-1])
    sets = [future.latest for future in futures if future.latest is not None]
    sets = [now for now in sets if now.certificates]
    cards = _cards()
    st.session_state.setdefault("certify.set.cards", True)
    with_cards = st.toggle(
        "Show what the model cards say", key="certify.set.cards", persist_state="session",
        help="Measured once on the full test set, with more draws: points, because nothing is said between them.",
    )  # fmt: skip
    shown = [_curve(now) for now in sets] + (certify_tables.curves(cards) if with_cards else [])
    if shown:
        st.plotly_chart(
            plots.accuracy(shown, dark=certify.dark()), key="certify.set.curve", theme=None, config=certify.PLAIN
        )
        st.caption(
            "Lines with bands: certificates made here. Points with bars: the cards. Bands and bars: 95 % intervals for each radius by "
            "itself, over the choice of pictures; that each certificate may be wrong with its alpha is not in them."
        )
    else:
        st.info("Nothing measured for this dataset yet: press **Certify**.", icon=":material/arrow_upward:")
    if shown:
        st.html(_numbers(sets, cards if with_cards else []))
        st.caption(
            "All in % but the radius, with 95 % intervals (none where all pictures agree). Noisy copies: how often the network "
            "itself is right about one. r: certified right at this radius; few copies reach none that is large, which makes the "
            "average radius small, too. Average radius: 0 where the answer is wrong or missing. A few pictures with large radii "
            "weigh much in it, and a model that is good at easy pictures alone can raise it: look at the whole curve."
        )
    if futures:
        stage.say_how_it_stands(futures[-1], polling)
    if sets:
        left, _ = st.columns([1, 3])
        left.button("Clear what was made here", icon=":material/close:", on_click=_forget, key="certify.set.clear")
        with st.expander("All conditions of what was made here"):
            for now in sets:
                st.caption(now.request.title())
                if now.conditions:
                    st.code(json.dumps(dict(now.conditions), indent=1, ensure_ascii=False), language="json")
    if with_cards and (lines := certify_tables.conditions(cards)):
        with st.expander("Conditions of the cards' measures"):
            st.markdown("\n".join(f"- {line}" for line in lines))


def _progress(future: Future[CertifiedSet]) -> None:
    now = future.latest
    if now is None:
        return
    done, of = len(now.certificates), len(now.rows)
    text = f"{now.request.title()}. **{done} of {of} pictures**"
    if now.finished:
        made = f" ({now.kept} of them were made before)" if now.kept else ""
        st.progress(1.0, f"{text}{made}, {duration(now.seconds)} of computing.")
        return
    fresh = now.done - now.kept * (now.request.n0 + now.request.n)
    left = (now.total - now.done) * now.seconds / fresh if fresh > 0 and not future.finished else float("nan")
    st.progress(
        min(now.done / now.total, 1.0),
        f"{text}, {'about ' + duration(left) + ' left' if left == left else 'estimating'}.",
    )


def _curve(now: CertifiedSet) -> plots.Curve:
    rows = now.curve()
    name = f"{certify_tables.called(zoo.card(now.request.model), now.request.sigma)}: here, n={len(now.certificates)}"
    columns = ([getattr(row, field) for row in rows] for field in ("radius", "accuracy", "low", "high"))
    return plots.Curve(name, *(np.array(column) for column in columns), n=len(now.certificates))


def _cards() -> list[Card]:
    return [card for card in zoo.cards() if card.dataset == st.session_state["dataset"]]


# Numbers


def _numbers(sets: Sequence[CertifiedSet], cards: Sequence[Card]) -> str:
    """One row a set: what the network does without noise, on noisy copies, what is certified, and the average radius."""
    rows = [
        [
            "Model",
            "Pictures × copies",
            "No noise",
            "Noisy copies",
            *(f"r = {r:g}" for r in SHOWN),
            "Average radius",
            "Abstains",
        ]
    ]
    for now in sets:
        right, total = now.natural
        noisy, acr = now.noisy, now.acr
        certified = (_share(row.accuracy, row.low, row.high) for row in now.curve(SHOWN))
        cells = [_share(right / total, *wilson(right, total)), _share(noisy.value, noisy.low, noisy.high), *certified]
        mean = plots.down(acr.value, 3) + (f" [{acr.low:.3f} to {acr.high:.3f}]" if acr.low < acr.high else "")
        title = certify_tables.called(zoo.card(now.request.model), now.request.sigma)
        rows.append(
            [title, f"{len(now.certificates)} × {now.request.n:,}, here", *cells, mean, str(now.counts["abstained"])]
        )
    for card in cards:
        for sigma, measures in certify_tables.certified(card).items():
            certified = (certify_tables.cell(measures, radius) for radius in SHOWN)
            cells = [_of_card(card, "clean", None), _of_card(card, "noisy", sigma), *certified]
            facts = certify_tables.average_radius(measures[0])
            rows.append(
                [
                    certify_tables.called(card, sigma),
                    f"{measures[0]['n']} × {measures[0]['draws']:,}, card",
                    *cells,
                    *facts,
                ]
            )
    return certify_tables.table(rows)


def _share(value: float, low: float, high: float) -> str:
    """In %, with its interval; without one where all pictures gave the same number, which tells nothing of its spread."""
    return f"{100 * value:.0f}" + (f" [{100 * low:.0f} to {100 * high:.0f}]" if low < high else "")


def _of_card(card: Card, kind: str, sigma: float | None) -> str:
    found = [m for m in card.measures if m["kind"] == kind and m["sigma"] == sigma]
    return certify_tables.share(found[0]) if found else NOT_MEASURED


# Beside it


def compare() -> None:
    """Why an ordinary model certifies little, and what others measured."""
    cards = _cards()
    _ordinary(cards)
    if st.session_state["dataset"] != "cifar10":
        return
    st.subheader("Beside the report and the paper", anchor=False)
    st.markdown(
        f"**Certified accuracy in %, CIFAR-10** (the report's table 3; {published.COHEN.name}; ours from the model cards)"
    )
    st.html(certify_tables.radii_table(cards))
    st.caption(certify_tables.standing(cards))
    st.markdown("**Accuracy of the network itself on noisy pictures, %** (the report's table 1)")
    st.html(certify_tables.noise_table(cards))
    st.caption(published.UNDER_NOISE_NOTE)
    st.markdown(f"**What PREDICT says with n copies, σ {published.PREDICT_SIGMA:g}, %** (the report's table 4)")
    st.html(certify_tables.predict_table(cards))
    st.caption(
        "Right: PREDICT's class is the true one. Accurate: it is the smoothed model's own, the top class of up to 100,000 copies. "
        "With few copies it abstains often; with more it decides."
    )
    for line in certify_tables.predict_notes(cards):
        st.caption(line)
    for source in (published.REPORT, published.COHEN):
        link = f" {source.url}" if source.url else ""
        st.caption(f"{source.name}: {source.what}.{link} {source.conditions}")


def _ordinary(cards: Sequence[Card]) -> None:
    state = st.session_state
    ordinary = next((card for card in cards if card.name == controls.FAVOURITE), None)
    st.subheader("Why an ordinary model certifies little", anchor=False)
    st.markdown(words.ORDINARY)
    if ordinary is None:
        return
    for request, future in state["certify.sets"]:
        now = future.latest
        if request.model == ordinary.name and now is not None and now.certificates:
            right, total = now.natural
            st.markdown(
                f"Measured here: **{ordinary.title}** is right about {tallies.percent(right / total, total)} of {total} clean "
                f"pictures, about {tallies.percent(now.noisy.value, now.noisy.n)} of noisy copies at sigma {request.sigma:g}, and "
                f"certified right for {now.counts['right']} of {len(now.certificates)}."
            )
    st.button(
        f"Certify “{ordinary.title}” on the same pictures", icon=":material/visibility_off:", key="certify.set.ordinary",
        on_click=_begin, args=(ordinary.name,), disabled=_running() is not None,
        help=f"With the noise and the copies that are chosen above, on {DATASETS[state['dataset']].title}.",
    )  # fmt: skip
