"""A certificate for the wrong class: the shadow attack on the Certify page."""

from __future__ import annotations

from html import escape

import streamlit as st

from explorer.certify import Certificate
from explorer.data.pictures import amplified
from explorer.engine.certifying import DEADLINE, Certifying, CertifyRequest
from explorer.engine.shadowing import Shadowing, ShadowOnCertificate, shadow_work
from explorer.ui.certify.choice import QUEUE
from explorer.ui.certify.copies import copy_cell, copy_row
from explorer.ui.components.conditions import as_json
from explorer.ui.inputs.forms import form_for, preset_row, remember
from explorer.ui.notices import noticed
from explorer.ui.page_run import Task, say_how_it_stands
from explorer.ui.session import engine
from explorer.ui.text import shadow as words

POLL = 0.5  # seconds between two looks
FORM = "certify.shadow.by"  # prefix of the settings
SHADOW: Task[Shadowing] = Task("certify.shadow", QUEUE, DEADLINE)


def show(request: CertifyRequest, now: Certifying | None) -> None:
    """The shadow, once the picture's own certificate is there (`now`): its settings, the picture, its certificate."""
    st.header("A certificate for the wrong class", anchor=False)
    SHADOW.look(_shadow, request, now, every=POLL, name="certify.shadowed")


def _shadow(request: CertifyRequest, now: Certifying | None, polling: bool) -> None:
    text, press = st.columns([4, 1.6], vertical_alignment="center")
    with text:
        st.markdown(words.WHAT)
        remember(ShadowOnCertificate, FORM)
        preset_row(ShadowOnCertificate, FORM)
    certificate = None if now is None else now.certificate
    with press:
        _button(request, certificate)
    future = SHADOW.future
    found = None if future is None else future.latest
    if found is not None:
        kind, sentence = words.said(found, certificate)
        {"spoofed": st.error, "failed": st.info, "under way": st.info}[kind](sentence, icon=":material/tonality:")
        if not found.ended and polling:
            st.progress(*words.progress(found))
        if found.found is not None and now is not None:
            _pictures(found, now)
    if future is not None:
        say_how_it_stands(future, polling)
    with st.expander("How the shadow is made, and all conditions"):
        form_for(ShadowOnCertificate, FORM, presets=False)
        if found is not None and found.conditions:
            as_json(dict(found.conditions))


def _button(request: CertifyRequest, certificate: Certificate | None) -> None:
    """Starts the shadow, or stops it; the whole page is drawn anew, so that looking again begins."""
    if SHADOW.running:
        if st.button("Cancel the shadow", icon=":material/stop_circle:", key="certify.shadow.cancel", width="stretch"):
            SHADOW.stop()
    elif st.button(
        "Cast a shadow",
        icon=":material/tonality:",
        key="certify.shadow.run",
        width="stretch",
        disabled=certificate is None,
    ):
        chosen = {p.name: st.session_state.get(f"{FORM}.{p.name}", p.default) for p in ShadowOnCertificate.params()}
        with noticed():
            SHADOW.submit(shadow_work(engine(), request, ShadowOnCertificate(**chosen)))
        st.rerun()


def _pictures(found: Shadowing, now: Certifying) -> None:
    """The picture, the shadow and the shadowed picture, each with its certificate."""
    assert found.found is not None
    change, factor = amplified(found.found - now.picture)
    cells = [
        copy_cell(now.picture, "the picture", escape(words.certified(now.certificate, found.request.classes))),
        copy_cell(change, "the shadow", f"the shadow, × {factor or 1:g}"),
        copy_cell(
            found.found, "the shadowed picture", escape(words.certified(found.certificate, found.request.classes))
        ),
    ]
    label = "The picture, the shadow and the shadowed picture"
    st.html(f'<div style="max-width:520px">{copy_row(cells, label)}</div>')
