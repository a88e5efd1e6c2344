"""Proof and attack on one axis: the radius within which nothing is possible, and how near an attack on the smoothed model came."""

from __future__ import annotations

from html import escape

import numpy as np
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from explorer.certify import Certificate
from explorer.data.pictures import amplified
from explorer.engine.attacking_smoothed import SmoothedAttack, SmoothedSearch, attack_smoothed_work
from explorer.engine.certifying import DEADLINE, Certifying, CertifyRequest
from explorer.plots import certify as plots
from explorer.ui.certify.choice import QUEUE
from explorer.ui.certify.copies import copy_cell, copy_row
from explorer.ui.components.conditions import as_json, bullets
from explorer.ui.components.figures import chart, dark
from explorer.ui.inputs.forms import form_for, preset_row, remember
from explorer.ui.notices import noticed
from explorer.ui.page_run import Task, say_how_it_stands
from explorer.ui.session import engine
from explorer.ui.text import certificate as words

POLL = 0.5  # seconds between two looks
FORM = "certify.by"  # prefix of the attack's settings
ATTACKED: Task[SmoothedSearch] = Task("certify.attack", QUEUE, DEADLINE)


def show(request: CertifyRequest, now: Certifying | None) -> None:
    """The attack on the smoothed model, once its certificate is there (`now`): its settings, the axis, what was found."""
    st.header("Proof and attack on one axis", anchor=False)
    ATTACKED.look(_attack, request, now, every=POLL, name="certify.attacked")


def _attack(request: CertifyRequest, now: Certifying | None, polling: bool) -> None:
    text, press = st.columns([4, 1.6], vertical_alignment="center")
    text.markdown(
        "The certificate says what **no** attack can do. An attack shows what **one** attack could: here those that are made "
        "against a smoothed model and follow the mean over many noisy copies, at distance after distance."
    )
    with text:
        remember(SmoothedAttack, FORM)
        preset_row(SmoothedAttack, FORM)
        st.caption(words.effort())
    _button(press, request, None if now is None else now.certificate)
    future = ATTACKED.future
    search = None if future is None else future.latest
    _said(search, request, now, begun=future is not None)
    if search is not None and polling:
        st.progress(*words.trying(search))
    certificate = None if now is None else now.certificate
    proven = certificate.radius if certificate is not None and certificate.label is not None else None
    if proven is not None or search is not None:
        _axis(proven, search)
    if search is not None and search.found is not None and now is not None:
        _found(search, search.found, now)
    if future is not None:
        say_how_it_stands(future, polling)
    if search is not None and search.conditions:
        bullets(words.search_notes(search))
    with st.expander("How it is attacked, and all conditions"):
        form_for(SmoothedAttack, FORM, presets=False)
        if search is not None and search.conditions:
            as_json(dict(search.conditions))


def _button(place: DeltaGenerator, request: CertifyRequest, certificate: Certificate | None) -> None:
    """Starts the attack, or stops it; the whole page is drawn anew, so that looking again begins."""
    if ATTACKED.running:
        if place.button(
            "Cancel the attack", icon=":material/stop_circle:", key="certify.attack.cancel", width="stretch"
        ):
            ATTACKED.stop()
    elif place.button(
        "Attack the smoothed model",
        icon=":material/bolt:",
        key="certify.attack.run",
        width="stretch",
        disabled=certificate is None,
    ):
        chosen = {p.name: st.session_state.get(f"{FORM}.{p.name}", p.default) for p in SmoothedAttack.params()}
        with noticed():
            ATTACKED.submit(attack_smoothed_work(engine(), request, SmoothedAttack(**chosen), certificate))
        st.rerun()


def _said(search: SmoothedSearch | None, request: CertifyRequest, now: Certifying | None, begun: bool) -> None:
    if search is not None and search.alarm is not None:
        st.error(words.alarmed(search, request.classes), icon=":material/crisis_alert:")
    elif search is not None:
        found, sentence = words.searched(search, request.classes)
        (st.warning if found else st.info)(sentence, icon=":material/bolt:" if found else ":material/shield:")
    elif not begun:
        st.caption("Not attacked yet." if now is not None else "The attack can start when the certificate is there.")


def _axis(proven: float | None, search: SmoothedSearch | None) -> None:
    probes = () if search is None else search.probes
    figure = plots.attack_axis(
        proven,
        np.array([probe.eps for probe in probes]),
        np.array([probe.distance for probe in probes]),
        np.array([probe.reached for probe in probes], bool),
        np.array([probe.abstained for probe in probes], bool),
        None if search is None else search.distance,
        search is not None and search.alarm is not None,
        dark=dark(),
    )
    chart(figure, "certify.axis")


def _found(search: SmoothedSearch, found: np.ndarray, now: Certifying) -> None:
    """The picture, the change and the nearest attacked picture."""
    classes = search.request.classes
    assert (
        search.clean is not None and search.clean.label is not None and search.found_class is not None
    )  # it was found
    change, factor = amplified(found - now.picture)
    pictures = (
        (now.picture, "the picture", f"smoothed model: <b>{escape(classes[search.clean.label])}</b>"),
        (change, "the change, amplified", f"the change, × {factor or 1:g}"),
        (found, "the attacked picture", f"smoothed model: <b>{escape(classes[search.found_class])}</b>"),
    )
    cells = [copy_cell(pixels, alt, text) for pixels, alt, text in pictures]
    st.html(f'<div style="max-width:520px">{copy_row(cells)}</div>')
