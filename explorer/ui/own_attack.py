"""An attack of one's own on the Attack page: a Python file is uploaded, its walk played, and the clinic's findings said."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from explorer.api.own_attacks import OwnRun, own_attack_work
from explorer.core import Ball
from explorer.core.ball import Norm, as_norm
from explorer.data import dataset
from explorer.engine import AttackRequest
from explorer.engine.adding import File, sentence
from explorer.engine.aside import Aside, Asides
from explorer.engine.captions import captions
from explorer.engine.tracing import on_map, picture
from explorer.models import zoo
from explorer.ui import permission
from explorer.ui.asides import running
from explorer.ui.attack import verdict
from explorer.ui.components.conditions import bullets
from explorer.ui.components.trace_player import trace_player
from explorer.ui.inputs import attack as controls
from explorer.ui.inputs.picture import chosen_picture
from explorer.ui.notices import draw_anew, told
from explorer.ui.session import engine, look_again
from explorer.ui.text import own_attack as words

POLL = 0.5  # seconds between two looks
FILE, FUNCTION = "own.file", "own.function"  # keys of the widgets
JOB = "own.job"  # in st.session_state: this session's newest run, and what it was asked for


@st.cache_resource(show_spinner=False)
def runner() -> Asides[OwnRun]:
    """Who runs uploaded attacks, one at a time for all sessions."""
    return Asides("An uploaded attack is running")


def show() -> None:
    """The panel, and what came of the newest run."""
    kept: tuple[Aside[OwnRun], AttackRequest] | None = st.session_state.get(JOB)
    with st.expander(
        "An attack of your own", kept is not None, icon=":material/code:", key="own.open", on_change="rerun"
    ) as place:
        if not place.open:
            return
        if not permission.may_run_code("own"):
            return
        _form()
        if kept is not None:
            job, request = kept
            working = job.state == "running"
            look_again(_stage, job, request, working, every=POLL if working else None, key="own.stage")


def _form() -> None:
    st.markdown(words.ABOUT)
    with st.popover("An example", icon=":material/description:"):
        st.code(words.EXAMPLE, language="python")
    left, middle, right = st.columns([4, 2, 1.2], vertical_alignment="bottom", gap="medium")
    left.file_uploader("Python file", type=["py"], key=FILE, max_upload_size=1)
    middle.text_input("Its function, if it is not `attack`", key=FUNCTION, max_chars=60)
    right.button("Run it", type="primary", icon=":material/play_arrow:", key="own.run", on_click=_run, width="stretch",
                 disabled=st.session_state[FILE] is None)  # fmt: skip


def _request() -> AttackRequest:
    """The chosen picture, model, norm, eps and seed; whatever else is chosen on this page belongs to other attacks."""
    asked = controls.attack_settings(attack="pgd")
    return AttackRequest(**chosen_picture(), **asked | {"hyper": {}, "target": None}).checked()


def _run() -> None:
    upload = st.session_state[FILE]
    if upload is None:
        return
    with told():
        request = _request()
        permission.check("run attack", Path(upload.name).name[:60])
        work = own_attack_work(
            File(upload.name, upload.getvalue()), request.model, picture(engine(), request).cpu(), request.label,
            norm=as_norm(request.norm), eps=request.eps, seed=request.seed, function=st.session_state[FUNCTION].strip(),
        )  # fmt: skip
        st.session_state[JOB] = runner().start(upload.name, work), request


def _stage(job: Aside[OwnRun], request: AttackRequest, polling: bool) -> None:
    if polling and job.state != "running":
        draw_anew()
    if job.state == "running":
        running(job, "own")
    if job.found:
        _walk(job.found[-1], request)
        _faults(job.found[-1], as_norm(request.norm))
    if job.state == "failed":
        st.error(job.error or "", icon=":material/block:")
    if job.state == "cancelled":
        st.info("Stopped.", icon=":material/stop_circle:")


def _walk(run: OwnRun, request: AttackRequest) -> None:
    result, ball = run.result, Ball(as_norm(request.norm), request.eps)
    trace = result.traces[0]
    path = on_map(engine().plane(request.model).plane, trace)
    title = f"{trace.conditions['attack']} against {zoo.card(request.model).title}, {words.within(ball)}"
    trace_player(trace, path, captions(trace, None, run.stochastic), key="own.player", title=title)
    state, said = words.headline(result, dataset(request.dataset).classes, ball)
    verdict.box(state, said, key="own-verdict")
    bullets(words.details(result, ball))


def _faults(run: OwnRun, norm: Norm) -> None:
    st.markdown("**The clinic**: the same file on a small network, asked what every attack is asked.")
    if run.faults is None:
        st.caption("It is still examining.")
    elif not run.faults:
        st.success(words.NO_FAULT, icon=":material/check:")
    else:
        for fault in run.faults:
            st.warning(f"**{sentence(fault.clause)}?** {sentence(fault.sentence)}", icon=":material/healing:")
    if norm == "linf":
        st.caption("Examined in L∞; choose L2 in the settings to have it examined in L2.")
