"""The Certify page's choices: one picture or a test set, which model is smoothed, with how much noise and how many copies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from explorer.certify import CertifyParams
from explorer.core import BadCheckpoint
from explorer.data import dataset
from explorer.engine.certifying import MOST, CertifyRequest
from explorer.engine.certifying_set import CertifySetRequest
from explorer.models import zoo
from explorer.ui.inputs.attack import default_request
from explorer.ui.inputs.choices import model_labels, model_titles, named
from explorer.ui.page_run import gone_back

ONE, SET, TABLE = "one picture", "a test set", "a table"
VIEWS = {
    ONE: ":material/image: Picture", SET: ":material/ssid_chart: Test set", TABLE: ":material/table_rows: Proofs",
}  # fmt: skip
LINKS = {"set": SET, "table": TABLE}  # as a link names them
VIEW = "certify.view"
FAVOURITES = ("smoothed-0.25", "gaussian-0.25")  # made to be smoothed
QUEUE = " certify"  # certificates take turns with the session's attacks, instead of waiting for them all


def view() -> str:
    """One picture, a test set or a table: as the link says at first, then as chosen."""
    state = st.session_state
    if VIEW not in state or gone_back():
        state[VIEW] = LINKS.get(st.query_params.get("view", ""), ONE)
    st.segmented_control(
        "What to certify",
        list(VIEWS),
        key=VIEW,
        persist_state="session",
        format_func=named(VIEWS),
        label_visibility="collapsed",
        required=True,
        width="stretch",
    )
    chosen: str = state[VIEW]
    return chosen


def prepare() -> None:
    """The first choices; a model of another dataset gives way to one that was made to be smoothed."""
    state, usual = st.session_state, CertifyParams()
    for key in ("sigma", "n0", "n", "alpha"):
        state.setdefault(f"certify.{key}", getattr(usual, key))
    state.setdefault("certify.precision", CertifyRequest.precision)
    for key, name in (("sound", "sound"), ("each", "n"), ("count", "count"), ("shuffle", "shuffle")):
        state.setdefault(f"certify.{key}", getattr(CertifySetRequest, name))
    if state.get("certify.model") not in model_titles():
        state["certify.model"] = favourite(state["dataset"])
        _take_sigma()


def show(request: Any, names: Sequence[str]) -> None:
    """Make the controls show these fields of a request."""
    st.session_state["dataset"] = request.dataset
    for name in names:
        st.session_state[f"certify.{name}"] = getattr(request, name)


def chosen(*names: str) -> dict[str, Any]:
    """A request's arguments, as the controls say."""
    return {name: st.session_state[f"certify.{name}"] for name in names}


def favourite(name: str) -> str:
    """A model of this dataset that was made to be smoothed, else any."""
    cards = [card for card in zoo.cards() if card.dataset == name]
    if not cards:
        raise BadCheckpoint(
            "There is no model to certify: the folder checkpoints/ holds no readable card. Get it again."
        )
    first = {f"{name}/{made}": i for i, made in enumerate(FAVOURITES)}
    return min(cards, key=lambda card: (first.get(card.name, len(first)), card.sigma is None, card.sigma or 0)).name


def filled(query: Mapping[str, str]) -> dict[str, str]:
    """A link with what it leaves out: the dataset of its model, or the usual one, and a model that was made to be smoothed."""
    usual = default_request().dataset
    known = {"data": zoo.card(query["model"]).dataset if "model" in query else usual} | dict(query)
    return known if "model" in known else known | {"model": favourite(dataset(known["data"]).name)}


def model_and_noise(columns: Any) -> None:
    """The first two controls of both views: which model, and how much noise; any model can be smoothed."""
    labels = model_labels()
    columns[0].selectbox(
        "Smooth this model", list(labels), key="certify.model", persist_state="session",
        format_func=named(labels), filter_mode="contains", on_change=_take_sigma,
        help="Any model can be smoothed. Those that were trained under noise have something to certify.",
    )  # fmt: skip
    help_ = {p.name: p.help for p in CertifyParams.params()}
    columns[1].number_input(
        "with noise sigma", 0.0, 10.0, step=0.05, format="%.4g", key="certify.sigma", persist_state="session", help=help_["sigma"],
    )  # fmt: skip


def _take_sigma() -> None:
    """The sigma that the chosen model was made for; that of before for one that was made for none."""
    card = zoo.card(st.session_state["certify.model"])
    if card.sigma is not None:
        st.session_state["certify.sigma"] = card.sigma


def draws_box(place: DeltaGenerator, key: str) -> None:
    """n: how many noisy copies vote."""
    place.number_input(
        "and noisy copies (n)", 1, MOST["n"], step=1000, key=key, persist_state="session",
        help=f"More copies measure the share of votes better, and certify a larger radius. At most {MOST['n']:,}.",
    )  # fmt: skip


def panel() -> None:
    """What else decides about a certificate."""
    st.header("Certificate", anchor=False)
    about = {p.name: p for p in CertifyParams.params()}
    left, right = st.columns(2)
    left.number_input(
        "selection (n0)", 1, MOST["n0"], step=100, key="certify.n0", persist_state="session", help=about["n0"].help
    )
    right.number_input(
        "alpha", 0.0, 0.5, step=0.001, format="%g", key="certify.alpha", persist_state="session",
        help="How often, at most, one certificate may be wrong because its draws happened to mislead.",
    )  # fmt: skip
    st.toggle(
        "Sound in floating point",
        key="certify.sound",
        persist_state="session",
        help="Noise on the grid of 8-bit pixels, drawn exactly with whole numbers, so that rounding leaves no gap in the proof. "
        "For 8-bit pictures; the ordinary mode does not claim this.",
    )
