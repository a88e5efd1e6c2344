"""What a finished attack means, in sentences: every number as measured, with its conditions."""

from __future__ import annotations

import math

from explorer.attacks import ATTACKS, BLACK_BOX
from explorer.core import Trace
from explorer.engine import AttackRequest, Result, eps_text
from explorer.engine.captions import article, noun

NORM_NAMES = {"linf": "L∞", "l2": "L2"}


def headline(trace: Trace, result: Result, request: AttackRequest) -> tuple[bool, str]:
    """Whether the attack reached its goal on fresh looks, and one sentence that says so."""
    if request.is_minimal:
        return _smallest(trace, result, request)
    verdict = result.verdict
    reached = bool(verdict.reached[0])
    sees, true = trace.classes[int(verdict.predicted[0])], trace.classes[trace.label]
    within = f"within {NORM_NAMES[request.norm]} {eps_text(request.eps)}"
    if not bool(verdict.inside[0]):
        return False, f"The result lies outside the allowed distance ({within}) and does not count."
    if reached and bool(trace.reached[0]):
        before = trace.classes[int(trace.predicted[0])]
        return (
            True,
            f"**Wrong from the start.** The model takes this {noun(true)} for {article(before)} before anything is changed.",
        )
    if reached:
        return True, f"**Fooled.** The model now sees {article(sees)} instead of {article(true)}, {within}."
    if trace.target is not None:
        wish = trace.classes[trace.target]
        return False, f"**Not reached.** The model sees {article(sees)}, not {article(wish)}, {within}. {NO_PROOF}"
    return False, f"**Holds.** The model still sees {article(sees)}, {within}. {NO_PROOF}"


NO_PROOF = "That this walk found nothing is no proof that nothing is there."


def _smallest(trace: Trace, result: Result, request: AttackRequest) -> tuple[bool, str]:
    """The headline of a search for the smallest change: how far it had to go, or that it failed."""
    verdict, true = result.verdict, trace.classes[trace.label]
    sees = trace.classes[int(verdict.predicted[0])]
    if not bool(trace.reached[result.best]):
        wish = f"anything but {article(true)}" if trace.target is None else article(trace.classes[trace.target])
        return False, f"**Nothing found.** No change was found that makes the model see {wish}. {NO_PROOF}"
    if float(verdict.linf[0]) == 0:
        return True, f"**Nothing to do.** The model sees {article(sees)} instead of {article(true)} before any change."
    if request.norm == "l2":
        length = f"has length {float(verdict.l2[0]):.3g} (L2)"
    else:
        levels = math.ceil(25500 * float(verdict.linf[0]) - 1e-6) / 100  # up, so that the sentence stays true
        length = f"moves no pixel by more than {levels:g}/255 (L∞)"
    if not bool(verdict.inside[0]):
        return False, "The result lies outside the pixel range and does not count."
    if not bool(verdict.reached[0]):
        return (
            False,
            f"**Does not hold.** The smallest change found {length}, but on fresh looks the model sees {article(sees)}.",
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
    lines.append(
        f"Largest change of any pixel: {_floor_levels(float(verdict.linf[0]))}/255. Length of the change (L2): "
        f"{float(verdict.l2[0]):.3f}. Inside {'' if request.is_minimal else 'the allowed distance and '}the pixel range, "
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


def _floor_levels(linf: float) -> str:
    return f"{linf * 255:.2f}".rstrip("0").rstrip(".")


def seconds(value: float) -> str:
    """Two digits, or whole seconds: "0.42 s", "116 s"."""
    return f"{value:.2g} s" if value < 99.5 else f"{value:,.0f} s"
