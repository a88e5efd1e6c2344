"""Random models on the Lab page: does a stochastic network hold, or do its draws hide the gradient? Adaptive attacks side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from explorer.core import InvalidValue
from explorer.engine.tables import Table
from explorer.evaluation import tables
from explorer.evaluation.adaptive import LINF
from explorer.jobs.adaptive import CLEAN, AdaptiveSettings, share, usual_twin
from explorer.models import zoo
from explorer.plots.draws import over_draws
from explorer.ui import frame, permission
from explorer.ui.components.figures import chart, dark
from explorer.ui.components.save import save_place
from explorer.ui.inputs import attack as controls
from explorer.ui.inputs.choices import model_labels, named
from explorer.ui.inputs.forms import put
from explorer.ui.inputs.picture import dataset_box
from explorer.ui.lab import views
from explorer.ui.notices import noticed
from explorer.ui.page_run import gone_back
from explorer.ui.text.certified import share as in_words
from explorer.ui.text.certified import table as as_table

KIND = "adaptive"
FAVOURITE = "cifar10/lwta"
LEVELS = ("adaptive", "transfer", "fixed draw")
ABOUT = (
    "**Random models**: a network that draws anew at every look sends an attack's steps in random directions. It must be asked "
    "whether it withstands attacks that average many draws, know the expected network, or need no gradient."
)


def open_page() -> None:
    """What a link asks for, and first values."""
    controls.show_default()
    state, query = st.session_state, st.query_params
    linked = query.get(views.IN_LINK) == views.DRAWS and ("lab.d.model" not in state or gone_back())
    if linked and (name := query.get("model")):
        with noticed():
            state["dataset"] = zoo.card(name).dataset
            state["lab.d.model"] = name
    state.setdefault("lab.d.n", AdaptiveSettings.images)
    state.setdefault("lab.d.most", AdaptiveSettings.most)
    known = list(_offered())
    if state.get("lab.d.model") not in known:
        put("lab.d.model", FAVOURITE if FAVOURITE in known else next(iter(known), None))


def panel() -> None:
    """Pictures and draws, in the sidebar."""
    st.header("Pictures", anchor=False)
    dataset_box()
    st.number_input(
        "How many", 10, 500, step=10, key="lab.d.n", persist_state="session", help="Drawn from the bundled ones."
    )
    st.header("Attacks", anchor=False)
    st.select_slider(
        "Most draws in a step", [1, 2, 4, 8, 16, 32, 64, 128], key="lab.d.most", persist_state="session",
        help="PGD-20 averages its gradient over 1, 2, 4 ... so many draws; its cost grows with them.",
    )  # fmt: skip
    permission.asked("lab")


def show() -> None:
    """Which model, the button, and what is measured: by a run, else in its card."""
    place, act = frame.row([3, 2], key="headline-lab-draws")
    labels = _offered()
    place.selectbox("Random model", list(labels), key="lab.d.model", persist_state="session", format_func=named(labels),
                    filter_mode="contains", placeholder="No random model of these pictures")  # fmt: skip
    views.ask(act, KIND, settings, ABOUT, (views.DRAWS, "model"), _stage)


def settings() -> dict[str, Any]:
    """What the run is asked, as its spec names it. Raises InvalidValue."""
    state = st.session_state
    if state["lab.d.model"] is None:
        raise InvalidValue(f"No model of {state['dataset']} is random: choose another dataset.")
    card = zoo.card(state["lab.d.model"])
    return AdaptiveSettings(
        model=card.name, weights=card.identity, twin=usual_twin(card), images=state["lab.d.n"], most=state["lab.d.most"],
    ).to_dict()  # fmt: skip


def _offered() -> dict[str, str]:
    return {name: label for name, label in model_labels().items() if zoo.card(name).stochastic}


def _stage(asked: dict[str, Any], polling: bool) -> None:
    answer = views.look(KIND, asked, polling)
    if answer.row is not None:
        words = (
            f"{asked['images']} bundled pictures drawn with seed {asked['shuffle']}, L∞ 8/255, seed {asked['seed']}; PGD with 50 "
            f"steps where no number is named, Square with {asked['queries']} queries on half of them; float32."
        )
        _draw(asked["model"], answer.row["shares"], words, answer.row["conditions"])
        return
    card = zoo.card(asked["model"])
    told = _of_card(card)
    if not told:
        if not polling:
            views.nothing()
        return
    if not polling:
        st.info("These numbers stand in the model's card. **Measure in the background** asks again, on the bundled pictures.",
                icon=":material/info:")  # fmt: skip
    _draw(
        card.name,
        told,
        "From the card, L∞ 8/255, seed 0; each line names its attack and n.",
        {"model": card.name, "card": card.identity},
    )


def _of_card(card: zoo.Card) -> list[dict[str, Any]]:
    """What a card tells of these attacks, clean first."""
    eps = LINF.eps
    found = [
        share(m["variant"] if m.get("variant") and m["kind"] != "clean" else tables.what(m), m)
        for m in card.measures
        if m["norm"] == LINF.norm and m["eps"] == eps and (m["kind"] in LEVELS or "not adaptive" in (m["note"] or ""))
    ]
    clean = [share(CLEAN, m) for m in card.measures if m["kind"] == "clean" and m.get("verdict_draws", 1) > 1]
    curve = {one["draws"]: one for one in found if one["draws"]}  # the newest of each number
    others = [one for one in found if not one["draws"] and one["kind"] != "transfer"]
    return [*clean[-1:], *curve.values(), *others] if curve else []


def _draw(model: str, shares: Sequence[Mapping[str, Any]], words: str, conditions: Mapping[str, Any]) -> None:
    """The curve over draws, and all attacks in a table, the strongest first."""
    attacks = sorted((one for one in shares if one["what"] != CLEAN), key=lambda one: one["accuracy"])
    clean = [one for one in shares if one["what"] == CLEAN]
    strongest = [
        {**one, "what": f"strongest: {one['what'].removeprefix('adaptive: ').partition(', L∞')[0]}"}
        for one in attacks if not one["draws"] and one["kind"] != "fixed draw" and not one["what"].endswith(("together", "above, L∞ 8/255"))
    ]  # fmt: skip
    if any(one["draws"] for one in shares):
        chart(over_draws(shares, [*clean, *strongest[:1]], dark=dark()), "lab.d.curve")
    head = ("Attack", "Kind", "Right under it, % [95 %]", "n")
    rows = [[one["what"], one["kind"], in_words(one), f"{one['n']:,}"] for one in [*clean, *attacks]]
    st.html(as_table(views.grid(head, rows)))
    st.caption(
        f"{words} Judged by the majority of 20 fresh draws, but for the fixed draw, which is another network and judged by itself. "
        "*Not adaptive*: one draw in a step. The line of all attacks together counts a picture only if it held against each."
    )
    table = Table(tuple(dict(one) for one in [*clean, *attacks]), {"conditions": dict(conditions)})
    save_place(
        f"{model.partition('/')[2]}-draws",
        about=words,
        table=table,
        figures={"lab.d.curve": "Over draws"},
        key="lab.d.save",
    )
