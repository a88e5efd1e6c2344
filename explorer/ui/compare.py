"""The Compare page: several models or attacks beside each other, their players in step, and what came out, lane by lane."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import partial
from operator import attrgetter

import streamlit as st

from explorer.attacks import ATTACKS
from explorer.engine import AttackRequest, Export, Result
from explorer.engine.compare import (
    EACH,
    MAX_MODELS,
    TRANSFER,
    CompareRequest,
    Comparison,
    ModelLane,
    compare_work,
)
from explorer.engine.tables import of_comparison
from explorer.models import zoo
from explorer.ui.attack.saving import walk_page
from explorer.ui.components.conditions import as_json, as_python
from explorer.ui.components.save import File, save_place
from explorer.ui.components.trace_player import CLOCKS, PASSES, STEPS, trace_player
from explorer.ui.frame import row
from explorer.ui.inputs import attack as controls
from explorer.ui.inputs.choices import model_labels, model_titles, named
from explorer.ui.inputs.forms import put
from explorer.ui.page_run import TRAVEL, PageRun, Work
from explorer.ui.session import engine
from explorer.ui.text import attack as verdicts
from explorer.ui.text import comparison as words
from explorer.ui.text.choosers import attack_label, attack_order

FAVOURITES = ("cifar10/baseline", "cifar10/pgd-linf", "cifar10/lwta")  # shown first: they fall at different steps
ALONE = ("fgsm", "pgd")  # the first of them that is not chosen stands beside the attack where a dataset has one model
BESIDE = "compare.attacks"  # in st.session_state: attacks beside the chosen one
LONGEST = 1.5  # seconds between two looks at a running comparison

# How many lanes stand in one row depends on the room there is, not on the window: the sidebar may be closed.
STYLES = """
<style>
[class*="st-key-lanes-"] { container-type: inline-size; }
[class*="st-key-lanes-"] [data-testid="stHorizontalBlock"] { display: grid; grid-template-columns: minmax(0, 1fr); gap: 1.2rem; }
.st-key-models [data-tag-index], .st-key-compare-attacks [data-tag-index] { max-width: 12rem; }
[class*="st-key-lanes-"] [data-testid="stColumn"] { width: 100%; min-width: 0; }
@container (min-width: 560px) {
  .st-key-lanes-2 [data-testid="stHorizontalBlock"],
  .st-key-lanes-4 [data-testid="stHorizontalBlock"] { grid-template-columns: repeat(2, minmax(0, 1fr)); }
}
@container (min-width: 780px) {
  .st-key-lanes-3 [data-testid="stHorizontalBlock"] { grid-template-columns: repeat(3, minmax(0, 1fr)); }
}
@container (min-width: 1160px) {
  .st-key-lanes-4 [data-testid="stHorizontalBlock"] { grid-template-columns: repeat(4, minmax(0, 1fr)); }
}
</style>
"""


class CompareRun(PageRun[CompareRequest, Comparison]):
    """Attacks and models beside each other."""

    prefix = "compare."
    act = "play"
    poll = 0.15  # for each model
    names = frozenset({*AttackRequest.link, "models", "craft", "attacks"} - {"model"})
    about = "The same picture, several models or several attacks, in step: which model sees through it, which attack gets there?"

    def prepare(self) -> None:
        state = st.session_state
        titles = model_titles()
        state.setdefault("models", _usual_models(titles, state["model"]))
        kept = [name for name in state["models"] if name in titles]
        if not kept and state["models"]:  # another dataset was chosen
            kept = _usual_models(titles)
        put("models", kept)
        if state.get("craft") not in (EACH, *kept):
            state["craft"] = EACH
        state.setdefault(BESIDE, [])
        if len(titles) == 1 and not state[BESIDE]:  # nothing to stand beside it but another attack
            put(BESIDE, [next(key for key in ALONE if key != state["attack"])])
        if state["attack"] in state[BESIDE]:
            put(BESIDE, [key for key in state[BESIDE] if key != state["attack"]])

    def of_link(self, query: Mapping[str, str]) -> CompareRequest:
        request = CompareRequest.from_query(query).within()
        if isinstance(request.attack.image, str):
            engine().upload(request.attack.image)  # raises if that picture is not here
        return request

    def filled(self, query: Mapping[str, str]) -> Mapping[str, str]:
        named = [name for name in query.get("models", "").split(",") if name]
        first = {"model": named[0]} if named else {}
        known = controls.filled({name: value for name, value in query.items() if name != "model"} | first)
        titles = {card.name: card.title for card in zoo.cards() if card.dataset == known["data"]}
        usual = _usual_models(titles)[: 1 if "attacks" in query else None]
        return {"models": ",".join(usual)} | {k: v for k, v in known.items() if k != "model"}

    def current(self) -> CompareRequest:
        models, craft = list(st.session_state["models"]), st.session_state["craft"]
        if craft in models:  # the source comes first
            models = [craft, *(name for name in models if name != craft)]
        keys = [st.session_state["attack"], *st.session_state[BESIDE]]
        lead = next(
            (key for key in keys if ATTACKS[key].budget == "fixed"), keys[0]
        )  # its settings and eps are the others'
        attack = controls.current_request(models[0] if models else None, lead)
        attacks = tuple(keys) if len(keys) > 1 else ()
        return CompareRequest(attack, tuple(models), EACH if craft == EACH else TRANSFER, attacks).checked().within()

    def show(self, request: CompareRequest) -> None:
        controls.show(request.attack)
        st.session_state["models"], st.session_state["craft"] = list(request.models), request.source or EACH
        st.session_state[BESIDE] = [key for key in request.attacks if key != request.attack.attack]

    def same(self, shown: CompareRequest, request: CompareRequest) -> bool:
        lanes = attrgetter("models", "attacks", "craft")
        return lanes(shown) == lanes(request) and controls.same_walk(shown.attack, request.attack)

    def work(self, request: CompareRequest) -> Work[Comparison]:
        return compare_work(engine(), request)

    def link(self, request: CompareRequest) -> dict[str, str]:
        return {} if request.attack.is_upload else request.to_query()  # no link can carry an upload

    def every(self, request: CompareRequest) -> float:
        return min(len(request.lanes) * self.poll + request.frames * TRAVEL, LONGEST)

    def draw(self, item: Comparison, request: CompareRequest, finished: bool) -> None:
        lanes = item.lanes
        clock = _clock() if request.attacks else STEPS
        with st.container(key=f"lanes-{len(lanes)}"):
            for k, (lane, column) in enumerate(zip(lanes, st.columns(len(lanes)), strict=True)):
                with column:
                    _player(lane, k, clock, live=not finished)


COMPARE = CompareRun()


def _usual_models(titles: Mapping[str, str], chosen: str | None = None) -> list[str]:
    """Up to three models to begin with, the one chosen elsewhere among them."""
    usual = [name for name in FAVOURITES if name in titles] or sorted(titles)
    if chosen is not None and chosen in titles and chosen not in usual[:3]:
        usual = [chosen, *usual]
    return usual[:3]


def headline() -> None:
    """Which models and attacks, who the image is made on; and the button."""
    st.html(STYLES)
    titles = model_titles()
    models, beside = st.columns([3, 2])
    models.multiselect(
        "Beside each other", list(titles), key="models", persist_state="session", format_func=named(model_labels()),
        max_selections=MAX_MODELS, filter_mode="contains", wrap=True, placeholder=f"Choose 1 to {MAX_MODELS} models",
    )  # fmt: skip
    beside.multiselect(
        "and further attacks", [key for key in attack_order() if key != st.session_state["attack"]], key=BESIDE,
        persist_state="session", format_func=attack_label, max_selections=MAX_MODELS - 1, filter_mode="contains", wrap=True,
        placeholder="only the one below",
        help=f"Each attack on each model is a player: at most {MAX_MODELS} together. All have the same norm, eps, wish and seed.",
    )  # fmt: skip
    craft, attack, wish, button = row([3, 2.8, 2.2, 1.5])
    craft.selectbox(
        "The image is made",
        [EACH, *st.session_state["models"]],
        key="craft",
        persist_state="session",
        format_func=lambda c: "for each model anew" if c == EACH else f"on {titles[c]}, shown to the others",
        help="For each model anew: the attack looks at the model it is judged on. Shown to the others: a transfer attack; "
        "the others only see the finished images, so it says little about them.",
    )
    controls.attack_boxes(attack, wish)
    COMPARE.button(button)


def _clock() -> str:
    """What several attacks have in common at a moment, as chosen here."""
    chosen: str = st.segmented_control(
        "In step by", list(CLOCKS), key="compare.clock", persist_state="session", default=STEPS, required=True,
        format_func=named({STEPS: "step", PASSES: "passes spent"}),
        help="A step of one attack may cost more than one of another. By passes spent, each player stands at what its attack had "
        "found after as many forward and backward passes: the fairer race.",
    )  # fmt: skip
    return chosen


def _player(lane: ModelLane, k: int, clock: str, live: bool) -> None:
    snapshot = lane.snapshot
    trace_player(
        snapshot.trace,
        snapshot.feature_path,
        *verdicts.told(snapshot, lane.request.model),
        key=f"lane {k}",
        live=live,
        title=f"{words.lane_title(lane, COMPARE.shown)} · {words.role(lane)}",
        group=f"comparison {COMPARE.run}",  # a new run is a new group
        clock=clock,
    )


def outcome() -> None:
    """What the finished comparison showed, under which conditions."""
    future, request = COMPARE.future, COMPARE.shown
    if future is None or request is None:
        return
    st.header("What happened", anchor=False)
    comparison = future.latest
    if comparison is None or any(lane.snapshot.result is None for lane in comparison.lanes):
        ended = "No verdicts: not all walks got to their end."
        st.caption(ended if future.finished else "The verdicts come when all walks have ended.")
        return
    st.markdown(words.summary(comparison, request))
    st.markdown(words.table(comparison, request))
    for lane in comparison.lanes:
        doubt = None if lane.is_transfer else verdicts.warning(lane.request, zoo.card(lane.request.model).stochastic)
        if doubt:
            st.warning(f"**{words.lane_title(lane, request)}.** {doubt}", icon=":material/help:")
    st.caption(words.conditions(comparison, request, engine().description))
    _save(comparison, request)
    with st.expander("All conditions of every lane, and its attack as Python"):
        tabs = st.tabs([words.lane_title(lane, request) for lane in comparison.lanes])
        for lane, tab in zip(comparison.lanes, tabs, strict=True):
            with tab:
                _full_conditions(lane, lane.result)


def _save(comparison: Comparison, request: CompareRequest) -> None:
    files = []
    for k, lane in enumerate(comparison.lanes):
        name = words.lane_title(lane, request)
        export = Export(lane.request, lane.snapshot.trace, lane.result)
        page = partial(walk_page, lane.snapshot, lane.request.model, f"{name} · {words.role(lane)}")
        files.append(File(f"{name}: player (HTML)", f"{k + 1}-{export.stem}.html", page, "text/html", "play_circle"))
        files.append(
            File(f"{name}: exact arrays (npz)", f"{k + 1}-{export.stem}.npz", export.arrays, icon="data_array")
        )
    save_place(
        f"compare-{'-'.join(request.attacks or [request.attack.attack])}-{len(request.models)}-models",
        about=words.conditions(comparison, request, engine().description),
        table=of_comparison(comparison),
        files=files,
        key="compare.save",
    )


def _full_conditions(lane: ModelLane, result: Result) -> None:
    request = lane.request
    if lane.source is not None:
        st.caption(f"Made on {lane.source}: the script is that model's. Then ask this one: `model(outcome.x)`.")
        request = dataclasses.replace(request, model=lane.source)
    as_python(request.to_python(lane.snapshot.trace.label))
    as_json(result.conditions)
