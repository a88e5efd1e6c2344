"""Finds a picture that the chosen model withstands, or some of several do: right before the chosen attack, and right after it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from typing import Any

import streamlit as st

from explorer.core import ExplorerError
from explorer.engine.batch_request import ManyRequest
from explorer.engine.batch_result import BatchResult
from explorer.engine.many import many_work
from explorer.ui.inputs.attack import attack_settings
from explorer.ui.inputs.choices import EVERY
from explorer.ui.notices import notice
from explorer.ui.session import engine, session_id, still_open

TRIED = 8  # pictures that the model gets right, attacked in one batch
PATIENCE = 30  # seconds


def withstood_button(models: Sequence[str] | None = None) -> None:
    """Goes to a random picture that the chosen attack does not turn, out of a few that the model (None: the chosen one) gets
    right; of several models one that some withstand, and others do not where there is such a picture."""
    alone = models is None or len(models) < 2
    whom = "the model gets" if alone else "the first of the models gets"
    wanted = "one that stays right" if alone else "one that stays right for some; rather one that does not for all"
    st.button(
        "One this model withstands" if alone else "One that some withstand",
        on_click=_jump,
        args=(models,),
        width="stretch",
        icon=":material/shield:",
        help=f"Attacks {TRIED} pictures that {whom} right, as set below, and takes {wanted}. An attack with random parts draws "
        "anew when it is played: now and then it succeeds then.",
    )


def _jump(models: Sequence[str] | None) -> None:
    state = st.session_state
    names = list(models or [state["model"]])
    end = time.monotonic() + PATIENCE
    tried: list[BatchResult] = []
    for name in names:
        found = _attacked(name, tried[0].rows.tolist() if tried else None, end)
        if found is None:
            return  # the notice says why
        tried.append(found)
    chosen = best_of(tried)
    if chosen is None:
        who = "This model" if len(names) == 1 else "None of these models"
        count = int(tried[0].right.sum())
        what = f"none of {count} such pictures" if len(names) == 1 else f"any of {count} such pictures"
        notice(f"{who} withstood the attack on {what}; try again, or a smaller eps.")
        return
    state["image"] = chosen


def best_of(tried: Sequence[BatchResult]) -> int | None:
    """The row of a picture that a model withstood, out of the same ones for all models: rather one that fooled another."""
    states = list(zip(*(now.states for now in tried), strict=True))  # (picture, model)
    for wanted in ({"holds", "fooled"}, {"holds"}, {"holds", "wrong"}, {"holds", "fooled", "wrong"}):
        for row, found in zip(tried[0].rows, states, strict=True):
            if set(found) == wanted:
                return int(row)
    return None


def _attacked(model: str, rows: Sequence[int] | None, end: float) -> BatchResult | None:
    """The chosen attack on these pictures, or on a few that the model gets right; None, and a notice, if it cannot be had."""
    of = None if st.session_state["class"] == EVERY else st.session_state["class"]
    if rows is None:
        which: dict[str, Any] = {"pick": "right", "count": TRIED, "of": of, "shuffle": secrets.randbelow(2**31)}
    else:
        which = {"pick": "hand", "rows": tuple(rows)}
    try:
        request = ManyRequest(**which, **attack_settings(model)).checked()
        future = engine().submit(session_id(), many_work(engine(), request.within()), alive=still_open())
    except ExplorerError as error:
        notice(str(error))
        return None
    future.wait(max(end - time.monotonic(), 0))
    now = future.latest
    if now is None or not now.finished:
        future.cancel()
        notice(future.error or f"It takes more than {PATIENCE} seconds to try {TRIED} pictures: choose fewer steps.")
        return None
    return now
