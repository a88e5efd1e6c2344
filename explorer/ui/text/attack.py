"""What a finished attack means, in sentences: every number as measured, with its conditions."""

from __future__ import annotations

from explorer.attacks import ATTACKS, BLACK_BOX
from explorer.core import NORMS, Trace
from explorer.engine import AttackRequest, Result, Snapshot, captions
from explorer.engine.captions import article, noun, remark
from explorer.engine.rounding import of_change, size
from explorer.evaluation.outcome import Ending
from explorer.models import zoo


def told(snapshot: Snapshot, model: str) -> tuple[list[str], tuple[int, str] | None]:
    """For the player: one sentence a frame, and what the verdict adds to one of them."""
    stochastic, result = zoo.card(model).stochastic, snapshot.result
    said = None if result is None else (result.best, remark(snapshot.trace, result, stochastic))
    return captions(snapshot.trace, None, stochastic), said


def headline(trace: Trace, result: Result, request: AttackRequest) -> tuple[bool, str]:
    """Whether the attack reached its goal on fresh looks, and one sentence that says so."""
    if request.is_minimal:
        return _smallest(trace, result, request)
    verdict, ending = result.verdict, result.ending
    sees, true = trace.classes[int(verdict.predicted[0])], trace.classes[trace.label]
    within = f"within {request.allowed}"
    if ending is Ending.WRONG_BEFORE:
        return True, _wrong_before(trace)
    if not bool(verdict.inside[0]):
        return False, f"The result lies outside the allowed distance ({within}) and does not count."
    if ending is Ending.FOOLED:
        return True, f"**Fooled.** The model now sees {article(sees)} instead of {article(true)}, {within}."
    if ending is Ending.TARGET_MISSED and trace.target is not None:
        wish = trace.classes[trace.target]
        return False, f"**Not reached.** The model sees {article(sees)}, not {article(wish)}, {within}. {NO_PROOF}"
    return False, f"**Holds.** The model still sees {article(sees)}, {within}. {NO_PROOF}"


def state(result: Result) -> str:
    """The verdict in one word, which stands for its colour, too: "fooled", "holds", or "wrong" where the attack had nothing
    to do or its result does not count."""
    if result.ending is Ending.WRONG_BEFORE or not bool(result.verdict.inside[0]):
        return "wrong"
    return "fooled" if result.ending is Ending.FOOLED else "holds"


HELP = {  # words that are no everyday ones, each with what it means
    "White-box": "White-box: the attack may look inside the model and use its gradients, which say how the answer changes with "
    "each pixel. It is the strongest position an attacker can have.",
    "Black-box": "Black-box: the attack only sees the model's answers, as somebody who uses it through the internet.",
    "L∞": "L∞ (L-infinity) measures a change by the pixel that changes most: within 8/255 no pixel's brightness moves by more than "
    "8 of its 255 steps.",
    "L2": "L2 measures a change by its Euclidean length: the root of the sum of all squared pixel changes, with pixels from 0 to 1.",
    "margin": "The margin is the logit (raw score) of the true class minus the largest other one: above zero the model is right.",
}


def help_for(sentence: str) -> str | None:
    """What the uncommon words of a sentence mean; None if it has none."""
    return "\n\n".join(about for word, about in HELP.items() if word in sentence) or None


def _wrong_before(trace: Trace) -> str:
    """Of a random model, whose mean answer may be right although most looks are wrong, nothing is said that is not so."""
    true, before = trace.classes[trace.label], trace.classes[int(trace.predicted[0])]
    takes = (
        f"takes this {noun(true)} for {article(before)}"
        if before != true
        else f"does not see {article(true)} most times"
    )
    return f"**Wrong from the start.** The model {takes} before anything is changed."


NO_PROOF = "That this walk found nothing is no proof that nothing is there."


def _smallest(trace: Trace, result: Result, request: AttackRequest) -> tuple[bool, str]:
    """The headline of a search for the smallest change: how far it had to go, or that it failed."""
    verdict, true = result.verdict, trace.classes[trace.label]
    sees = trace.classes[int(verdict.predicted[0])]
    if not bool(trace.reached[result.best]):
        wish = f"anything but {article(true)}" if trace.target is None else article(trace.classes[trace.target])
        return False, f"**Nothing found.** No change was found that makes the model see {wish}. {NO_PROOF}"
    if result.ending is Ending.WRONG_BEFORE:
        return True, f"**Nothing to do.** The model sees {article(sees)} instead of {article(true)} before any change."
    length = of_change(float(verdict.distance[0]), request.norm)
    if not bool(verdict.inside[0]):
        return False, "The result lies outside the pixel range and does not count."
    if result.ending is not Ending.FOOLED:
        return (
            False,
            f"**Not confirmed.** The smallest change found {length}, but on fresh looks the model sees {article(sees)}.",
        )
    return (
        True,
        f"**Fooled.** The model now sees {article(sees)} instead of {article(true)}. The smallest change found {length}.",
    )


def details(trace: Trace, result: Result, request: AttackRequest, stochastic: bool) -> list[str]:
    """The facts behind the headline, one sentence each."""
    verdict, about = result.verdict, result.conditions
    lines = []
    if result.best != len(trace) - 1:
        lines.append(
            f"What is judged is the picture {_when(result.best)}, the best that was found, not the last one of the walk."
        )
    if stochastic:
        share = round(float(verdict.share[0]) * verdict.draws)
        lines.append(
            f"This model draws at random at every look: of {verdict.draws} fresh looks at the result, "
            f"{share} {'was' if share == 1 else 'were'} as the attack wished."
        )
    sparse = {"l1": " Sum of all changes (L1): {}.", "l0": " Changed (L0): {}."}.get(request.norm, "")
    own = sparse.format(size(float(verdict.distance[0]), request.norm))
    limits = "the allowed distance" if request.norm in NORMS else "the allowed limits"
    if trace.notes and request.norm not in NORMS:
        lines.append(trace.notes[result.best])
    lines.append(
        f"Largest change of any pixel: {size(float(verdict.linf[0]), 'linf')}. Length of the change (L2): "
        f"{size(float(verdict.l2[0]), 'l2')}.{own} Inside {'' if request.is_minimal else f'{limits} and '}the pixel range, "
        "checked in double precision."
    )
    lines.append(saved(bool(verdict.reached[0]), bool(verdict.reached_8bit[0])))
    if "domains" in about:
        lines.append(_several(about["domains"]))
    if about["stalled_share"] > 0:
        lines.append(
            f"At {about['stalled_share']:.0%} of the visited points the gradient was zero or not finite; "
            "there the attack took a random step."
        )
    where = f"({seconds(about['seconds'])} on {about['device']}), seed {request.seed}."
    if ATTACKS.entry(request.attack).group in BLACK_BOX:
        lines.append(
            f"Black-box: the attack saw only this model's answers, in {about['forwards']:,} forward passes {where}"
        )
    else:
        lines.append(
            f"White-box: the attack used this model's own gradients{_and_others(request)}, in {about['forwards']:,} forward and "
            f"{about['backwards']:,} backward passes {where}"
        )
    return lines


def _when(frame: int) -> str:
    """As the player counts."""
    return {0: "before any change", 1: "at the start"}.get(frame, f"after step {frame - 1}")


def warning(request: AttackRequest, stochastic: bool) -> str | None:
    """What makes the result look stronger than it is, if anything."""
    if stochastic and request.draws == 1:
        black = ATTACKS.entry(request.attack).group in BLACK_BOX
        trouble = "the answers it compares differ by luck" if black else "its gradients point at a moving target"
        return (
            f"This model is random, and the attack looked at one draw per step: {trouble}. "
            "A model that holds here is not robust yet. Set *draws per step* to 20 for an adaptive attack."
        )
    return None


def _and_others(request: AttackRequest) -> str:
    return " and those of the other models" if request.hyper.get("models") else ""


def _several(domains: list[dict]) -> str:
    """What an attack on several models or norms learned, at the frame that counts."""
    weights = ", ".join(f"{d['name']} {d['weight']:.2f}" for d in domains)
    reached = [d["name"] for d in domains if d["reached"]]
    where = "everywhere" if len(reached) == len(domains) else f"only for {', '.join(reached)}" if reached else "nowhere"
    return (
        f"Learned weights when the result was found: {weights}; the more weight, the harder it was to move. "
        f"As the attack saw it, the result reaches its goal {where}."
    )


def saved(reached: bool, reached_8bit: bool) -> str:
    """What rounding to 8 bits makes of the result."""
    if reached and reached_8bit:
        return "It survives being saved as an ordinary 8-bit picture."
    if reached:
        return "**Rounding undoes it:** saved as an ordinary 8-bit picture, the result no longer fools the model."
    return "Rounded to 8 bits, as in a saved picture, the outcome is " + (
        "different: fooled." if reached_8bit else "the same."
    )


def seconds(value: float) -> str:
    """Two digits, or whole seconds: "0.42 s", "116 s"."""
    return f"{value:.2g} s" if value < 99.5 else f"{value:,.0f} s"
