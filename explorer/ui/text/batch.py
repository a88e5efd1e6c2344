"""What came of many pictures, in sentences: every share with its count, its interval and its conditions."""

from __future__ import annotations

import numpy as np

from explorer.attacks import ATTACKS, BLACK_BOX
from explorer.core.ball import NORM_NAMES
from explorer.engine.batch_result import BatchResult, FoolingRate
from explorer.engine.captions import article
from explorer.engine.rounding import share, size
from explorer.engine.transfer import PerturbationTransfer
from explorer.ui.text.attack import seconds

NO_PROOF = "That a picture holds means that this attack did not fool the model there, not that none could."


def with_interval(tally: FoolingRate) -> str:
    """ "73 %, 95 % interval 48 % to 89 %"."""
    assert tally.share is not None and tally.interval is not None  # there is nothing to say of no pictures
    rate, low, high = (share(value, tally.right) for value in (tally.share, *tally.interval))
    return f"{rate}, 95\N{NO-BREAK SPACE}% interval {low} to {high}"


def headline(strip: BatchResult) -> str:
    """What the strip shows, running or in the end."""
    tally, request = strip.fooling_rate, strip.request
    if not tally.right:
        return f"**Nothing to attack.** The model is wrong on {_all(tally.n)} before anything is changed."
    aim = "" if request.target is None else f" into {article(request.classes[request.target])}"
    right = f"{tally.right} picture{_s(tally.right)} that the model got right"
    if not strip.finished:
        step = len(next(iter(strip.curve.values()), ()))
        where = "Before the first step" if step == 0 else f"After step {step - 1} of {strip.planned - 1}"
        verb = "found a change for" if request.is_minimal else f"fooled{aim} so far:"
        return f"{where}: **{verb} {tally.fooled} of {tally.right}**."
    if request.is_minimal:
        return f"**A change was found for {tally.fooled} of the {right}**."
    return f"**Fooled{aim}: {tally.fooled} of the {right}**."


def measured(strip: BatchResult) -> str:
    """The share with its interval (none where the pictures were chosen by hand), and how far the found ones are."""
    if not strip.finished or not strip.fooling_rate.right:
        return ""
    rate = strip.fooling_rate
    words = "" if strip.request.pick == "hand" else f"That is {with_interval(rate)}. "
    return words + (_distances(strip) if strip.request.is_minimal else "")


def separated(strip: BatchResult) -> dict[str, str]:
    """All pictures in three parts, by state: a count with its word."""
    tally, so_far = strip.fooling_rate, "" if strip.finished else " so far"
    return {
        "wrong": f"{tally.wrong} wrong before any attack",
        "fooled": f"{tally.fooled} fooled by the attack{so_far}",
        "holds": f"{tally.holds} hold{'s' if tally.holds == 1 else ''}{so_far}",
    }


def _distances(strip: BatchResult) -> str:
    found, missing = strip.found, strip.fooling_rate.holds
    if not len(found):
        return ""
    norm = strip.request.norm
    middle, mean = size(float(np.median(found)), norm), size(float(found.mean()), norm)
    rest = f" {missing} not found, and in neither number." if missing else ""
    return f"Their size ({NORM_NAMES[norm]}): median {middle}, mean {mean}.{rest}"


def details(strip: BatchResult) -> list[str]:
    """The facts behind the headline of a finished strip, one sentence each."""
    request, tally, about = strip.request, strip.fooling_rate, strip.conditions
    lines = [f"{tally.n} picture{_s(tally.n)}, {request.chosen_words()}."]
    if request.pick == "hand":
        lines.append("Pictures chosen by hand stand for no others, so no interval is given.")
    else:
        lines.append("The interval covers the choice of pictures; what a stronger attack would find is not in it.")
    if strip.verdict is None:
        return lines
    if about["stochastic"]:
        lines.append(
            f"This model draws at random at every look: each verdict, before and after, is the majority of "
            f"{about['verdict_draws']} fresh draws that the attack has not seen."
        )
    if tally.holds:
        lines.append(NO_PROOF)
    fooled = strip.fooled[strip.right]
    if not request.is_minimal and tally.fooled:
        kept = int((strip.verdict.reached_8bit.numpy() & fooled).sum())
        lines.append(f"Saved as ordinary 8-bit pictures, {kept} of the {tally.fooled} still fool it.")
    outside = int((~strip.verdict.inside).sum())
    lines.append(
        f"{outside} results lie outside the allowed distance and do not count."
        if outside
        else "Every result lies inside the allowed distance and the pixel range, checked in double precision."
    )
    if about["stalled_share"] > 0:
        lines.append(
            f"{about['stalled_share']:.1%} of all gradients were zero or not finite; there the step was random."
        )
    if about["precision"] == "bfloat16":
        lines.append(
            "The gradients were computed in bfloat16, which is faster; every verdict is in float32. With precision=float32 in the "
            "link, the gradients are, too."
        )
    black = ATTACKS.entry(request.attack).group in BLACK_BOX
    kind = (
        "Black-box: the attack saw only the model's answers"
        if black
        else "White-box: the attack used the model's gradients"
    )
    spent = f"{about['forwards']:,} forward and {about['backwards']:,} backward passes for {tally.right} pictures"
    lines.append(f"{kind}; {spent} ({seconds(about['seconds'])} on {about['device']}), seed {request.seed}.")
    return lines


def applied_headline(applied: PerturbationTransfer) -> str:
    """What carried over, beside the baselines."""
    tally = applied.fooling_rate("change")
    if not tally.right:
        return f"The model is wrong on {_all(tally.n)} before anything is changed: nothing can carry over."
    noise, shuffled = (applied.fooling_rate(kind) for kind in ("noise", "shuffled"))
    done = "" if applied.finished else f" So far {len(applied.rows)} of {applied.n}."
    return (
        f"**Put on others, it fools {tally.fooled} of {tally.right}** that the model got right ({with_interval(tally)}). "
        f"Noise of the same size fools {noise.fooled}, the same change with its pixels shuffled {shuffled.fooled}.{done}"
    )


def applied_details(applied: PerturbationTransfer) -> list[str]:
    ball = f"{NORM_NAMES[applied.norm]} {size(applied.size, applied.norm)}"
    made = "on all pictures of the strip together" if applied.given is None else f"on picture {applied.given} alone"
    n, wrong = len(applied.rows), applied.fooling_rate("change").wrong
    return [
        f"The change was made {made}, on this same model; the {n} others, {applied.conditions['others_chosen']}, had no part "
        f"in it. {wrong} of them were wrong before any change and are left out of the shares.",
        f"All three lie in the same ball ({ball}) around each picture: the change, uniform noise drawn anew for each "
        "picture, and the change with its pixels moved to random places.",
        f"Verdicts on fresh looks; {seconds(applied.conditions['seconds'])} on {applied.conditions['device']}.",
    ]


def _all(n: int) -> str:
    return "this picture" if n == 1 else f"all {n} pictures"


def _s(n: int) -> str:
    return "" if n == 1 else "s"
