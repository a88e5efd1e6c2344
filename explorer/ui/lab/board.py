"""The board on the Lab page: all models by clean, robust and certified accuracy, sorted and filtered; two of them compared by tests."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import streamlit as st

from explorer import __version__
from explorer.data import dataset
from explorer.defenses import RECIPES
from explorer.engine.tables import Row, Table
from explorer.evaluation import claim
from explorer.evaluation.pairing import MCNEMAR, Compared, compared, differences
from explorer.evaluation.standing import KINDS, Share, is_smoke, standing
from explorer.models.zoo import Card
from explorer.ui.components.save import File, save_place
from explorer.ui.inputs.choices import families
from explorer.ui.lab import views
from explorer.ui.page_run import set_link
from explorer.ui.text.certified import table as as_table

COLUMNS = {"clean": "Clean %", "linf": "L∞ 8/255 %", "l2": "L2 0.5 %", "certified": "Proven %"}
LEVEL = 0.05  # from which on a difference is called one
HEIGHT = 480
ABOUT = (
    "**The board**: every model by what its card holds. Under attack the lowest number counts; it is an upper bound, as a stronger "
    "attack may leave less. **Proven** is certified accuracy at the L2 radius 0.5. Click a head to sort."
)


def panel() -> None:
    """Filters, in the sidebar."""
    cards = families()
    st.header("Which models", anchor=False)
    st.pills("Data", sorted({card.dataset for card in cards}), key="lab.b.data", persist_state="session", selection_mode="multi",
             format_func=lambda name: dataset(name).title)  # fmt: skip
    st.pills("Kind", KINDS, key="lab.b.kinds", persist_state="session", selection_mode="multi")
    recipes = sorted({card.recipe for card in cards})
    st.multiselect("Recipe", recipes, key="lab.b.recipes", persist_state="session", placeholder="all", filter_mode="contains",
                   format_func=lambda key: RECIPES.entry(key).title if key in RECIPES else key)  # fmt: skip
    st.pills("Measured in", list(COLUMNS.values()), key="lab.b.measured", persist_state="session", selection_mode="multi",
             help="Only models whose cards hold all of these.")  # fmt: skip
    largest = max(card.parameters for card in cards) / 1e6
    st.slider("Parameters, at most (millions)", 0.0, float(f"{largest + 0.1:.1f}"), key="lab.b.size", persist_state="session",
              value=float(f"{largest + 0.1:.1f}"))  # fmt: skip


def show() -> None:
    """The table, and two models beside each other."""
    set_link({views.IN_LINK: views.BOARD})
    st.markdown(ABOUT)
    cards = [card for card in families() if not is_smoke(card) and _fits(card)]
    if not cards:
        st.info("No model fits: take a filter away.", icon=":material/filter_alt_off:")
        return
    table = of_cards(cards)
    number = {head: st.column_config.NumberColumn(format="%.1f", width=76) for head in COLUMNS.values()}
    ends = {f"{head} interval": st.column_config.TextColumn("95 %", width=88) for head in COLUMNS.values()}
    order = ["Model", *(one for head in COLUMNS.values() for one in (head, f"{head} interval")), "Kind", "Data", "Recipe", "Parameters",
             "Name"]  # fmt: skip
    st.dataframe(
        [row | _intervals(row) for row in table.rows], hide_index=True, width="stretch", height=HEIGHT, placeholder="–",
        column_order=order, key="lab.b.table",
        column_config=number | ends | {"Model": st.column_config.TextColumn(width=170, pinned=True),
                                       "Parameters": st.column_config.NumberColumn(format="compact", width=96)},
    )  # fmt: skip
    save_place(
        "board", about=f"95 % intervals (Wilson). Robustness Explorer {__version__}.", table=table, key="lab.b.save"
    )
    _two(cards)


def of_cards(cards: Sequence[Card]) -> Table:
    """One row a model: accuracies in percent with their ends and n, and what it can be filtered by."""
    return Table(tuple(_row(card) for card in cards), {card.name: card.measures for card in cards})


def _row(card: Card) -> Row:
    now = standing(card)
    row: Row = {"Model": card.title, "Name": card.name, "Kind": now.kind, "Data": card.dataset, "Recipe": card.recipe,
                "Parameters": card.parameters}  # fmt: skip
    for field, head in COLUMNS.items():
        share: Share | None = getattr(now, field)
        row[head] = None if share is None else 100 * share.accuracy
        row[f"{head} low"], row[f"{head} high"] = (None, None) if share is None else (100 * share.low, 100 * share.high)
        row[f"{head} n"] = None if share is None else share.n
    return row


def _intervals(row: Row) -> Row:
    return {
        f"{head} interval": None if row[head] is None else f"{row[f'{head} low']:.1f} to {row[f'{head} high']:.1f}"
        for head in COLUMNS.values()
    }


def _fits(card: Card) -> bool:
    state, now = st.session_state, standing(card)
    wanted = state.get("lab.b.measured") or []
    return (
        (not state.get("lab.b.data") or card.dataset in state["lab.b.data"])
        and (not state.get("lab.b.kinds") or now.kind in state["lab.b.kinds"])
        and (not state.get("lab.b.recipes") or card.recipe in state["lab.b.recipes"])
        and card.parameters <= 1e6 * state["lab.b.size"]
        and all(getattr(now, field) is not None for field, head in COLUMNS.items() if head in wanted)
    )


def _two(cards: Sequence[Card]) -> None:
    """Paired tests between two models, what differs between their cards, and the claims to take home."""
    st.header("Two models beside each other", anchor=False)
    by_name = {card.name: card for card in cards}
    left, right = st.columns(2)
    first = left.selectbox(
        "First", list(by_name), key="lab.b.first", filter_mode="contains", format_func=lambda n: by_name[n].title
    )
    others = [name for name, card in by_name.items() if card.dataset == by_name[first].dataset and name != first]
    if not others:
        st.info("No other model of the same pictures fits the filters.", icon=":material/info:")
        return
    second = right.selectbox(
        "Second", others, key="lab.b.second", filter_mode="contains", format_func=lambda n: by_name[n].title
    )
    a, b = by_name[first], by_name[second]
    found = compared(a, b)
    if found:
        st.html(
            as_table(
                views.grid(
                    ("Measure", a.title, b.title, "Alone right", "Test", "p, by Holm", ""), [_line(c) for c in found]
                )
            )
        )
        st.caption(_caption(found))
    else:
        st.info("Their cards hold no measure under the same conditions.", icon=":material/info:")
    with st.expander("What differs between the two cards"):
        st.html(as_table(views.grid(("Field", a.title, b.title), differences(a, b))))
    _claims(a)


def _line(one: Compared) -> list[str]:
    alone = "–" if one.only_first is None else f"{one.only_first} and {one.only_second}"
    said = "differ" if one.adjusted < LEVEL else "not told apart"
    n = f"n = {one.n:,}" if one.n == one.n_second else f"n = {one.n:,} and {one.n_second:,}"
    return [
        f"{one.measure}, {n}", f"{100 * one.first:.1f} %", f"{100 * one.second:.1f} %", alone, one.test, f"{one.adjusted:.2g}", said,
    ]  # fmt: skip


def _caption(found: Sequence[Compared]) -> str:
    paired = sum(one.test == MCNEMAR for one in found)
    more = (
        "" if paired == len(found)
        else " Where a card keeps no verdict for each picture, Fisher's test compares the counts, which is conservative; "
        "`python -m explorer evaluate NAME --write` measures again and keeps them."
    )  # fmt: skip
    return (
        f"Exact two-sided tests, adjusted over the {len(found)} measures (Holm), level {LEVEL:g}: {paired} are paired on the same "
        f"pictures (McNemar), where only those count that one model alone has right.{more}"
    )


def _claims(card: Card) -> None:
    stem = card.name.replace("/", "-")
    endings = {
        "json": ("JSON, for `verify`", "json"),
        "latex": ("LaTeX row", "tex"),
        "markdown": ("Markdown row", "md"),
    }
    st.markdown(f"**Claim of {card.title}**, with the hashes of weights, code and pictures, for others to check:")
    st.code(f"python -m explorer verify {card.name} --sample 200", language="bash")
    files = [
        File(label, f"{stem}.{end}", partial(_claim, card, form), "text/plain")
        for form, (label, end) in endings.items()
    ]
    save_place(stem, about="", files=files, key="lab.b.claim")


def _claim(card: Card, form: str) -> bytes:
    return claim.text(card, form).encode()
