"""Table of models: sortable and filterable, a plot of clean against robust accuracy, and the ways from a model to its pages."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import streamlit as st

from explorer import __version__
from explorer.data import dataset
from explorer.engine import AttackRequest
from explorer.engine.certifying import CertifyRequest
from explorer.engine.compare import MAX_MODELS, MIN_MODELS, CompareRequest
from explorer.engine.tables import Row, Table
from explorer.evaluation.standing import KINDS, Share, Standing, is_smoke, standing
from explorer.models import zoo
from explorer.models.zoo import Card
from explorer.plots.models import HEIGHT, Mark, tradeoff
from explorer.ui import frame
from explorer.ui.attack import ATTACK
from explorer.ui.certify import choice as certify
from explorer.ui.certify.picture import CERTIFICATE
from explorer.ui.compare import COMPARE
from explorer.ui.components.figures import dark
from explorer.ui.components.save import save_place
from explorer.ui.inputs import attack as controls
from explorer.ui.inputs.choices import FIRST_PICTURES, families
from explorer.ui.notices import noticed
from explorer.ui.text.choosers import model_label

LOOK, ROWS = "models.look", "models.rows"  # in st.session_state: the card below; names of the rows that are ticked
MEASURED = {
    "linf": "accuracy under attack, L∞ 8/255",
    "l2": "accuracy under attack, L2 0.5",
    "certified": "certified accuracy, L2 0.5",
}
PERCENT = {"clean": "Clean %", "linf": "L∞ 8/255 %", "l2": "L2 0.5 %", "certified": "Certified 0.5 %"}

SHORT = {  # heads that fit a phone
    "clean": ("Clean", "Clean accuracy, %"),
    "linf": ("L∞", "Accuracy under attack in L∞ 8/255, %"),
    "l2": ("L2", "Accuracy under attack in L2 0.5, %"),
    "certified": ("Proven", "Certified accuracy at the L2 radius 0.5, %"),
}


def chooser() -> list[Card]:
    """What to list, in the sidebar: dataset, kind, a search; returns the models that fit, smoke runs left out."""
    state, cards = st.session_state, families()
    st.header("Which models", anchor=False)
    offered = sorted({card.dataset for card in cards})
    if state.get("models.dataset") not in offered:
        state["models.dataset"] = state.get("dataset") if state.get("dataset") in offered else offered[0]
    st.selectbox(
        "Dataset", offered, key="models.dataset", persist_state="session", format_func=lambda d: dataset(d).title
    )
    st.text_input(
        "Search", key="models.search", persist_state="session", placeholder="name, description, robust, random ..."
    )
    st.pills("Kind", KINDS, key="models.kinds", persist_state="session", selection_mode="multi", help=(
        "No defence: trained on clean pictures. Robust: keeps more than a tenth under thorough attacks; falls: no more than that. "
        "Random: two looks may differ. Certified: made so that its answers can be proven."))  # fmt: skip
    st.caption(
        "Accuracy is the share of test pictures classified right. **Under attack** counts a picture only if it is classified "
        "right and no attack within the distance changed that; of several attacks the lowest number counts. **Certified**: "
        "proven for every change up to the radius. The whiskers are 95 % intervals."
    )
    return [card for card in cards if not is_smoke(card) and _fits(card)]


def _fits(card: Card) -> bool:
    state = st.session_state
    words = (state["models.search"] or "").lower().split()
    text = f"{card.name} {model_label(card)} {standing(card).kind}".lower()
    kinds = state["models.kinds"] or KINDS
    return (
        card.dataset == state["models.dataset"] and standing(card).kind in kinds and all(word in text for word in words)
    )


def table(cards: Sequence[Card]) -> Table:
    """One row a model, numbers as numbers; with the intervals, as it is saved."""
    rows = tuple(_row(card, standing(card)) for card in cards)
    return Table(rows, {card.name: card.measures for card in cards})


def _row(card: Card, now: Standing) -> Row:
    row: Row = {"Model": card.title, "Kind": now.kind}
    for field, head in PERCENT.items():
        share: Share | None = getattr(now, field)
        row[head] = None if share is None else 100 * share.accuracy
        row[f"{head} low"], row[f"{head} high"] = (None, None) if share is None else (100 * share.low, 100 * share.high)
        row[f"{head} n"] = None if share is None else share.n
    doubt = any(share is not None and not share.adaptive for share in (now.linf, now.l2))
    return row | {
        "Random": card.stochastic, "Attack not adaptive": doubt, "Weights": card.parameters, "Name": card.name,
        "What it is": card.summary,
    }  # fmt: skip


def show(cards: Sequence[Card]) -> None:
    """Table and plot side by side, and what can be done with the rows that are ticked."""
    st.header("Models", anchor=False)
    if not cards:
        st.info("No model fits: take away a word of the search or a kind.", icon=":material/search_off:")
        return
    left, right = st.columns([1, 1], gap="medium")
    with left:
        _table(cards, key="models.table")
    with right:
        _plot(cards)
    _ways({card.name: card for card in cards})


def _save(cards: Sequence[Card]) -> None:
    save_place(
        "models",
        about=f"95 % intervals; of several attacks the lowest number counts. Robustness Explorer {__version__}.",
        table=table(cards),
        figures={"models.plot": "Clean against robust accuracy"},
        key="models.save",
    )


def smoke_runs() -> None:
    """Apart from the others: what a few pictures trained."""
    found = [card for card in families() if is_smoke(card) and card.dataset == st.session_state["models.dataset"]]
    if found:
        with st.expander(f"Smoke runs ({len(found)}): trained on a few pictures, only to show that a recipe works"):
            st.dataframe(
                table(found).rows, hide_index=True, width="stretch", column_order=["Model", *PERCENT.values(), "Name"]
            )


def _table(cards: Sequence[Card], key: str) -> None:
    names = tuple(card.name for card in cards)
    percent = {
        PERCENT[field]: st.column_config.NumberColumn(label, width=64, format="%.1f", help=about)
        for field, (label, about) in SHORT.items()
    }
    st.dataframe(
        table(cards).rows,
        key=f"{key}.{hash(names)}",  # rows are chosen by their place: another list is another table
        on_select=partial(_picked, f"{key}.{hash(names)}", names),
        selection_mode="multi-row",
        hide_index=True,
        placeholder="–",
        width="stretch",
        height=HEIGHT,
        row_height=34,
        column_order=["Model", *PERCENT.values(), "Kind", "Random", "Weights", "What it is", "Name"],
        column_config=percent
        | {
            "Model": st.column_config.TextColumn(width=132, pinned=True),
            "Kind": st.column_config.TextColumn(width=90),
            "Weights": st.column_config.NumberColumn(width=90, format="compact"),
            "What it is": st.column_config.TextColumn(width="large"),
        },
    )


def _picked(key: str, names: Sequence[str]) -> None:
    rows = st.session_state[key].selection.rows
    chosen = st.session_state[ROWS] = [names[row] for row in rows if row < len(names)]
    if chosen:
        st.session_state[LOOK] = chosen[-1]


def _plot(cards: Sequence[Card]) -> None:
    state = st.session_state
    state.setdefault("models.measured", "linf")
    st.segmented_control(
        "Measured by", list(MEASURED), key="models.measured", persist_state="session", required=True,
        format_func={"linf": "L∞ 8/255", "l2": "L2 0.5", "certified": "Certified"}.__getitem__, label_visibility="collapsed",
    )  # fmt: skip
    measured = state["models.measured"]
    marks = []
    for card in cards:
        now = standing(card)
        clean, robust = now.clean, getattr(now, measured)
        if clean is not None and robust is not None:
            marks.append(Mark(card.name, card.title, now.kind, _interval(clean), _interval(robust)))
    if not marks:
        st.info("None of these models was measured so.", icon=":material/info:")
        return
    figure = tradeoff(marks, KINDS, measured=MEASURED[measured], chosen=state.get(LOOK), dark=dark())
    st.plotly_chart(
        figure,
        key="models.plot",
        theme=None,
        config={"displayModeBar": False},
        on_select=_pointed,
        selection_mode="points",
    )


def _pointed() -> None:
    points = st.session_state["models.plot"].selection.points
    if points and points[0].get("customdata"):
        look_at(points[0]["customdata"][0])


def look_at(name: str) -> None:
    """Make this the model whose card is open."""
    st.session_state[LOOK], st.session_state[ROWS] = name, []


def _interval(share: Share) -> tuple[float, float, float]:
    return share.accuracy, share.low, share.high


def _ways(cards: dict[str, Card]) -> None:
    """From the ticked rows, or else the card that is open, to the pages that are about models."""
    state = st.session_state
    chosen = [name for name in state.get(ROWS, []) if name in cards] or [
        name for name in [state.get(LOOK)] if name in cards
    ]
    if not chosen:
        chosen = [next(iter(cards))]
    titles = ", ".join(cards[name].title for name in chosen[:MAX_MODELS]) + (" ..." if len(chosen) > MAX_MODELS else "")
    one, some = len(chosen) == 1, MIN_MODELS <= len(chosen) <= MAX_MODELS
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            "Attack", icon=":material/bolt:", key="models.attack", on_click=attack, args=(chosen[0],), disabled=not one
        )
        st.button("Compare", icon=":material/compare:", key="models.compare", on_click=compare, args=(chosen,), disabled=not some,
                  help=f"Tick {MIN_MODELS} to {MAX_MODELS} rows.")  # fmt: skip
        st.button("Certify", icon=":material/verified_user:", key="models.certify", on_click=certified, args=(chosen[0],),
                  disabled=not one)  # fmt: skip
        _save(list(cards.values()))
        st.markdown(f"**{titles}**. Tick rows in the table, or click a mark.", width="stretch")


def _request(name: str) -> AttackRequest:
    """The chosen picture and attack on this model; of another dataset, the first picture of that."""
    controls.show_default()
    card = zoo.card(name)
    if card.dataset == st.session_state["dataset"]:
        return controls.current_request(name)
    return AttackRequest(card.dataset, FIRST_PICTURES.get(card.dataset, 0), name).checked()


def attack(name: str) -> None:
    """Go to the Attack page and attack this model there."""
    with noticed():
        ATTACK.play(_request(name))
        frame.go_to("attack")


def compare(names: Sequence[str]) -> None:
    """Go to the Compare page with these models."""
    with noticed():
        COMPARE.play(CompareRequest(_request(names[0]), tuple(names)).checked().within())
        frame.go_to("compare")


def certified(name: str) -> None:
    """Go to the Certify page and certify this model's answer there."""
    with noticed():
        request = _request(name)
        st.session_state[certify.VIEW] = certify.ONE
        CERTIFICATE.play(CertifyRequest(request.dataset, request.image, name, label=request.label))
        frame.go_to("certify")
