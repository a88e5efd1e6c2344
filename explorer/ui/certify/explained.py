"""Beside one picture's certificate: an attack on it, what noise and number of copies do, and what it does not say."""

from __future__ import annotations

from dataclasses import asdict

import streamlit as st

from explorer import __version__
from explorer.certify import Certificate, curves
from explorer.engine.certifying import MOST, CertifyRequest
from explorer.engine.tables import Table
from explorer.models import zoo
from explorer.plots import certify as plots
from explorer.ui.certify import attacked, shadow
from explorer.ui.certify.picture import CERTIFICATE, MADE
from explorer.ui.components.conditions import as_json, as_python, bullets
from explorer.ui.components.figures import chart, dark
from explorer.ui.components.save import save_place
from explorer.ui.inputs.choices import FAVOURITE
from explorer.ui.text import certificate as words
from explorer.ui.text.certified import table

SIGMAS = (0.25, 0.5, 1.0)  # what the chosen sigma is drawn beside
LISTED = 8  # certificates of one picture that are listed


def outcome() -> None:
    """What the certificate is held against, what decides about it, and what it does not say."""
    future, request = CERTIFICATE.future, CERTIFICATE.shown
    if future is None or request is None:
        return
    now = future.latest
    certificate = None if now is None else now.certificate
    attacked.show(request, now if certificate is not None else None)
    shadow.show(request, now if certificate is not None else None)
    _what_sigma_and_n_do(request, certificate)
    left, right = st.columns(2, gap="large")
    with left:
        st.header("What this certificate says", anchor=False)
        if now is None or certificate is None:
            st.caption("That comes when all noisy copies have voted.")
        else:
            bullets(words.facts(now))
            save_place(
                f"certificate-{request.model.partition('/')[2]}-image{request.image}".replace(":", "-"),
                about=f"{words.title(now.request)}. Robustness Explorer {__version__}.",
                table=Table(({"image": request.image, **asdict(certificate)},), dict(now.conditions)),
                figures={"certify.votes": "Votes", "certify.course": "The bound as votes come in", "certify.axis": "Along the attack",
                         "certify.share": "What sigma and n do", "certify.cap": "What n caps"},
                key="certify.save",
            )  # fmt: skip
            with st.expander("All conditions, and the same certificate as Python"):
                as_python(request.to_python(certificate.seed))
                as_json(dict(now.conditions))
            if request.one.is_upload:
                st.caption("The address bar cannot carry your own picture: a link works only for sample pictures.")
    with right:
        st.header("How it works", anchor=False)
        st.markdown(words.METHOD)
        with st.expander("Why an ordinary model certifies little"):
            st.markdown(words.ORDINARY)
            _smooth_an_ordinary_one(request)


def _smooth_an_ordinary_one(request: CertifyRequest) -> None:
    ordinary = next((card for card in zoo.cards() if card.dataset == request.dataset and card.name == FAVOURITE), None)
    if ordinary is None or ordinary.name == request.model:
        return

    def smooth_it() -> None:
        st.session_state["certify.model"] = ordinary.name
        CERTIFICATE.begin()

    st.button(
        f"Smooth “{ordinary.title}” with this noise",
        icon=":material/visibility_off:",
        key="certify.ordinary",
        on_click=smooth_it,
    )


def _what_sigma_and_n_do(request: CertifyRequest, certificate: Certificate | None) -> None:
    st.header("What the noise and the number of copies do", anchor=False)
    c = None if certificate is None or certificate.label is None else certificate
    sigmas = sorted({*SIGMAS, request.params.sigma})
    left, right = st.columns(2, gap="large")
    with left:
        st.markdown("**The radius for a share of votes:** R = σ Φ⁻¹(p)")
        p = curves.shares()
        lines = [plots.Line(f"σ {s:g}", 100 * p, curves.radii(p, s), s == request.sigma) for s in sigmas]
        figure = plots.radius_by_share(
            lines, None if c is None else 100 * c.p_lower, None if c is None else c.radius, dark=dark()
        )
        chart(figure, "certify.share")
        st.caption(
            "For the same share, twice the noise proves twice the radius. But noise hides the picture as well: the share falls. "
            "Below one half nothing is proven."
        )
    with right:
        st.markdown("**The largest radius that n copies can prove:** σ Φ⁻¹(α^(1/n))")
        n = curves.draws(MOST["n"], request.alpha)
        lines = [
            plots.Line(f"σ {s:g}", n, curves.largest_radii(n, s, request.alpha), s == request.sigma) for s in sigmas
        ]
        figure = plots.radius_by_draws(lines, request.n, request.cap, None if c is None else c.radius, dark=dark())
        chart(figure, "certify.cap")
        st.caption(
            f"Even if all {request.n:,} agree, no radius beyond {plots.down(request.cap, 3)} can be certified here: that all "
            "of them agreed does not show that all possible copies would."
        )
    _others_of_this_picture(request)


def _others_of_this_picture(request: CertifyRequest) -> None:
    """The certificates that this session has seen of the same picture, side by side."""
    made = st.session_state.get(MADE, {})
    same = [asked for asked in made if (asked.dataset, asked.image) == (request.dataset, request.image)][-LISTED:]
    if len(same) < 2:
        st.caption(
            "Certify this picture with another noise, n or model: the certificates are then listed here side by side."
        )
        return
    st.markdown("**This picture, so far**")
    rows = [["Model", "σ", "n", "Votes for the class", "Answer", "Radius"]]
    for asked in same:
        c = made[asked]
        answer = "abstains" if c.label is None else asked.classes[c.label]
        votes = f"{words.percent(c.estimation[c.selected] / c.n)} {asked.classes[c.selected]}"
        radius = "–" if c.label is None else c.radius_text()
        title = zoo.card(asked.model).title + (", sound" if asked.sound else "")
        rows.append([title, f"{asked.sigma:g}", f"{asked.n:,}", votes, answer, radius])
    st.html(table(rows))
    st.caption(
        "Each may be wrong with its own alpha: to look at several and keep the best is not covered by any of them."
    )
