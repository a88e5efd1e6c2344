"""What people see, on the page: name the attacked pictures one by one, alone or as a class; then the curve beside the networks'."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import streamlit as st

from explorer.classroom.people import EACH, LEVELS, Level, PeopleRequest, Strip, curve, people_work
from explorer.models import zoo
from explorer.plots.robustness import Curve, accuracy_over_eps
from explorer.ui import room
from explorer.ui.components.figures import chart, dark
from explorer.ui.components.pictures import large
from explorer.ui.notices import noticed
from explorer.ui.page_run import Task, say_how_it_stands
from explorer.ui.session import engine

STRIP: Task[Strip] = Task("people.future")
ASKED, GIVEN, SHOWN = "people.asked", "people.given", "people.shown"  # in st.session_state
NETWORKS = ("cifar10/pgd-linf-scratch", "cifar10/baseline-dropout")  # of the small width: seconds on two cores
PEOPLE = "people"


def show(go: Callable[..., None]) -> None:
    """The strip: pictures to name, then the curve."""
    st.header("What people see", anchor=False)
    st.button("All lessons", icon=":material/arrow_back:", on_click=go, args=(None,))
    st.markdown(
        f"{EACH * len(LEVELS)} pictures that PGD has attacked on a robust network, at rising eps. Name each. Does a network see what "
        "you see, and from which eps on do neither of you?"
    )
    place = room.mine()
    if STRIP.future is None and place is not None and place.room.asks(_ballot(0)):
        begin()
    if STRIP.future is None:
        st.button("Make the pictures", type="primary", icon=":material/visibility:", on_click=begin)
        return
    strip = STRIP.latest
    if not STRIP.running and strip is not None and strip.finished:
        _answers(strip, place)
        return
    STRIP.look(_wait, every=0.7, name="people")


def begin() -> None:
    """From a button: make them; whoever asks for the same pictures shares the run."""
    request = PeopleRequest(NETWORKS).checked()
    st.session_state[ASKED], st.session_state[GIVEN], st.session_state[SHOWN] = request, {}, False
    same = ("people", request, tuple(zoo.card(name).identity for name in request.models))
    with noticed():
        STRIP.submit(people_work(engine(), request), same)


def _wait(polling: bool) -> None:
    assert STRIP.future is not None
    done = 0 if STRIP.latest is None else len(STRIP.latest.labels)
    st.progress(done / (EACH * len(LEVELS)), f"{done} of {EACH * len(LEVELS)} pictures")
    say_how_it_stands(STRIP.future, polling)


def _ballot(at: int) -> str:
    return f"{PEOPLE}/{at + 1}"


def _answers(strip: Strip, place: room.Place | None) -> None:
    classes, n = strip.request.classes, len(strip.labels)
    leads = place is not None and place.leads
    if leads and place is not None:
        with noticed():
            for at in range(n):
                place.room.ask(place.key, _ballot(at), classes)
        st.button("Reveal the curve", type="primary", icon=":material/visibility:", on_click=_reveal, args=(place, n))
    given: dict[int, int] = st.session_state[GIVEN]
    with_class = place is not None and place.room.asks(_ballot(0))
    revealed = with_class and place is not None and place.room.is_revealed(_ballot(n - 1))
    left = [at for at in range(n) if at not in given]
    if revealed or (not with_class and (not left or st.session_state[SHOWN])):
        _figure(strip, place if with_class else None)
        return
    if leads:
        return
    if not left:
        st.info("All named. The lecturer reveals the curve.", icon=":material/lock:")
        return
    at = left[0]
    picture, asks = st.columns([1, 1.6], gap="large")
    large(picture, strip.images[at], f"Picture {at + 1} of {n}")
    with asks:
        st.subheader("What is it?", anchor=False)
        with st.container(horizontal=True):
            for number, name in enumerate(classes):
                st.button(name, key=f"people.name.{number}", on_click=partial(_name, at, number, place))
        if given and not with_class:
            st.button("Show the curve now", type="tertiary", on_click=_stop)


def _name(at: int, number: int, place: room.Place | None) -> None:
    st.session_state[GIVEN] = {**st.session_state[GIVEN], at: number}
    if place is not None and place.room.asks(_ballot(at)):
        with noticed():
            place.room.vote(place.token, _ballot(at), number, 100)


def _stop() -> None:
    st.session_state[SHOWN] = True


def _reveal(place: room.Place, n: int) -> None:
    with noticed():
        for at in range(n):
            place.room.reveal(place.key, _ballot(at))


def _figure(strip: Strip, place: room.Place | None) -> None:
    """The people's curve beside the networks', over the same pictures."""
    n = len(strip.labels)
    if place is None:
        given: dict[int, int] = st.session_state[GIVEN]
        answers = [[given[at]] if at in given else [] for at in range(n)]
        who = "you"
    else:
        counts = [place.room.tally(_ballot(at)).counts for at in range(n)]
        answers = [[number for number, count in enumerate(one) for _ in range(count)] for one in counts]
        who = "the class"
    people = curve(strip.eps.tolist(), strip.labels.tolist(), answers)
    titles = [zoo.card(name).title for name in strip.request.models]
    networks = [curve(strip.eps.tolist(), strip.labels.tolist(), [[int(one)] for one in seen]) for seen in strip.seen]
    named = [(who, people), *zip(titles, networks, strict=True)]
    curves = [_curve(name, levels) for name, levels in named if levels]
    figure = accuracy_over_eps(curves, [name for name, _ in named], ["PGD"], "linf", LEVELS[-1], dark=dark())
    chart(figure, key="people.figure")
    st.caption(
        f"PGD, 20 steps, L∞, {EACH} pictures at each eps (seed {strip.request.seed}); each network on pictures attacked on itself, people "
        f"on those of {titles[0]}. Bands: 95 % (Wilson), over {sum(level.n for level in people)} answers of people; answers to one picture "
        "are not quite independent. So few pictures say little of a network: its measured accuracy stands on the Models page."
    )


def _curve(name: str, levels: list[Level]) -> Curve:
    low, high = np.array([level.interval for level in levels]).T
    eps, accuracy = np.array([[level.eps, level.right / level.n] for level in levels]).T
    return Curve(name, "PGD", eps, accuracy, low, high, n=levels[0].n)
