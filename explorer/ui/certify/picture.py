"""One picture's certificate, from its first votes on: the radius, noisy copies and what is seen in them, and the votes."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

import numpy as np
import streamlit as st

from explorer.certify import curves
from explorer.engine import Future
from explorer.engine.certifying import DEADLINE, LINK, Certifying, CertifyRequest, certify_work
from explorer.plots import certify as plots
from explorer.ui.certify import choice
from explorer.ui.certify.attacked import ATTACKED
from explorer.ui.certify.copies import copy_cell, copy_row
from explorer.ui.certify.shadow import SHADOW
from explorer.ui.components.figures import chart, dark
from explorer.ui.frame import row
from explorer.ui.inputs.choices import FIRST_PICTURES
from explorer.ui.inputs.picture import chosen_picture
from explorer.ui.page_run import PageRun, Work
from explorer.ui.session import engine
from explorer.ui.text import certificate as words

STRIDE = 1.2  # how much more draws make a running certificate's figures worth drawing anew
COPIES = 8  # noisy copies that are shown
FIELDS = ("model", "sigma", "n0", "n", "alpha", "precision", "sound")  # a link alone says in which precision
MADE, FIGURED = "certify.made", "certify.figured"  # in st.session_state: certificates by request; the figures of a look


class CertificateRun(PageRun[CertifyRequest, Certifying]):
    """The certificate of one picture."""

    prefix = button_keys = "certify."
    verb, icon = "Certify", ":material/verified_user:"
    patience = 0.5
    replays = False  # a finished certificate is kept by the certificates' own store, which says so
    names = frozenset({*LINK, "view"})
    about = (
        "The smoothed model is asked about thousands of noisy copies of the picture. How large the majority is proves how far the "
        "picture can be changed, by whatever attack, without changing the answer."
    )

    def prepare(self) -> None:
        choice.prepare()

    def is_link(self, query: Mapping[str, str]) -> bool:
        return query.get("view") != "set" and bool(query)

    def filled(self, query: Mapping[str, str]) -> Mapping[str, str]:
        known = choice.filled(query)
        return {"image": str(FIRST_PICTURES.get(known["data"], 0))} | known

    def of_link(self, query: Mapping[str, str]) -> CertifyRequest:
        request = CertifyRequest.from_query(query)
        if isinstance(request.image, str):
            engine().upload(request.image)  # raises if that picture is not here
        return request

    def current(self) -> CertifyRequest:
        return CertifyRequest(st.session_state["dataset"], **chosen_picture(), **choice.chosen(*FIELDS))

    def show(self, request: CertifyRequest) -> None:
        choice.show(request, FIELDS)
        st.session_state["image"] = request.image

    def work(self, request: CertifyRequest) -> Work[Certifying]:
        return certify_work(engine(), request)

    def link(self, request: CertifyRequest) -> dict[str, str]:
        return {} if request.one.is_upload else request.to_query()  # no link can carry an upload

    def forget_old(self, request: CertifyRequest) -> None:
        ATTACKED.forget()
        SHADOW.forget()

    def worth_drawing(self, item: Certifying) -> bool:
        """So that the first drawing can tell a radius."""
        return item.certificate is not None or bool(item.progress is not None and item.progress.n_drawn)

    def draw(self, item: Certifying, request: CertifyRequest, finished: bool) -> None:
        st.caption(words.title(item.request))
        _verdict(item)
        st.progress(*words.progress(item))
        _pictures(item)
        _figures(item)
        if item.certificate is not None:
            st.session_state.setdefault(MADE, {})[item.request] = item.certificate

    def _stage(self, future: Future[Certifying], request: CertifyRequest, polling: bool) -> None:
        super()._stage(future, request, polling)
        if future.state == "cancelled":
            st.caption(
                "A certificate that was stopped certifies nothing. Asked for again, it begins with the very same draws."
            )


CERTIFICATE = CertificateRun(choice.QUEUE, DEADLINE)


def headline() -> None:
    """Model, noise and draws in one row, and the button that starts or stops."""
    columns = row([3, 1.6, 1.9, 1.5])
    choice.model_and_noise(columns)
    choice.draws_box(columns[2], "certify.n")
    CERTIFICATE.button(columns[3])


def _verdict(now: Certifying) -> None:
    if now.certificate is None:
        text = "**Beginning.**" if now.progress is None else words.so_far(now.progress, now.request.classes)
        st.info(text, icon=":material/hourglass:")
        return
    kind, text = words.verdict(now.certificate, now.request.classes, now.request.label)
    if kind == words.RIGHT:
        st.success(text, icon=":material/verified_user:")
    elif kind == words.WRONG:
        st.error(text, icon=":material/gpp_bad:")
    else:
        st.warning(text, icon=":material/help:")


def _pictures(now: Certifying) -> None:
    """The picture and some of its noisy copies, each with what the network sees in it."""
    classes, truth = now.request.classes, now.request.label
    own = now.clean if truth is None else truth
    looks = [(now.picture, now.clean, "the picture", "<br>no noise")]
    looks += [
        (pixels, said, "noisy copy", "") for pixels, said in zip(now.copies[:COPIES], now.copy_classes, strict=False)
    ]
    cells = []
    for pixels, said, what, more in looks:
        right, name = said == own, escape(classes[said])
        cells.append(copy_cell(pixels, f"{what}, seen as {name}", f"{'✓' if right else '✗'} {name}{more}", right))
    st.html(copy_row(cells))
    st.caption(
        f"The picture, {COPIES} noisy copies of it (sigma {now.request.sigma:g}) and what the network sees in each: ✓ "
        f"{'its true class' if truth is not None else 'the same as without noise'}, ✗ another. Shown cut to [0, 1]; the network "
        "gets them uncut" + (", rounded to the grid of 8-bit pixels." if now.request.sound else ".")
    )


def _moved(last: Certifying, now: Certifying) -> bool:
    """Whether figures of `last` are to be drawn anew: in the end; on the way in steps, for each change makes them blink."""
    return (
        last.request != now.request
        or now.certificate is not None
        or not _done(last) <= _done(now) < STRIDE * _done(last)
    )


def _done(now: Certifying) -> int:
    return 0 if now.progress is None else now.progress.done


def _newest_figures(now: Certifying) -> tuple[Any, Any]:
    """Votes and course: those of a look before, or drawn anew."""
    kept = st.session_state.get(FIGURED)  # the answer, the page's inks, its figures
    if kept is None or kept[1] != dark() or _moved(kept[0], now):
        st.session_state[FIGURED] = kept = now, dark(), (_votes(now), _course(now))
    figures: tuple[Any, Any] = kept[2]
    return figures


def _figures(now: Certifying) -> None:
    votes, course = _newest_figures(now)
    left, right = st.columns(2, gap="large")
    with left:
        st.markdown("**The votes**")
        chart(votes, "certify.votes")
        st.caption("Bars: the votes that count. Diamonds: the separate draws that chose which class to measure.")
    with right:
        st.markdown("**The radius firms up**")
        chart(course, "certify.course")
        st.caption(
            "While it runs, a bound that holds at every look; the star is the certificate, from all draws and one look."
        )


def _votes(now: Certifying) -> Any:
    classes, c = now.request.classes, now.certificate
    source, none = c if c is not None else now.progress, np.zeros(len(now.request.classes), int)
    return plots.votes(
        none if source is None else np.array(source.selection),
        none if source is None else np.array(source.estimation),
        classes,
        None if source is None else source.selected,
        None if source is None else source.p_lower,
        "lower bound" if c is not None else "bound so far",
        dark=dark(),
    )


def _course(now: Certifying) -> Any:
    request, c = now.request, now.certificate
    steps, empty = curves.draws(request.n, request.alpha), np.zeros(0)
    return plots.course(
        now.course.get("n_drawn", empty),
        now.course.get("radius", empty),
        steps,
        curves.largest_radii(steps, request.params.sigma, request.alpha),
        request.n,
        c.radius if c is not None and c.label is not None else None,
        "no radius: it abstains" if c is not None and c.label is None else "",
        dark=dark(),
    )
