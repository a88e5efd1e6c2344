"""Several models beside each other: their controls, their players in step, and what came out, lane by lane."""

from __future__ import annotations

import dataclasses
import json

import streamlit as st

from explorer.attacks import ATTACKS
from explorer.core import ExplorerError
from explorer.engine import AttackRequest, Future, captions, eps_text
from explorer.engine.captions import article, noun, percent
from explorer.engine.compare import (
    EACH,
    MAX_MODELS,
    MIN_MODELS,
    TRANSFER,
    CompareRequest,
    Comparison,
    ModelLane,
    compare_work,
)
from explorer.models import zoo
from explorer.ui import controls, stage, verdicts
from explorer.ui.forms import put
from explorer.ui.session import engine, look_again, session_id, still_open
from explorer.ui.trace_player import trace_player

FAVOURITES = ("cifar10/baseline", "cifar10/pgd-linf", "cifar10/lwta")  # shown first: they fall at different steps
TRAVEL = 0.001  # seconds for a recorded image to reach a browser, on a busy machine
LONGEST = 1.5  # seconds between two looks at a running comparison
FUTURE, SHOWN, RUN = "compare.future", "compare.shown", "compare.run"

NO_ROBUSTNESS = (
    "A model that a transferred image does not fool is not thereby robust: the attack never looked at it. "
    "To learn how robust it is, attack it itself."
)

# How many lanes stand in one row depends on the room there is, not on the window: the sidebar may be closed.
_CSS = """
<style>
[class*="st-key-lanes-"] { container-type: inline-size; }
[class*="st-key-lanes-"] [data-testid="stHorizontalBlock"] { display: grid; grid-template-columns: minmax(0, 1fr); gap: 1.2rem; }
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


# What is compared


def open_first() -> None:
    """The page opens with a comparison being played: the link's, else what another page chose, else a good one."""
    state = st.session_state
    back = stage.gone_back()
    if FUTURE in state and not back:
        return
    query = st.query_params.to_dict()
    if not query and "image" in state:
        st.session_state.setdefault("models", _usual_models(state["dataset"], state.get("model")))
        begin()
        return
    request, complaint = _first_request(query)
    if back and is_shown(request):
        return
    controls.show(request.attack)
    state["models"], state["craft"] = list(request.models), request.source or EACH
    start(request)
    if complaint:
        state["notice"] = complaint


def _first_request(query: dict[str, str]) -> tuple[CompareRequest, str | None]:
    """What the address bar asks for, else the default; with one sentence if the address could not be followed."""
    complaint = None
    if query:
        try:
            request = CompareRequest.from_query(query).within()
            if request.attack.is_upload:
                engine().upload(request.attack.image)  # raises if that picture is not here
            return request, None
        except ExplorerError as error:
            complaint = controls.not_followed(error)
    attack = controls.default_request()
    return CompareRequest(attack, tuple(_usual_models(attack.dataset))).checked(), complaint


def _usual_models(dataset: str, chosen: str | None = None) -> list[str]:
    """Up to three models of a dataset to begin with, the one chosen elsewhere among them."""
    known = [card.name for card in zoo.cards() if card.dataset == dataset]
    usual = [name for name in FAVOURITES if name in known] or known
    if chosen in known and chosen not in usual[:3]:
        usual = [chosen, *usual]
    return usual[:3]


def chosen_models() -> list[str]:
    """The models on the page, those of another dataset left out."""
    state = st.session_state
    titles = controls.model_titles()
    kept = [name for name in state.get("models", []) if name in titles]
    if not kept and state.get("models"):  # another dataset was chosen
        kept = _usual_models(state["dataset"])
    put("models", kept)
    return kept


def headline() -> None:
    """Which models, who the image is made on, which attack; and the button."""
    titles = controls.model_titles()
    models = chosen_models()
    st.multiselect(
        "Beside each other", list(titles), key="models", persist_state="session", format_func=titles.get, max_selections=MAX_MODELS,
        placeholder=f"Choose {MIN_MODELS} to {MAX_MODELS} models",
    )  # fmt: skip
    crafts = [EACH, *models]
    st.session_state.setdefault("craft", EACH)
    if st.session_state["craft"] not in crafts:
        st.session_state["craft"] = EACH
    craft, *others = st.columns([3, 2.8, 2.2, 1.5], vertical_alignment="bottom")
    craft.selectbox(
        "The image is made",
        crafts,
        key="craft",
        persist_state="session",
        format_func=lambda c: "for each model anew" if c == EACH else f"on {titles[c]}, shown to the others",
        help="For each model anew: the attack looks at the model it is judged on. Shown to the others: a transfer attack; "
        "the others only see the finished images, so it says little about them.",
    )
    controls.attack_row(others, running(), begin=begin, cancel=cancel)


def current_request() -> CompareRequest:
    """What the controls say, checked; raises ExplorerError with one sentence."""
    state = st.session_state
    models, craft = list(state["models"]), state.get("craft", EACH)
    if craft in models:  # the source comes first
        models = [craft, *(name for name in models if name != craft)]
    attack = controls.current_request(models[0] if models else None)
    return CompareRequest(attack, tuple(models), EACH if craft == EACH else TRANSFER).checked().within()


# Running it


def start(request: CompareRequest) -> None:
    """Begin a comparison for this session; an earlier one still running is stopped."""
    state = st.session_state
    if running():
        state[FUTURE].cancel()
    state[SHOWN], state[RUN] = request, state.get(RUN, 0) + 1
    try:
        state[FUTURE] = engine().submit(session_id(), compare_work(engine(), request), alive=still_open())
    except ExplorerError as error:
        state[FUTURE], state["notice"] = None, str(error)


def begin() -> None:
    """Compare with what the controls say; a request that cannot be made becomes a notice."""
    try:
        start(current_request())
    except ExplorerError as error:
        st.session_state.setdefault(FUTURE, None)
        st.session_state["notice"] = str(error)


def running() -> bool:
    """Whether this session's comparison is under way."""
    future: Future[Comparison] | None = st.session_state.get(FUTURE)
    return future is not None and not future.finished


def cancel() -> None:
    """Stop this session's comparison; waits a moment, so that the page drawn next already says so."""
    future: Future[Comparison] = st.session_state[FUTURE]
    future.cancel()
    future.wait(1)


def is_shown(request: CompareRequest) -> bool:
    """Whether the walks on the page are this request's."""
    shown: CompareRequest | None = st.session_state.get(SHOWN)
    same = shown is not None and (shown.models, shown.craft) == (request.models, request.craft)
    return same and stage.same_walk(shown.attack, request.attack)


def watch() -> None:
    """The players; looks at a running comparison again and again, and stands still when it has ended."""
    future: Future[Comparison] | None = st.session_state.get(FUTURE)
    if future is None:
        return
    st.html(_CSS)
    shown: CompareRequest = st.session_state[SHOWN]
    stage.set_link({} if shown.attack.is_upload else shown.to_query())  # an upload has no link
    polling = not future.finished
    pause = min(len(shown.models) * stage.POLL + shown.frames * TRAVEL, LONGEST)  # all walks travel whole each time
    look_again(_lanes, future, polling, every=pause if polling else None, key="compare stage")


def _lanes(future: Future[Comparison], polling: bool) -> None:
    stage.await_first(future)
    finished, comparison = future.finished, future.latest
    if comparison is not None:
        lanes = comparison.lanes
        with st.container(key=f"lanes-{len(lanes)}"):
            for k, (lane, column) in enumerate(zip(lanes, st.columns(len(lanes)), strict=True)):
                with column:
                    _player(lane, k, live=not finished)
    stage.say_how_it_stands(future, polling)


def _player(lane: ModelLane, k: int, live: bool) -> None:
    snapshot = lane.snapshot
    lines = captions(snapshot.trace, snapshot.result, zoo.card(lane.request.model).stochastic)
    trace_player(
        snapshot.trace,
        snapshot.feature_path,
        lines,
        key=f"lane {k}",
        live=live,
        title=f"{_title(lane.request.model)} · {role(lane)}",
        group=f"comparison {st.session_state[RUN]}",  # a new run is a new group
    )


# What came out


def outcome() -> None:
    """What the finished comparison showed, under which conditions."""
    future: Future[Comparison] | None = st.session_state.get(FUTURE)
    if future is None:
        return
    st.subheader("What happened", anchor=False)
    comparison = future.latest
    if comparison is None or any(lane.snapshot.result is None for lane in comparison.lanes):
        st.caption(
            "No verdicts: not all walks got to their end."
            if future.finished
            else "The verdicts come when all walks have ended."
        )
        return
    request: CompareRequest = st.session_state[SHOWN]
    st.markdown(summary(comparison, request))
    st.markdown(table(comparison))
    for lane in comparison.lanes:
        doubt = None if lane.is_transfer else verdicts.warning(lane.request, zoo.card(lane.request.model).stochastic)
        if doubt:
            st.warning(f"**{_title(lane.request.model)}.** {doubt}", icon=":material/help:")
    st.caption(conditions(comparison, request))
    with st.expander("All conditions of every lane, and its attack as Python"):
        for lane, tab in zip(
            comparison.lanes, st.tabs([_title(lane.request.model) for lane in comparison.lanes]), strict=True
        ):
            with tab:
                _full_conditions(lane)


def summary(comparison: Comparison, request: CompareRequest) -> str:
    """One or two sentences over all lanes; a transfer is told apart from an attack on the model itself."""
    attacked = [lane for lane in comparison.lanes if not lane.is_transfer]
    shown = [lane for lane in comparison.lanes if lane.is_transfer]
    if not shown:
        fooled = sum(_counts(lane) for lane in attacked)
        return f"**{fooled} of {len(attacked)} models fooled**, each by an attack made on the model itself."
    (source,) = attacked
    whom = _title(source.request.model) if _partners(source) else "it"
    fooled = sum(_counts(lane) for lane in shown)
    worked = f"fools {whom}" if _counts(source) else f"does not fool {whom}"
    others = "1 other model" if len(shown) == 1 else f"{len(shown)} other models"
    return (
        f"**Transfer.** The image made on {_made_on(source)} {worked}; shown to {others}, it fools **{fooled} of {len(shown)}**. "
        f"{NO_ROBUSTNESS}"
    )


def table(comparison: Comparison) -> str:
    """One row a lane, as Markdown."""
    rows = [
        "| Model | Image | Verdict | Sure | First fooled | Change, L∞ and L2 |",
        "|---|---|---|---|---|---|",
    ]
    rows += ["| " + " | ".join(row(lane)) + " |" for lane in comparison.lanes]
    return "\n".join(rows)


def row(lane: ModelLane) -> list[str]:
    """What one lane came to, in words; every number is that of the image that counts."""
    trace, result = lane.snapshot.trace, lane.snapshot.result
    k = int(trace.predicted[result.best])
    draws = trace.conditions["draws"] if zoo.card(lane.request.model).stochastic else 1
    sure = f"{percent(trace.probabilities[result.best, k])} {noun(trace.classes[k])}"
    return [
        f"**{_title(lane.request.model)}**",
        role(lane),
        sentence(lane),
        sure + (f", over {draws} draws" if draws > 1 else ""),
        _first(lane),
        f"{255 * float(result.verdict.linf[0]):.3g}/255, {float(result.verdict.l2[0]):.3g}",
    ]


def role(lane: ModelLane) -> str:
    """How the image on show came about: "white-box", "source, white-box" or "transfer from Baseline"."""
    if lane.is_transfer:
        return f"transfer from {_made_on(lane)}"
    threat = lane.snapshot.trace.conditions["threat"]
    beside = "".join(f", with {_title(name)}" for name in _partners(lane))
    return f"source, {threat}{beside}" if lane.is_source else threat + beside


def sentence(lane: ModelLane) -> str:
    """The verdict on fresh looks. Of a transfer it never says that the model holds."""
    trace, result, request = lane.snapshot.trace, lane.snapshot.result, lane.request
    stochastic = zoo.card(request.model).stochastic
    if not lane.is_transfer:
        words = verdicts.headline(trace, result, request)[1]
    else:
        words = _of_transfer(lane)
    verdict = result.verdict
    if stochastic:
        hits = round(float(verdict.share[0]) * verdict.draws)
        words += f" ({hits} of {verdict.draws} fresh looks went as the attack wished.)"
    if bool(verdict.reached[0]) and not bool(verdict.reached_8bit[0]):
        words += f" Rounding to 8 bits undoes the {'transfer' if lane.is_transfer else 'attack'}."
    return words


def _of_transfer(lane: ModelLane) -> str:
    trace, verdict = lane.snapshot.trace, lane.snapshot.result.verdict
    sees, true = (article(trace.classes[k]) for k in (int(verdict.predicted[0]), trace.label))
    if bool(trace.reached[0]) and bool(verdict.reached[0]):
        return f"**Wrong from the start.** This model takes it for {sees} before anything is changed: no transfer was needed."
    if bool(verdict.reached[0]):
        return f"**Fooled by transfer.** This model sees {sees} instead of {true}."
    wish = "" if trace.target is None else f", not {article(trace.classes[trace.target])}"
    return f"**Transfer fails.** This model sees {sees}{wish}; that is no measure of its own robustness."


def _counts(lane: ModelLane) -> bool:
    """Whether the image that counts fools the model, and something was changed to that end."""
    trace, result = lane.snapshot.trace, lane.snapshot.result
    found = not trace.minimal or lane.is_transfer or bool(trace.reached[result.best])
    return bool(result.verdict.reached[0] & result.verdict.inside[0]) and found and not bool(trace.reached[0])


def _first(lane: ModelLane) -> str:
    """The first frame at which the goal holds, named as in the player."""
    trace = lane.snapshot.trace
    if trace.reached[0]:
        return "before any change"
    first = trace.first_reached
    if first is None:
        return "never"
    return "at the start" if first == 1 else f"step {first - 1} of {max(len(trace) - 2, 1)}"


def conditions(comparison: Comparison, request: CompareRequest) -> str:
    """What holds for all lanes, in one line."""
    attack, entry = request.attack, ATTACKS.entry(request.attack.attack)
    size = "no eps: it looks for the smallest change" if attack.is_minimal else f"eps {eps_text(attack.eps)}"
    label = comparison.lanes[0].snapshot.trace.conditions["label_known"]
    guess = "" if label else " Nobody said what the picture shows: each model is turned away from its own first guess."
    return (
        f"Same picture, {entry.title}, {verdicts.NORM_NAMES[attack.norm]}, {size}{_effort(attack)}, "
        f"seed {attack.seed}, in every lane; {verdicts.seconds(comparison.seconds)} on {engine().description}. One picture shows how an "
        f"attack goes, not how robust a model is: the Models page has the shares of many.{guess}"
    )


def _effort(attack: AttackRequest) -> str:
    """Steps, restarts and draws, as far as the attack has them."""
    words = {"steps": "step", "restarts": "restart", "draws": "draw"}
    found = {word: getattr(attack.method, name) for name, word in words.items() if hasattr(attack.method, name)}
    return "".join(f", {n} {word}{'' if n == 1 else 's'}" for word, n in found.items())


def _full_conditions(lane: ModelLane) -> None:
    trace = lane.snapshot.trace
    if lane.is_transfer:
        st.caption(f"Made on {lane.source}: the script is that model's. Then ask this one: `model(outcome.x)`.")
        st.code(
            dataclasses.replace(lane.request, model=lane.source).to_python(trace.label),
            language="python",
            wrap_lines=True,
        )
    else:
        st.code(lane.request.to_python(trace.label), language="python", wrap_lines=True)
    st.code(json.dumps(lane.snapshot.result.conditions, indent=1, ensure_ascii=False), language="json")


def _made_on(lane: ModelLane) -> str:
    """The model whose answers made the image, and those an attack on several had beside it."""
    return " and ".join(map(_title, (lane.source or lane.request.model, *_partners(lane))))


def _partners(lane: ModelLane) -> tuple[str, ...]:
    return lane.request.method.partners


def _title(model: str) -> str:
    return zoo.card(model).title
