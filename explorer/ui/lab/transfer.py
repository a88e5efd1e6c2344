"""Transfer matrix on the Lab page: pictures made on each of several models, tried on all, with intervals; a cell opens examples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import streamlit as st

from explorer import __version__
from explorer.attacks import ATTACKS
from explorer.core import NORMS, USUAL_EPS, Ball, InvalidValue, parse_eps
from explorer.core.ball import NORM_NAMES
from explorer.core.statistics import holm, mcnemar
from explorer.data import chosen_rows
from explorer.engine import AttackRequest, eps_text
from explorer.engine.compare import TRANSFER, CompareRequest
from explorer.engine.tables import Table
from explorer.jobs.transfer import FEWEST, MOST, TransferSettings, weights_of
from explorer.models import zoo
from explorer.plots.transfer import matrix
from explorer.ui import frame, permission
from explorer.ui.attack import ATTACK
from explorer.ui.compare import COMPARE
from explorer.ui.components.figures import chart, dark
from explorer.ui.components.gallery import gallery
from explorer.ui.components.save import save_place
from explorer.ui.inputs import attack as controls
from explorer.ui.inputs.choices import model_labels, model_titles, named, thumbs
from explorer.ui.inputs.picture import dataset_box
from explorer.ui.lab import views
from explorer.ui.lab.choice import offered
from explorer.ui.notices import noticed
from explorer.ui.page_run import gone_back
from explorer.ui.text.certified import table as as_table
from explorer.ui.text.choosers import attack_label

KIND = "transfer"
SHOWN = 12  # examples
ABOUT = (
    "**Transfer**: does a picture that was made to fool one model fool another? The diagonal is the white-box attack; the other "
    "cells are what somebody can do who does not have the model."
)


def open_page() -> None:
    """What a link asks for, and first values."""
    controls.show_default()
    state, query = st.session_state, st.query_params
    linked = query.get(views.IN_LINK) == views.TRANSFER and ("lab.t.models" not in state or gone_back())
    if linked and (names := query.get("models")):
        with noticed():
            state["dataset"] = zoo.card(names.split(",")[0]).dataset
            state["lab.t.models"] = [zoo.card(name).name for name in names.split(",")][:MOST]
    state.setdefault("lab.t.norm", NORMS[0])
    state.setdefault("lab.t.n", TransferSettings.images)
    titles = list(model_titles())
    kept = [name for name in state.get("lab.t.models", []) if name in titles]
    state["lab.t.models"] = kept or [name for name in titles if "lenet" in name][:4] or titles[:3]
    state.setdefault(_eps_key(), eps_text(USUAL_EPS[state["lab.t.norm"]]))


def panel() -> None:
    """Pictures and threat model, in the sidebar."""
    st.header("Pictures", anchor=False)
    dataset_box()
    st.number_input(
        "How many", 10, 500, step=10, key="lab.t.n", persist_state="session", help="Drawn from the bundled ones."
    )
    st.header("Threat model", anchor=False)
    st.selectbox("Norm", NORMS, key="lab.t.norm", persist_state="session", format_func=named(NORM_NAMES))
    st.session_state.setdefault(_eps_key(), eps_text(USUAL_EPS[st.session_state["lab.t.norm"]]))
    st.text_input("eps", key=_eps_key(), persist_state="session", help="In pixel units.")
    permission.asked("lab")


def show() -> None:
    """Which models and attack, the button, and the matrix as far as it is measured."""
    models, attack, act = frame.row([3.4, 2, 2], key="headline-lab-transfer")
    labels = model_labels()
    models.multiselect(
        "Models", list(labels), key="lab.t.models", persist_state="session", format_func=named(labels), max_selections=MOST,
        filter_mode="contains", wrap=True, placeholder=f"Choose {FEWEST} to {MOST}",
    )  # fmt: skip
    keys = [key for key in offered(st.session_state["lab.t.norm"]) if ATTACKS[key].budget == "fixed"]
    attack.selectbox(
        "Attack", keys, key="lab.t.attack", persist_state="session", format_func=attack_label, filter_mode="contains"
    )
    views.ask(act, KIND, settings, ABOUT, (views.TRANSFER, "models"), _stage)


def settings() -> dict[str, Any]:
    """What the run is asked, as its spec names it. Raises InvalidValue."""
    state = st.session_state
    names, norm, key = state["lab.t.models"], state["lab.t.norm"], state["lab.t.attack"]
    if len(names) < FEWEST:
        raise InvalidValue(f"A transfer matrix needs {FEWEST} to {MOST} models; got {len(names)}.")
    eps = Ball(norm, parse_eps(state[_eps_key()])).eps
    asked = TransferSettings(
        model=",".join(names), weights=weights_of(names), attack=key, norm=norm, eps=float(eps), images=state["lab.t.n"]
    )
    return asked.to_dict() | {"hyper": ATTACKS[key]().to_dict()}


def _eps_key() -> str:
    return f"lab.t.eps.{st.session_state['lab.t.norm']}"


def _stage(asked: dict[str, Any], polling: bool) -> None:
    answer = views.look(KIND, asked, polling)
    if answer.row is None:
        if not polling:
            views.nothing()
        return
    names = asked["model"].split(",")
    found = {(one["source"], one["judge"]): one for one in answer.row["shares"]}
    titles = [zoo.card(name).title for name in names]
    rate, low, high, n = (_grid(names, found, field) for field in ("accuracy", "low", "high", "n"))
    chart(matrix(titles, rate, low, high, n, dark=dark()), "lab.t.matrix")
    st.caption(
        "Rows: the model that the pictures are made on; columns: the one that they are tried on. "
        f"Share fooled, in %, of the pictures that the column's model has right untouched: {asked['images']} bundled pictures drawn "
        f"with seed {asked['shuffle']}, {ATTACKS.entry(asked['attack']).title} at its standard settings, {NORM_NAMES[asked['norm']]} "
        f"{eps_text(asked['eps'])}, seed {asked['seed']}. A cell's 95 % interval (Wilson) shows when pointed at."
    )
    if answer.finished:
        _gain(asked, answer.row, names)
    _examples(asked, answer.row, names)
    if answer.finished:
        _save(asked, answer.row)


def _gain(asked: Mapping[str, Any], row: Mapping[str, Any], names: list[str]) -> None:
    """The difference of two matrices: what this attack carries over more than another one that was measured on the same pictures."""
    others = views.beside(KIND, asked, ("attack", "hyper"))
    if not others:
        return
    st.header("Gain over another attack", anchor=False)
    labels = {key: ATTACKS.entry(key).title for key in others}
    other = st.selectbox(
        "Gain over", list(others), key="lab.t.gain", format_func=named(labels), label_visibility="collapsed"
    )
    mine, theirs = ({(one["source"], one["judge"]): one for one in told["shares"]} for told in (row, others[other]))
    pairs = [(a, b) for a in names for b in names if mine[a, b]["n"]]
    fooled = {pair: [{*told["examples"][" ".join(pair)]} for told in (row, others[other])] for pair in pairs}
    p = holm([mcnemar(len(ours - rival), len(rival - ours)) for ours, rival in fooled.values()])
    rows = [
        [zoo.card(a).title, zoo.card(b).title, *(f"{100 * told[a, b]['accuracy']:.1f} %" for told in (mine, theirs)),
         f"{100 * (mine[a, b]['accuracy'] - theirs[a, b]['accuracy']):+.1f}", f"{one:.2g}"]
        for (a, b), one in zip(pairs, p, strict=True)
    ]  # fmt: skip
    head = ("Made on", "Tried on", ATTACKS.entry(asked["attack"]).title, labels[other], "Gain, points", "p, by Holm")
    st.html(as_table(views.grid(head, rows)))
    st.caption(f"Share fooled of n = {', '.join(sorted({str(mine[pair]['n']) for pair in pairs}))} pictures right untouched; exact McNemar "
               f"tests on the same pictures, adjusted over the {len(pairs)} cells.")  # fmt: skip


def _grid(names: list[str], found: Mapping[Any, Any], field: str) -> np.ndarray:
    return np.array(
        [[found[a, b][field] if (a, b) in found and found[a, b]["n"] else np.nan for b in names] for a in names], float
    )


def _examples(asked: Mapping[str, Any], row: Mapping[str, Any], names: list[str]) -> None:
    """Pictures of one cell, each of which opens the attack on the page that shows it."""
    made = [name for name in names if f"{name} {names[0]}" in row["examples"]]
    if not made:
        return
    st.header("Examples of a cell", anchor=False)
    labels = {name: zoo.card(name).title for name in names}
    left, right = st.columns(2)
    a = left.selectbox("Made on", made, key="lab.t.made", format_func=named(labels))
    b = right.selectbox("Tried on", names, key="lab.t.tried", format_func=named(labels), index=min(1, len(names) - 1))
    places = row["examples"][f"{a} {b}"][:SHOWN]
    if not places:
        st.info("No picture of this cell fools the model.", icon=":material/info:")
        return
    images = zoo.card(a).dataset
    rows = chosen_rows(images, asked["shuffle"], asked["images"])
    gallery(
        thumbs(images, tuple(rows[k] for k in places)), [], key=f"lab.t.gallery.{a}.{b}", label="Pictures that fool it",
        on_pick=lambda picked: _open(dict(asked), a, b, picked[0]) if picked else None,
    )  # fmt: skip
    st.caption(
        "A click opens the walk: how the picture is made on the one model, and what the other makes of every step."
    )


def _open(asked: Mapping[str, Any], source: str, judge: str, row: int) -> None:
    with noticed():
        request = AttackRequest(
            zoo.card(source).dataset,
            row,
            source,
            attack=asked["attack"],
            norm=asked["norm"],
            eps=asked["eps"],
            seed=asked["seed"],
        ).checked()
        if source == judge:
            ATTACK.play(request)
            frame.go_to("attack")
        else:
            COMPARE.play(CompareRequest(request, (source, judge), TRANSFER).checked().within())
            frame.go_to("compare")


def _save(asked: Mapping[str, Any], row: Mapping[str, Any]) -> None:
    rows = tuple(
        {"made_on": one["source"], "tried_on": one["judge"], "fooled": one["correct"], "n": one["n"], "share": one["accuracy"],
         "low": one["low"], "high": one["high"]}
        for one in row["shares"]
    )  # fmt: skip
    about = (
        f"{asked['images']} test pictures, {asked['attack']}, {asked['norm']} {eps_text(asked['eps'])}, seed {asked['seed']}; 95 % "
        f"intervals (Wilson). Robustness Explorer {__version__}."
    )
    table = Table(rows, {"conditions": row["conditions"]})
    save_place("transfer", about=about, table=table, figures={"lab.t.matrix": "Transfer matrix"}, key="lab.t.save")
