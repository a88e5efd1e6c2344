"""A scene's stage: the very parts of the page that its link leads to, begun and watched under the lesson's own address."""

from __future__ import annotations

from typing import Any

import streamlit as st

from explorer.classroom import Scene, asked
from explorer.ui.attack import ATTACK
from explorer.ui.certify.picture import CERTIFICATE
from explorer.ui.compare import COMPARE, STYLES
from explorer.ui.features import FEATURES
from explorer.ui.many import MANY
from explorer.ui.page_run import PageRun

RUNS: dict[str, PageRun[Any, Any]] = {
    asked.ATTACK: ATTACK,
    asked.COMPARE: COMPARE,
    asked.MANY: MANY,
    asked.FEATURES: FEATURES,
    asked.CERTIFY: CERTIFICATE,
}


def play(scene: Scene) -> None:
    """Begin the scene's run, unless it is on show, and watch it."""
    run = RUNS[scene.page]
    if not run.is_shown(scene.request):
        run.show(scene.request)
        run.prepare()
        run.start(scene.request)
    if scene.page == asked.COMPARE:
        st.html(STYLES)
    run.watch()


def came(scene: Scene) -> int | None:
    """The option that the run has made true, once it has ended."""
    run = RUNS[scene.page]
    if scene.question is None or not run.is_shown(scene.request) or run.future is None or run.future.state != "done":
        return None
    return scene.question.option(asked.value(scene.question.kind, run.latest))


def stop() -> None:
    """Nothing of a scene goes on once one is at another's gate."""
    for run in RUNS.values():
        if run.running:
            run.cancel()
