"""The Certify page: what is asked for, and one picture's certificate from its first votes to an attack on it."""

from __future__ import annotations

import json
from collections.abc import Callable
from html import escape
from typing import Any

import numpy as np
import streamlit as st

from explorer.certify import CertifyParams, largest_radius
from explorer.certify.bounds import certified_radius, fewest_draws
from explorer.core import BadCheckpoint, ExplorerError
from explorer.data.pictures import amplification
from explorer.engine import Future
from explorer.engine.attacking_smoothed import SmoothedAttack, SmoothedSearch, attack_smoothed_work
from explorer.engine.certifying import DEADLINE, MOST, Certifying, CertifyRequest, certify_work
from explorer.models import zoo
from explorer.plots import certify as plots
from explorer.ui import certify_words as words
from explorer.ui import controls, stage
from explorer.ui.certify_tables import table
from explorer.ui.forms import form_for, preset_row, remember
from explorer.ui.pictures import to_url
from explorer.ui.session import engine, look_again, session_id, still_open

ONE, SET = "one picture", "a test set"
VIEWS = {ONE: ":material/image: One picture", SET: ":material/ssid_chart: A test set"}
POLL = 0.5  # seconds between two looks at running work
PATIENCE = 0.5  # seconds a drawing may wait for the first votes
STRIDE = 1.2  # how much more draws make a running certificate's figures worth drawing anew
COPIES = 8  # noisy copies that are shown
SIGMAS = (0.25, 0.5, 1.0)  # what the chosen sigma is drawn beside
FAVOURITES = ("smoothed-0.25", "gaussian-0.25")  # made to be smoothed
MADE = 8  # certificates of one picture that are listed
PLAIN = {"displayModeBar": False}
GREY = 0.5  # "unchanged" in the picture of a change


# What is asked for


def open_page() -> None:
    """A first visit: what the link asks for, else a default, and it runs at once. Later visits find what was there."""
    state = st.session_state
    back = stage.gone_back()
    if "certify.shown" in state and not back:
        return
    query = st.query_params.to_dict()
    if back and query.get("view") == "set":
        state["certify.view"] = SET
        return
    request = None
    if query.get("view") != "set" and {"data", "model"} & query.keys():
        try:
            request = CertifyRequest.from_query(query)
            if request.one.is_upload:
                engine().upload(request.image)  # raises if that picture is not here
        except ExplorerError as error:
            state["notice"], request = controls.not_followed(error), None
    if request is None:
        request = _default()
    if back and is_shown(request):
        return
    show(request)
    if query.get("view") == "set":
        state["certify.view"], state["certify.shown"] = SET, None  # one picture's is made when it is looked at
    else:
        state["certify.view"] = ONE
        start(request)


def _default() -> CertifyRequest:
    """The picture of the other pages, else a picture that is certified; a model that was made to be smoothed."""
    state = st.session_state
    if "image" not in state:
        controls.show(controls.default_request())  # so that the other pages find theirs
    dataset = state["dataset"]
    try:
        return CertifyRequest(dataset, **controls.chosen_picture(), model=favourite(dataset))
    except ExplorerError:  # a picture that is not here any more
        state["image"] = 0
        return CertifyRequest(dataset, 0, favourite(dataset))


def favourite(dataset: str) -> str:
    """A model of this dataset that was made to be smoothed, else any."""
    cards = [card for card in zoo.cards() if card.dataset == dataset]
    if not cards:
        raise BadCheckpoint(
            "There is no model to certify: the folder checkpoints/ holds no readable card. Get it again."
        )
    first = {f"{dataset}/{name}": i for i, name in enumerate(FAVOURITES)}
    return min(cards, key=lambda card: (first.get(card.name, len(first)), card.sigma is None, card.sigma or 0)).name


def show(request: CertifyRequest) -> None:
    """Make all controls show this request. Call it before they are drawn."""
    state = st.session_state
    if "image" not in state:
        controls.show(controls.default_request())
    state["dataset"], state["image"] = request.dataset, request.image
    for name in ("model", "sigma", "n0", "n", "alpha", "sound"):
        state[f"certify.{name}"] = getattr(request, name)


def model_and_noise(columns: Any) -> None:
    """The first two controls of both views: which model, and how much noise; any model can be smoothed."""
    state = st.session_state
    titles = controls.model_titles()
    if state.get("certify.model") not in titles:
        state["certify.model"] = favourite(state["dataset"])
        _take_sigma()
    st.session_state.setdefault("certify.model", next(iter(titles)))
    columns[0].selectbox(
        "Smooth this model", list(titles), key="certify.model", persist_state="session", format_func=titles.get, on_change=_take_sigma,
        help="Any model can be smoothed. Those that were trained under noise have something to certify.",
    )  # fmt: skip
    st.session_state.setdefault("certify.sigma", CertifyParams.sigma)
    help_ = {p.name: p.help for p in CertifyParams.params()}
    columns[1].number_input(
        "with noise sigma", 0.0, 10.0, step=0.05, format="%.4g", key="certify.sigma", persist_state="session", help=help_["sigma"],
    )  # fmt: skip


def _take_sigma() -> None:
    """The sigma that the chosen model was made for; that of before for one that was made for none."""
    card = zoo.card(st.session_state["certify.model"])
    if card.sigma is not None:
        st.session_state["certify.sigma"] = card.sigma


def view_box() -> str:
    """One picture or a test set."""
    st.session_state.setdefault("certify.view", ONE)
    return st.segmented_control(
        "What to certify",
        list(VIEWS),
        key="certify.view",
        persist_state="session",
        format_func=VIEWS.get,
        label_visibility="collapsed",
        required=True,
        width="stretch",
    )


def headline() -> None:
    """Model, noise and draws in one row, and the button that starts or stops."""
    columns = st.columns([3, 1.6, 1.9, 1.5], vertical_alignment="bottom")
    model_and_noise(columns)
    draws_box(columns[2], "certify.n", CertifyParams.n)
    if running():
        columns[3].button(
            "Cancel", icon=":material/stop_circle:", on_click=cancel, width="stretch", key="certify.cancel"
        )
    else:
        columns[3].button(
            "Certify",
            type="primary",
            icon=":material/verified_user:",
            on_click=begin,
            width="stretch",
            key="certify.begin",
        )


def draws_box(place: Any, key: str, default: int) -> None:
    """n: how many noisy copies vote."""
    st.session_state.setdefault(key, default)
    place.number_input(
        "and noisy copies (n)", 1, MOST["n"], step=1000, key=key, persist_state="session",
        help=f"More copies measure the share of votes better, and certify a larger radius. At most {MOST['n']:,}.",
    )  # fmt: skip


def panel() -> None:
    """What else decides about a certificate."""
    st.subheader("Certificate", anchor=False)
    about = {p.name: p for p in CertifyParams.params()}
    st.session_state.setdefault("certify.n0", about["n0"].default)
    st.session_state.setdefault("certify.alpha", about["alpha"].default)
    st.session_state.setdefault("certify.sound", False)
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


def current_request() -> CertifyRequest:
    """What the controls say, checked; raises ExplorerError with one sentence."""
    state = st.session_state
    own = {name: state[f"certify.{name}"] for name in ("model", "sigma", "n0", "n", "alpha", "sound")}
    return CertifyRequest(state["dataset"], **controls.chosen_picture(), **own)


# The run


def line() -> str:
    """This session's place in the engine's queue for certificates: they take turns with its attacks, not one after all."""
    return f"{session_id()} certify"


def submitted(work: Callable[[], Callable]) -> Future | None:
    """Work queued; what cannot be started becomes a notice."""
    try:
        return engine().submit(line(), work(), alive=still_open(), deadline=DEADLINE)
    except ExplorerError as error:
        st.session_state["notice"] = str(error)
        return None


def begin() -> None:
    """Certify what the controls say; a request that cannot be made becomes a notice."""
    try:
        start(current_request())
    except ExplorerError as error:
        st.session_state["notice"] = str(error)


def start(request: CertifyRequest) -> None:
    state = st.session_state
    for key in ("certify.future", "certify.attack"):
        if state.get(key) is not None:
            state[key].cancel()
    state["certify.shown"], state["certify.attack"] = request, None
    state["certify.future"] = submitted(lambda: certify_work(engine(), request))


def running() -> bool:
    future = st.session_state.get("certify.future")
    return future is not None and not future.finished


def cancel() -> None:
    st.session_state["certify.future"].cancel()


def notices(current: Callable[[], Any], is_shown: Callable[[Any], bool]) -> None:
    """Above what is shown: that it is no longer what the controls say, and what could not be done."""
    wrong = ""
    try:
        if not is_shown(current()):
            st.info("The settings have changed: press **Certify** to try them.", icon=":material/arrow_upward:")
    except ExplorerError as error:
        wrong = str(error)
        st.error(wrong, icon=":material/error:")
    stage.say_notice(wrong)


def is_shown(request: CertifyRequest) -> bool:
    return st.session_state.get("certify.shown") == request


def watch() -> None:
    """One picture's certificate; looks at a running one again and again, and stands still when it has ended."""
    future: Future[Certifying] | None = st.session_state.get("certify.future")
    if future is None:
        return
    request: CertifyRequest = st.session_state["certify.shown"]
    stage.set_link({} if request.one.is_upload else request.to_query())
    polling = not future.finished
    look_again(_stage, future, polling, every=POLL if polling else None, key="certify.stage")


def _await_votes(future: Future[Certifying]) -> None:
    """Wait a moment for the first votes that count, so that the first drawing can tell a radius."""
    future.wait_for(
        lambda now: now.certificate is not None or bool(now.progress is not None and now.progress.n_drawn), PATIENCE
    )


def _stage(future: Future[Certifying], polling: bool) -> None:
    _await_votes(future)
    now = future.latest
    if now is not None:
        st.caption(words.title(now.request))
        _verdict(now)
        st.progress(*words.progress(now))
        _pictures(now)
        _figures(_worth_drawing(now))
        if now.certificate is not None:
            st.session_state.setdefault("certify.made", {})[now.request] = now.certificate
    stage.say_how_it_stands(future, polling)
    if future.state == "cancelled":
        st.caption(
            "A certificate that was stopped certifies nothing. Asked for again, it begins with the very same draws."
        )


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


_STRIP = """<div style="display:grid;gap:.55rem;grid-template-columns:repeat(auto-fill,minmax(max(3.8rem,
(100% - ({count} - 1) * .55rem) / {count} - 1px),1fr))" role="list" aria-label="The picture and noisy copies of it">{cells}</div>"""
_CELL = """<figure style="margin:0;text-align:center" role="listitem"><img src="{url}" alt="{alt}"
style="width:100%;image-rendering:pixelated;border-radius:6px;{frame}"><figcaption style="font-size:.8rem;line-height:1.25;
margin-top:.2rem;overflow-wrap:anywhere">{text}</figcaption></figure>"""


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
        cells.append(_cell(pixels, f"{what}, seen as {name}", f"{'✓' if right else '✗'} {name}{more}", right))
    st.html(_STRIP.format(count=len(cells), cells="".join(cells)))
    st.caption(
        f"The picture, {COPIES} noisy copies of it (sigma {now.request.sigma:g}) and what the network sees in each: ✓ "
        f"{'its true class' if truth is not None else 'the same as without noise'}, ✗ another. Shown cut to [0, 1]; the network "
        "gets them uncut" + (", rounded to the grid of 8-bit pixels." if now.request.sound else ".")
    )


def _cell(pixels: np.ndarray, alt: str, text: str, right: bool) -> str:
    frame = "" if right else "outline:2px solid #d56a0c;"
    return _CELL.format(url=to_url(pixels), alt=alt, text=text, frame=frame)


def _worth_drawing(now: Certifying) -> Certifying:
    """What the figures show: the newest in the end; on the way they follow in steps, for each change makes them blink."""
    last: Certifying | None = st.session_state.get("certify.figured")
    if (
        last is None
        or last.request != now.request
        or now.certificate is not None
        or not _done(last) <= _done(now) < STRIDE * _done(last)
    ):
        st.session_state["certify.figured"] = last = now
    return last


def _done(now: Certifying) -> int:
    return 0 if now.progress is None else now.progress.done


def _figures(now: Certifying) -> None:
    request, c, t = now.request, now.certificate, now.progress
    left, right = st.columns(2, gap="large")
    with left:
        st.markdown("**The votes**")
        none = np.zeros(len(request.classes), int)
        source = c if c is not None else t
        figure = plots.votes(
            none if source is None else np.array(source.selection),
            none if source is None else np.array(source.estimation),
            request.classes,
            None if source is None else source.selected,
            None if source is None else source.p_lower,
            "lower bound" if c is not None else "bound so far",
            dark=dark(),
        )
        st.plotly_chart(figure, key="certify.votes", theme=None, config=PLAIN)
        st.caption("Bars: the votes that count. Diamonds: the separate draws that chose which class to measure.")
    with right:
        st.markdown("**The radius firms up**")
        steps = _steps(request.n, request.alpha)
        cap = np.array([largest_radius(request.sigma, int(k), request.alpha) for k in steps])
        empty = np.zeros(0)
        figure = plots.course(
            now.course.get("n_drawn", empty),
            now.course.get("radius", empty),
            steps,
            cap,
            request.n,
            c.radius if c is not None and c.label is not None else None,
            "no radius: it abstains" if c is not None and c.label is None else "",
            dark=dark(),
        )
        st.plotly_chart(figure, key="certify.course", theme=None, config=PLAIN)
        st.caption(
            "While it runs, a bound that holds at every look; the star is the certificate, from all draws and one look."
        )


def _steps(n: int, alpha: float) -> np.ndarray:
    """(S,) numbers of draws, evenly on a logarithmic axis, from the fewest that can certify anything to n."""
    return np.unique(np.geomspace(fewest_draws(alpha), max(n, fewest_draws(alpha)), 60).round().astype(int))


def dark() -> bool:
    return st.context.theme.type == "dark"


# Beside the certificate


def outcome() -> None:
    """What the certificate is held against, what decides about it, and what it does not say."""
    future: Future[Certifying] | None = st.session_state.get("certify.future")
    request: CertifyRequest | None = st.session_state.get("certify.shown")
    if future is None or request is None:
        return
    now = future.latest
    done = now is not None and now.certificate is not None
    _attack_section(request, now if done else None)
    _what_sigma_and_n_do(request, now if done else None)
    left, right = st.columns(2, gap="large")
    with left:
        st.subheader("What this certificate says", anchor=False)
        if done:
            st.markdown("\n".join(f"- {sentence}" for sentence in words.facts(now)))
            with st.expander("All conditions, and the same certificate as Python"):
                st.code(request.to_python(now.certificate.seed), language="python")
                st.code(json.dumps(dict(now.conditions), indent=1, ensure_ascii=False), language="json")
            if request.one.is_upload:
                st.caption("The address bar cannot carry your own picture: a link works only for sample pictures.")
        else:
            st.caption("That comes when all noisy copies have voted.")
    with right:
        st.subheader("How it works", anchor=False)
        st.markdown(words.METHOD)
        with st.expander("Why an ordinary model certifies little"):
            st.markdown(words.ORDINARY)
            _smooth_an_ordinary_one(request)


def _smooth_an_ordinary_one(request: CertifyRequest) -> None:
    ordinary = next(
        (card for card in zoo.cards() if card.dataset == request.dataset and card.name == controls.FAVOURITE), None
    )
    if ordinary is None or ordinary.name == request.model:
        return

    def smooth_it() -> None:
        st.session_state["certify.model"] = ordinary.name
        begin()

    st.button(
        f"Smooth “{ordinary.title}” with this noise",
        icon=":material/visibility_off:",
        key="certify.ordinary",
        on_click=smooth_it,
    )


def _what_sigma_and_n_do(request: CertifyRequest, now: Certifying | None) -> None:
    st.subheader("What the noise and the number of copies do", anchor=False)
    c = None if now is None or now.certificate.label is None else now.certificate
    sigmas = sorted({*SIGMAS, request.sigma})
    left, right = st.columns(2, gap="large")
    with left:
        st.markdown("**The radius for a share of votes:** R = σ Φ⁻¹(p)")
        top = 1 - 10.0 ** np.linspace(-0.31, -4, 120)  # dense where it is steep
        lines = [
            plots.Line(
                f"σ {s:g}", 100 * top, np.array([certified_radius(float(p), s) or 0.0 for p in top]), s == request.sigma
            )
            for s in sigmas
        ]
        figure = plots.radius_by_share(
            lines, None if c is None else 100 * c.p_lower, None if c is None else c.radius, dark=dark()
        )
        st.plotly_chart(figure, key="certify.share", theme=None, config=PLAIN)
        st.caption(
            "For the same share, twice the noise proves twice the radius. But noise hides the picture as well: the share falls. "
            "Below one half nothing is proven."
        )
    with right:
        st.markdown("**The largest radius that n copies can prove:** σ Φ⁻¹(α^(1/n))")
        steps = _steps(MOST["n"], request.alpha)
        lines = [
            plots.Line(
                f"σ {s:g}",
                steps,
                np.array([largest_radius(s, int(k), request.alpha) for k in steps]),
                s == request.sigma,
            )
            for s in sigmas
        ]
        figure = plots.radius_by_draws(lines, request.n, request.cap, None if c is None else c.radius, dark=dark())
        st.plotly_chart(figure, key="certify.cap", theme=None, config=PLAIN)
        st.caption(
            f"Even if all {request.n:,} agree, no radius beyond {plots.down(request.cap, 3)} can be certified here: that all "
            "of them agreed does not show that all possible copies would."
        )
    _others_of_this_picture(request)


def _others_of_this_picture(request: CertifyRequest) -> None:
    """The certificates that this session has seen of the same picture, side by side."""
    made = st.session_state.get("certify.made", {})
    same = [asked for asked in made if (asked.dataset, asked.image) == (request.dataset, request.image)][-MADE:]
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


# Proof and attack


def _attack_section(request: CertifyRequest, now: Certifying | None) -> None:
    st.subheader("Proof and attack on one axis", anchor=False)
    future: Future[SmoothedSearch] | None = st.session_state.get("certify.attack")
    polling = future is not None and not future.finished
    look_again(_attack, request, now, polling, every=POLL if polling else None, key="certify.attacked")


def _attack(request: CertifyRequest, now: Certifying | None, polling: bool) -> None:
    state = st.session_state
    future: Future[SmoothedSearch] | None = state.get("certify.attack")
    text, press = st.columns([4, 1.6], vertical_alignment="center")
    text.markdown(
        "The certificate says what **no** attack can do. An attack shows what **one** attack could: here those that are made "
        "against a smoothed model and follow the mean over many noisy copies, at distance after distance."
    )
    with text:
        remember(SmoothedAttack, "certify.by")
        preset_row(SmoothedAttack, "certify.by")
        st.caption(words.effort())
    if future is not None and not future.finished:
        if press.button(
            "Cancel the attack", icon=":material/stop_circle:", key="certify.attack.cancel", width="stretch"
        ):
            future.cancel()
            future.wait(2)
            st.rerun()
    elif press.button(
        "Attack the smoothed model",
        icon=":material/bolt:",
        key="certify.attack.run",
        width="stretch",
        disabled=now is None,
    ):
        _begin_attack(request, now)
        st.rerun()
    search = None if future is None else future.latest
    certificate = None if now is None else now.certificate
    proven = certificate.radius if certificate is not None and certificate.label is not None else None
    if search is not None and search.alarm is not None:
        st.error(words.alarmed(search, request.classes), icon=":material/crisis_alert:")
    elif search is not None:
        found, sentence = words.searched(search, request.classes)
        (st.warning if found else st.info)(sentence, icon=":material/bolt:" if found else ":material/shield:")
    elif future is None:
        st.caption("Not attacked yet." if now is not None else "The attack can start when the certificate is there.")
    if search is not None and polling:
        st.progress(*words.trying(search))
    if proven is not None or search is not None:
        _axis(proven, search)
    if search is not None and search.found is not None:
        _found(search, now)
    if future is not None:
        stage.say_how_it_stands(future, polling)
    if search is not None and search.conditions:
        st.markdown("\n".join(f"- {sentence}" for sentence in words.search_notes(search)))
    with st.expander("How it is attacked, and all conditions"):
        form_for(SmoothedAttack, "certify.by", presets=False)
        if search is not None and search.conditions:
            st.code(json.dumps(dict(search.conditions), indent=1, ensure_ascii=False), language="json")


def _begin_attack(request: CertifyRequest, now: Certifying) -> None:
    state = st.session_state
    chosen = {p.name: state.get(f"certify.by.{p.name}", p.default) for p in SmoothedAttack.params()}
    try:
        settings = SmoothedAttack(**chosen)
    except ExplorerError as error:
        state["notice"] = str(error)
        return
    state["certify.attack"] = submitted(lambda: attack_smoothed_work(engine(), request, settings, now.certificate))


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
    st.plotly_chart(figure, key="certify.axis", theme=None, config=PLAIN)


def _found(search: SmoothedSearch, now: Certifying) -> None:
    """The picture, the change and the nearest attacked picture."""
    classes = search.request.classes
    change = search.found - now.picture
    factor = amplification(float(np.abs(change).max())) or 1.0
    pictures = (
        (now.picture, "the picture", f"smoothed model: <b>{escape(classes[search.clean.label])}</b>"),
        (GREY + factor * change, "the change, amplified", f"the change, × {factor:g}"),
        (search.found, "the attacked picture", f"smoothed model: <b>{escape(classes[search.found_class])}</b>"),
    )
    cells = "".join(_cell(pixels, alt, text, True) for pixels, alt, text in pictures)
    st.html(f'<div style="max-width:520px">{_STRIP.format(count=len(pictures), cells=cells)}</div>')
