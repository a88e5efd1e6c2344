"""A table of certified radii: which pictures are safest, proven by each kind that reads the model, with the nearest attack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import streamlit as st

from explorer import __version__
from explorer.certify.certifiers import CERTIFIERS
from explorer.data import dataset
from explorer.engine import AttackRequest
from explorer.engine.certifying import DEADLINE, MOST
from explorer.engine.proving import LINK, ProvenPictures, ProvingRequest, proving_work
from explorer.engine.tables import Row, Table, of_proven
from explorer.plots.proofs import gaps, histogram
from explorer.ui import frame
from explorer.ui.attack import ATTACK
from explorer.ui.certify import between, choice
from explorer.ui.components.conditions import as_json
from explorer.ui.components.figures import chart, dark
from explorer.ui.components.pictures import to_url
from explorer.ui.components.save import save_place
from explorer.ui.frame import row
from explorer.ui.inputs.choices import EVERY, draw_others, model_labels, named, sample
from explorer.ui.inputs.picture import dataset_box
from explorer.ui.notices import noticed
from explorer.ui.page_run import PageRun, Work
from explorer.ui.session import engine
from explorer.ui.text import proofs as words

FIELDS = ("model", "kinds", "count", "shuffle", "n", "attack")
PREFIX = "certify.table."
HEIGHT = 420  # of the table
DRAWN = "as they were drawn"  # an order of the rows


class TableRun(PageRun[ProvingRequest, ProvenPictures]):
    """Radii of many pictures. Nothing is certified unasked."""

    prefix = button_keys = PREFIX
    verb, icon = "Certify", ":material/verified_user:"
    poll = 0.7
    unasked = False
    names = frozenset({*LINK, "view"})
    about = words.ABOUT

    def prepare(self) -> None:
        choice.prepare()
        for name in FIELDS[1:]:
            st.session_state.setdefault(PREFIX + name, [] if name == "kinds" else getattr(ProvingRequest, name))

    def is_link(self, query: Mapping[str, str]) -> bool:
        return query.get("view") == "table" and len(query) > 1

    def filled(self, query: Mapping[str, str]) -> Mapping[str, str]:
        return choice.filled(query)

    def of_link(self, query: Mapping[str, str]) -> ProvingRequest:
        return ProvingRequest.from_query(query)

    def current(self) -> ProvingRequest:
        state = st.session_state
        given = {name: state[PREFIX + name] for name in FIELDS[1:]}
        return ProvingRequest(state["dataset"], state["certify.model"], **given | {"kinds": ",".join(given["kinds"])})

    def show(self, request: ProvingRequest) -> None:
        state = st.session_state
        state["dataset"], state["certify.model"] = request.dataset, request.model
        for name in FIELDS[1:]:
            state[PREFIX + name] = list(request.chosen) if name == "kinds" else getattr(request, name)

    def work(self, request: ProvingRequest) -> Work[ProvenPictures]:
        return proving_work(engine(), request)

    def link(self, request: ProvingRequest) -> dict[str, str]:
        return request.to_query()

    def draw(self, item: ProvenPictures, request: ProvingRequest, finished: bool) -> None:
        _progress(item)
        for picture, key in item.alarms():
            st.error(words.alarm(picture, CERTIFIERS.entry(key).title), icon=":material/crisis_alert:")
        _figures(item)
        _pictures(item)
        _notes(item, finished)


TABLE = TableRun(choice.QUEUE, DEADLINE)


def pictures_panel() -> None:
    """Which pictures: how many, and which draw; whether they are attacked, too."""
    st.subheader("Pictures", anchor=False)
    dataset_box()
    st.slider(
        "How many", 10, MOST["pictures"], step=10, key=f"{PREFIX}count", persist_state="session",
        help="Drawn at random from the bundled test pictures; more begin with the same ones.",
    )  # fmt: skip
    draw_others(f"{PREFIX}shuffle", " for every model")
    st.toggle(
        "Look for the smallest attack, too", key=f"{PREFIX}attack", persist_state="session",
        help="FAB, in each norm that a proof is about; after the radii, picture by picture.",
    )  # fmt: skip
    st.number_input(
        "noisy copies (n)", 100, MOST["n"], step=1000, key=f"{PREFIX}n", persist_state="session",
        help="Of each picture, where it is certified by Gaussian smoothing.",
    )  # fmt: skip


def headline() -> None:
    """Model and kinds in one row, and the button that starts or stops."""
    columns = row([3, 3.4, 1.6])
    labels = model_labels()
    columns[0].selectbox(
        "Certify this model", list(labels), key="certify.model", persist_state="session",
        format_func=named(labels), filter_mode="contains",
    )  # fmt: skip
    titles = {entry.key: entry.title for entry in CERTIFIERS}
    columns[1].multiselect(
        "by", list(titles), key=f"{PREFIX}kinds", persist_state="session", format_func=named(titles),
        placeholder="each kind that reads it and always holds", help=words.kinds_help(),
    )  # fmt: skip
    TABLE.button(columns[2], "Radii first, then the attack; you can go on using the app.")


def _progress(now: ProvenPictures) -> None:
    filled, cells = now.done
    if now.finished or not cells:
        st.caption(words.finished(now))
        return
    st.progress(min(filled / cells, 1.0), words.progress(now))


def _figures(now: ProvenPictures) -> None:
    """For each kind how many pictures are certified beyond a radius; and proof against attack."""
    kinds = [key for key, found in now.radii.items() if found]
    if not kinds:
        return
    st.segmented_control(
        "Shown", kinds, key=f"{PREFIX}kind", default=kinds[0], required=True, label_visibility="collapsed",
        format_func=lambda key: CERTIFIERS.entry(key).title,
    )  # fmt: skip
    key = st.session_state.get(f"{PREFIX}kind") or kinds[0]
    key = key if key in kinds else kinds[0]
    certified = now.radii[key]
    radii = np.array([one.radius if one.label == y else 0.0 for one, y in zip(certified, now.labels, strict=False)])
    left, other = st.columns(2)
    with left:
        chart(histogram(radii, certified[0].norm, dark=dark()), f"{PREFIX}histogram")
        st.caption(words.histogram(now, key, radii))
    near = now.nearest.get(certified[0].norm, ())
    with other:
        if near:
            pairs = [(one.radius, a.distance) for one, a in zip(certified, near, strict=False) if a is not None]
            chart(gaps(np.array(pairs).reshape(-1, 2), certified[0].norm, dark=dark()), f"{PREFIX}gaps")
            st.caption(words.gap(len(pairs), len(near)))
        else:
            st.caption(words.no_attack(certified[0].norm))


def _pictures(now: ProvenPictures) -> None:
    """The rows that fit the filters, in the chosen order; a row that is picked, or chosen by its name, opens its picture.

    Choosers do what the table itself offers to a pointer alone: to sort, and to come to a picture's buttons by few keys.
    """
    table = of_proven(now)
    rows = _chosen(now, table)
    if not rows:
        st.info("No picture fits the filters.", icon=":material/filter_alt_off:")
        return
    names = tuple(one["image"] for one in rows)
    _open(now.request, table, rows)
    images = sample(now.request.dataset)
    order = ["picture", *(name for name in table.columns if any(one[name] is not None for one in rows))]
    shown: list[Row] = [{"picture": to_url(images.x[one["image"]].numpy()), **one} for one in rows]
    st.dataframe(
        shown, key=f"{PREFIX}rows.{hash(names)}", hide_index=True, width="stretch", height=HEIGHT, row_height=38,
        placeholder="–", on_select=partial(_picked, f"{PREFIX}rows.{hash(names)}", names), selection_mode="single-row",
        column_config=words.columns(table.columns),
        column_order=order,
    )  # fmt: skip


def _chosen(now: ProvenPictures, table: Table) -> list[Row]:
    """The rows that fit the filters, in the chosen order."""
    one, two, three = st.columns(3)
    wanted = one.selectbox(
        "Class", [EVERY, *dataset(now.request.dataset).classes], key=f"{PREFIX}class", persist_state="session"
    )
    verdicts = sorted({str(row["verdict"]) for row in table.rows})
    kept = two.multiselect("Verdict", verdicts, key=f"{PREFIX}verdict", placeholder="all")
    orders = [DRAWN, *(name for name in table.columns if words.sorts(name))]
    if st.session_state.get(f"{PREFIX}order") not in orders:
        st.session_state[f"{PREFIX}order"] = DRAWN
    by = three.selectbox(
        "Largest first, by", orders, key=f"{PREFIX}order", format_func=lambda name: name if name == DRAWN else words.column(name),
    )  # fmt: skip
    rows = [row for row in table.rows if wanted in (EVERY, row["label"]) and (not kept or row["verdict"] in kept)]
    if by == DRAWN:
        return rows
    return sorted(rows, key=lambda row: (row[by] is None, -(row[by] or 0.0)))


def _picked(key: str, names: Sequence[int]) -> None:
    rows = st.session_state[key].selection.rows
    st.session_state[f"{PREFIX}picked"] = names[rows[0]] if rows and rows[0] < len(names) else None


def _open(request: ProvingRequest, table: Table, rows: Sequence[Row]) -> None:
    """Which picture is open, and what can be done with it."""
    state, known = st.session_state, {one["image"]: one for one in rows}
    if state.get(f"{PREFIX}picked") not in known:
        state[f"{PREFIX}picked"] = None
    with st.container(horizontal=True, vertical_alignment="bottom"):
        picked = st.selectbox(
            "Open this picture", list(known), index=None, key=f"{PREFIX}picked", width=260, placeholder="or tick a row",
            format_func=lambda image: f"{image} · {known[image]['label']} · {known[image]['verdict']}",
        )  # fmt: skip
        found = known.get(picked)
        if found is None:
            return
        st.button(
            "Attack this picture", icon=":material/bolt:", key=f"{PREFIX}open", on_click=_attack, args=(request, picked)
        )
        st.button(
            "What lies between?", icon=":material/expand_content:", key=f"{PREFIX}between", on_click=between.begin, args=(request, found),
            disabled=not between.possible(found), help=words.EXACT,
        )  # fmt: skip
        st.markdown(words.why(found), width="stretch")
    between.show(found)


def _attack(request: ProvingRequest, picture: int) -> None:
    with noticed():
        ATTACK.play(AttackRequest(request.dataset, picture, request.model).checked())
        frame.go_to("attack")


def _notes(now: ProvenPictures, finished: bool) -> None:
    with st.expander("What each kind proves, and why others say nothing about this model"):
        for key in now.radii:
            st.markdown(words.kind(CERTIFIERS.entry(key), CERTIFIERS[key]))
        for key, reason in now.refused.items():
            st.markdown(f"**{CERTIFIERS.entry(key).title}**: {reason}")
    if finished and now.conditions:
        with st.expander("All conditions"):
            as_json(dict(now.conditions))
        stem = f"{now.request.model.partition('/')[2]}-{len(now.rows)}-radii"
        figures = {f"{PREFIX}histogram": "Certified accuracy by radius"}
        save_place(
            stem, about=f"{now.request.title()}. Robustness Explorer {__version__}.", table=of_proven(now), figures=figures,
            key=f"{PREFIX}save",
        )  # fmt: skip
