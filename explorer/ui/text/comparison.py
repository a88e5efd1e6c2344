"""What a comparison of models came to, in sentences and a table: each lane's verdict; a transfer is told from an attack."""

from __future__ import annotations

from explorer.attacks import ATTACKS
from explorer.core.ball import THREAT_NAMES
from explorer.engine import AttackRequest, eps_text
from explorer.engine.captions import article, noun
from explorer.engine.compare import CompareRequest, Comparison, ModelLane
from explorer.engine.rounding import percent, size
from explorer.evaluation.outcome import Ending
from explorer.models import zoo
from explorer.ui.text import attack as verdicts

NO_ROBUSTNESS = (
    "A model that a transferred image does not fool is not thereby robust: the attack never looked at it. "
    "To learn how robust it is, attack it itself."
)


def summary(comparison: Comparison, request: CompareRequest) -> str:
    """One or two sentences over all lanes; a transfer is told apart from an attack on the model itself."""
    attacked = [lane for lane in comparison.lanes if not lane.is_transfer]
    shown = [lane for lane in comparison.lanes if lane.is_transfer]
    if not shown:
        fooled = sum(lane.fooled for lane in attacked)
        if request.attacks and len(request.models) == 1:
            return f"**{fooled} of {len(attacked)} attacks fool {title(request.models[0])}**, each from the same untouched picture."
        if request.attacks:
            return f"**{fooled} of {len(attacked)} attacks fool their model**, each made on the model itself."
        return f"**{fooled} of {len(attacked)} models fooled**, each by an attack made on the model itself."
    (source,) = attacked
    whom = title(source.request.model) if _partners(source) else "it"
    fooled = sum(lane.fooled for lane in shown)
    worked = f"fools {whom}" if source.fooled else f"does not fool {whom}"
    others = "1 other model" if len(shown) == 1 else f"{len(shown)} other models"
    return (
        f"**Transfer.** The image made on {_made_on(source)} {worked}; shown to {others}, it fools **{fooled} of {len(shown)}**. "
        f"{NO_ROBUSTNESS}"
    )


def table(comparison: Comparison, request: CompareRequest) -> str:
    """One row a lane, as Markdown."""
    rows = [
        "| Model | Image | Verdict | Sure | First fooled | Passes | Change, L∞ and L2 |",
        "|---|---|---|---|---|---|---|",
    ]
    rows += ["| " + " | ".join(row(lane, request)) + " |" for lane in comparison.lanes]
    return "\n".join(rows)


def row(lane: ModelLane, request: CompareRequest) -> list[str]:
    """What one lane came to, in words; every number is that of the image that counts."""
    trace, result = lane.snapshot.trace, lane.result
    k = int(trace.predicted[result.best])
    draws = trace.conditions["draws"] if zoo.card(lane.request.model).stochastic else 1
    sure = f"{percent(float(trace.probabilities[result.best, k]))} {noun(trace.classes[k])}"
    return [
        f"**{lane_title(lane, request)}**",
        role(lane),
        sentence(lane),
        sure + (f", over {draws} draws" if draws > 1 else ""),
        _first(lane),
        f"{_passes(lane):,}",
        f"{size(float(result.verdict.linf[0]), 'linf')}, {size(float(result.verdict.l2[0]), 'l2')}",
    ]


def lane_title(lane: ModelLane, request: CompareRequest | None) -> str:
    """The model of a lane, and its attack where several are compared."""
    several = request is not None and request.attacks
    return title(lane.request.model) + (f", {ATTACKS.entry(lane.request.attack).title}" if several else "")


def _passes(lane: ModelLane) -> int:
    """Forward and backward passes that the lane's own model took."""
    made: int = lane.result.conditions["forwards"] + lane.result.conditions["backwards"]
    return made


def role(lane: ModelLane) -> str:
    """How the image on show came about: "white-box", "source, white-box" or "transfer from Baseline"."""
    if lane.is_transfer:
        return f"transfer from {_made_on(lane)}"
    threat = lane.snapshot.trace.conditions["threat"]
    beside = "".join(f", with {title(name)}" for name in _partners(lane))
    return f"source, {threat}{beside}" if lane.is_source else threat + beside


def sentence(lane: ModelLane) -> str:
    """The verdict on fresh looks. Of a transfer it never says that the model holds."""
    trace, result, request = lane.snapshot.trace, lane.result, lane.request
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
    trace, verdict = lane.snapshot.trace, lane.result.verdict
    sees, true = (article(trace.classes[k]) for k in (int(verdict.predicted[0]), trace.label))
    if lane.result.ending is Ending.WRONG_BEFORE:
        sees = article(trace.classes[int(trace.predicted[0])])
        return f"**Wrong from the start.** This model takes it for {sees} before anything is changed: no transfer was needed."
    if lane.result.ending is Ending.FOOLED:
        return f"**Fooled by transfer.** This model sees {sees} instead of {true}."
    wish = "" if trace.target is None else f", not {article(trace.classes[trace.target])}"
    return f"**Transfer fails.** This model sees {sees}{wish}; that is no measure of its own robustness."


def _first(lane: ModelLane) -> str:
    """The first frame at which the goal holds, named as in the player."""
    trace = lane.snapshot.trace
    if trace.wrong_before:
        return "before any change"
    first = trace.first_reached
    if first is None:
        return "never"
    return "at the start" if first == 1 else f"step {first - 1} of {max(len(trace) - 2, 1)}"


def conditions(comparison: Comparison, request: CompareRequest, device: str) -> str:
    """What holds for all lanes, in one line."""
    attack, entry = request.attack, ATTACKS.entry(request.attack.attack)
    allowed = "no eps: it looks for the smallest change" if attack.is_minimal else f"eps {eps_text(attack.eps)}"
    label = comparison.lanes[0].snapshot.trace.conditions["label_known"]
    guess = "" if label else " Nobody said what the picture shows: each model is turned away from its own first guess."
    which = f"{entry.title}{_effort(attack)}"
    if request.attacks:
        which = " beside ".join(
            ATTACKS.entry(lane.attack).title + _effort(lane) for lane in request.lanes[: len(request.attacks)]
        )
    return (
        f"Same picture, {which}; {THREAT_NAMES[attack.norm]}, {allowed}, "
        f"seed {attack.seed}, in every lane; {verdicts.seconds(comparison.seconds)} on {device}. One picture shows how an "
        f"attack goes, not how robust a model is: the Models page has the shares of many.{guess}"
    )


def _effort(attack: AttackRequest) -> str:
    """Steps, restarts and draws, as far as the attack has them."""
    words = {"steps": "step", "restarts": "restart", "draws": "draw"}
    found = {word: getattr(attack.method, name) for name, word in words.items() if hasattr(attack.method, name)}
    return "".join(f", {n} {word}{'' if n == 1 else 's'}" for word, n in found.items())


def _made_on(lane: ModelLane) -> str:
    """The model whose answers made the image, and those an attack on several had beside it."""
    return " and ".join(map(title, (lane.source or lane.request.model, *_partners(lane))))


def _partners(lane: ModelLane) -> tuple[str, ...]:
    return lane.request.method.partners


def title(model: str) -> str:
    """What a model is called."""
    return zoo.card(model).title
