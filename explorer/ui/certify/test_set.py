"""Certified accuracy of a test set: the share of pictures that a smoothed model gets right, and provably so, by radius."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import streamlit as st

from explorer import __version__
from explorer.core import threads
from explorer.engine import Future
from explorer.engine.certifying import DEADLINE, MOST
from explorer.engine.certifying_set import LINK, CertifiedSet, CertifySetRequest, certify_set_work
from explorer.engine.tables import of_certified
from explorer.jobs import Spec
from explorer.models import zoo
from explorer.models.zoo import Card
from explorer.plots import certify as plots
from explorer.ui import permission
from explorer.ui.certify import choice
from explorer.ui.components.conditions import as_json, bullets
from explorer.ui.components.figures import chart, dark
from explorer.ui.components.save import save_place
from explorer.ui.frame import row
from explorer.ui.inputs.choices import draw_others
from explorer.ui.inputs.picture import dataset_box
from explorer.ui.notices import notice, noticed, told
from explorer.ui.page_run import PageRun, Stored, Work, say_how_it_stands, set_link
from explorer.ui.session import engine, store
from explorer.ui.text import certified as tables
from explorer.ui.text.training import duration

NUMBERS = {"certified_radius_l2_pixel_units": st.column_config.NumberColumn(format="%.3f"),
           "lower_bound_on_share": st.column_config.NumberColumn(format="%.4f")}  # fmt: skip
KEPT = 6  # sets that are shown together
FIELDS = ("model", "sigma", "n0", "alpha", "sound", "count", "shuffle")
Made = Sequence[tuple[CertifySetRequest, Future[CertifiedSet]]]


class SetRun(PageRun[CertifySetRequest, CertifiedSet]):
    """Certificates of many pictures, beside the sets that were made before. Nothing is certified unasked."""

    prefix = button_keys = "certify.set."
    verb, icon = "Certify", ":material/verified_user:"
    poll = 1.0
    unasked = False
    names = frozenset({*LINK, "view"})
    about = (
        "**Certified accuracy**: the share of pictures that the smoothed model gets right, and provably so for every change up to "
        "the radius."
    )

    made: Stored[Made] = Stored(())  # what is on show, the newest last

    def prepare(self) -> None:
        choice.prepare()

    def is_link(self, query: Mapping[str, str]) -> bool:
        return query.get("view") == "set" and len(query) > 1

    def filled(self, query: Mapping[str, str]) -> Mapping[str, str]:
        return choice.filled(query)

    def of_link(self, query: Mapping[str, str]) -> CertifySetRequest:
        return CertifySetRequest.from_query(query)

    def current(self) -> CertifySetRequest:
        return self.of_model(st.session_state["certify.model"])

    def of_model(self, model: str) -> CertifySetRequest:
        """What the controls say, of this model."""
        own = choice.chosen(*FIELDS) | {"model": model}
        return CertifySetRequest(st.session_state["dataset"], n=st.session_state["certify.each"], **own)

    def show(self, request: CertifySetRequest) -> None:
        choice.show(request, FIELDS)
        st.session_state["certify.each"] = request.n

    def work(self, request: CertifySetRequest) -> Work[CertifiedSet]:
        return certify_set_work(engine(), request)

    def link(self, request: CertifySetRequest) -> dict[str, str]:
        return request.to_query()

    def start(self, request: CertifySetRequest) -> None:
        """Beside the sets that are there; the same one again, or one too many, takes a place of another."""
        super().start(request)
        if self.future is not None:
            others = [(asked, future) for asked, future in self.made if asked != request]
            self.made = [*others, (request, self.future)][-KEPT:]

    def clear(self) -> None:
        """Show none."""
        self.forget()
        self.made = ()

    def is_current(self) -> bool:
        request = self.current()
        return not self.made or request in [asked for asked, _ in self.made]

    def draw(self, item: CertifiedSet, request: CertifySetRequest, finished: bool) -> None:
        """It is drawn beside the others (`watch`)."""

    def watch(self) -> None:
        """The curves; looks at a running set again and again."""
        set_link(self.link(self.made[-1][0]) if self.made else {"view": "set"})
        self.look(_stage, [future for _, future in self.made], every=self.poll, name="certify.set.stage")

    def certify_too(self, model: str) -> None:
        """A set of the same pictures, of another model."""
        with noticed():
            self.start(self.of_model(model))


SET = SetRun(choice.QUEUE, DEADLINE)


def pictures_panel() -> None:
    """Which pictures: how many, and which draw."""
    st.header("Pictures", anchor=False)
    dataset_box()
    st.slider(
        "How many", 10, MOST["pictures"], step=10, key="certify.count", persist_state="session",
        help="Drawn at random; more begin with the same ones.",
    )  # fmt: skip
    draw_others("certify.shuffle", " for every model")
    if permission.has():  # where others reach the app: once the password was said on some page
        st.button(
            "Certify in the background", icon=":material/schedule:", key="certify.set.background", on_click=_in_background,
            width="stretch", help="As a run that goes on when the app is closed; the Training page shows how far it is.",
        )  # fmt: skip


def _in_background() -> None:
    """The same certificates as a run; each is kept, so that Certify finds it afterwards."""
    with told():
        asked = SET.current()
        same = {
            name: getattr(asked, name)
            for name in ("model", "sigma", "n0", "n", "alpha", "sound", "shuffle", "precision")
        }
        settings = same | {"images": asked.count}
        spec = Spec(kind="certify", settings=settings, threads=threads.asked())
        run = store().submit(spec, permission.permit())
        notice(
            f"Run {run.id[:6]} certifies {asked.count} pictures in the background: the Training page shows how far it is, and "
            "once it is done, Certify shows them here at once."
        )


def headline() -> None:
    """Model, noise and draws in one row, and the button that starts or stops."""
    columns = row([3, 1.6, 1.9, 1.5])
    choice.model_and_noise(columns)
    choice.draws_box(columns[2], "certify.each")
    count = st.session_state["certify.count"]
    SET.button(columns[3], f"{count} pictures, one after the other; you can go on using the app.")


def _stage(futures: Sequence[Future[CertifiedSet]], polling: bool) -> None:
    st.caption("Less noise keeps more accuracy, more noise reaches farther.")
    if futures:
        futures[-1].wait_for(SET.worth_drawing, SET.patience)
        _progress(futures[-1])
    sets = [now for now in (future.latest for future in futures) if now is not None and now.certificates]
    cards = cards_here()
    st.session_state.setdefault("certify.set.cards", True)
    with_cards = st.toggle(
        "Show what the model cards say", key="certify.set.cards", persist_state="session",
        help="Measured once on the full test set, with more draws: points, because nothing is said between them.",
    )  # fmt: skip
    _curves(sets, cards if with_cards else [])
    if futures:
        say_how_it_stands(futures[-1], polling)
    if sets:
        left, _ = st.columns([1, 3])
        left.button("Clear what was made here", icon=":material/close:", on_click=SET.clear, key="certify.set.clear")
        _pictures(sets[-1], polling)
        with st.expander("All conditions of what was made here"):
            for now in sets:
                st.caption(now.request.title())
                if now.conditions:
                    as_json(dict(now.conditions))
    if with_cards and (lines := tables.conditions(cards)):
        with st.expander("Conditions of the cards' measures"):
            bullets(lines)


def _curves(sets: Sequence[CertifiedSet], cards: Sequence[Card]) -> None:
    """Figure and table of the sets that were made here, and of what the cards know."""
    shown = [*map(tables.curve, sets), *tables.curves(cards)]
    if not shown:
        st.info("Nothing measured for this dataset yet: press **Certify**.", icon=":material/arrow_upward:")
        return
    chart(plots.accuracy(shown, tables.owners(cards_here()), dark=dark()), "certify.set.curve")
    st.caption(
        "Lines with bands: certificates made here. Points with bars: the cards. Bands and bars: 95 % intervals for each radius by "
        "itself, over the choice of pictures; that each certificate may be wrong with its alpha is not in them."
    )
    st.html(tables.numbers(sets, cards))
    st.caption(
        "All in % but the radius, with 95 % intervals (none where all pictures agree). Noisy copies: how often the network "
        "itself is right about one. r: certified right at this radius; few copies reach none that is large, which makes the "
        "average radius small, too. Average radius: 0 where the answer is wrong or missing. A few pictures with large radii "
        "weigh much in it, and a model that is good at easy pictures alone can raise it: look at the whole curve."
    )


def _pictures(now: CertifiedSet, polling: bool) -> None:
    """The newest set's certificates, a row each; to be taken home once it stands still."""
    table = of_certified(now)
    with st.expander(f"Picture by picture: {len(table.rows)} certificates of {now.request.title()}"):
        st.dataframe(table.rows, hide_index=True, width="stretch", column_config=NUMBERS)
    if not polling:
        save_place(
            f"{now.request.model.partition('/')[2]}-sigma{now.request.sigma:g}-{len(table.rows)}-certificates",
            about=f"{now.request.title()}. Robustness Explorer {__version__}.",
            table=table,
            figures={"certify.set.curve": "Certified accuracy"},
            key="certify.set.save",
        )


def _progress(future: Future[CertifiedSet]) -> None:
    now = future.latest
    if now is None:
        return
    text = f"{now.request.title()}. **{len(now.certificates)} of {len(now.rows)} pictures**"
    if now.finished:
        made = f" ({now.kept} of them were made before)" if now.kept else ""
        st.progress(1.0, f"{text}{made}, {duration(now.seconds)} of computing.")
        return
    left = None if future.finished else now.left
    time = "estimating" if left is None else f"about {duration(left)} left"
    st.progress(min(now.done / now.total, 1.0), f"{text}, {time}.")


def cards_here() -> list[Card]:
    """The cards of the chosen dataset's models."""
    return [card for card in zoo.cards() if card.dataset == st.session_state["dataset"]]
