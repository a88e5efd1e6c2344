"""Words about an attack of one's own: what came of it on a picture, judged outside, and what it did on the way."""

from __future__ import annotations

from collections.abc import Sequence

from explorer.api.own_attacks import OwnResult
from explorer.core import Ball
from explorer.core.ball import NORM_NAMES
from explorer.engine import eps_text
from explorer.engine.captions import article
from explorer.engine.rounding import size
from explorer.evaluation.measure import single_eps
from explorer.evaluation.outcome import Ending
from explorer.ui.text.attack import NO_PROOF, saved

ABOUT = (
    "A Python file with a function `attack(model, x, y, eps)` that returns the attacked images. It runs confined, with a copy of the "
    "model above, on the picture above, within the norm and eps of the settings. Its steps are the inputs at which it asks the copy; "
    "what it returns is judged outside, by the true model."
)
EXAMPLE = """import torch
import torch.nn.functional as F


def attack(model, x, y, eps):
    adv = x.clone()
    for _ in range(10):
        adv.requires_grad_(True)
        (gradient,) = torch.autograd.grad(F.cross_entropy(model(adv), y), adv)
        adv = adv.detach() + eps / 4 * gradient.sign()
        adv = torch.clamp(adv, x - eps, x + eps).clamp(0, 1)
    return adv
"""
NO_FAULT = "No fault was found, which is no proof that there is none."


def within(ball: Ball) -> str:
    """ "L∞ 8/255"."""
    return f"{NORM_NAMES[ball.norm]} {eps_text(single_eps(ball))}"


def headline(result: OwnResult, classes: Sequence[str], ball: Ball) -> tuple[str, str]:
    """The state that gives its colour ("fooled", "holds", "wrong"), and the verdict in one sentence."""
    verdict, trace, came_of = result.verdict, result.traces[0], result.endings[0]
    sees, true = classes[int(verdict.predicted[0])], classes[trace.label]
    if came_of is Ending.WRONG_BEFORE:
        return "wrong", f"**Wrong from the start.** The model does not see {article(true)} before anything is changed."
    if not bool(verdict.inside[0]):
        return "wrong", f"What it returns lies outside the allowed distance (within {within(ball)}) and does not count."
    if came_of is Ending.FOOLED:
        return (
            "fooled",
            f"**Fooled.** The model now sees {article(sees)} instead of {article(true)}, within {within(ball)}.",
        )
    return "holds", f"**Holds.** The model still sees {article(sees)}, within {within(ball)}. {NO_PROOF}"


def details(result: OwnResult, ball: Ball) -> list[str]:
    """The facts behind the headline, one sentence each."""
    verdict, walked, trace = result.verdict, result.walked, result.traces[0]
    lines = [
        f"Largest change of any pixel: {size(float(verdict.linf[0]), 'linf')}. Length of the change (L2): "
        f"{size(float(verdict.l2[0]), 'l2')}.",
        saved(bool(verdict.reached[0]), bool(verdict.reached_8bit[0])),
        f"It asked the model {_times(walked.forwards)}, and {_times(walked.backwards)} for a gradient; the player's last step is "
        "what it returned.",
    ]
    if result.left_at is not None:
        lines.append(f"Step {result.left_at} is the first outside {within(ball)} or the pixel range.")
    lines += [f"It left something behind: {words}." for words in walked.left]
    if verdict.draws > 1:
        share = round(float(verdict.share[0]) * verdict.draws)
        lines.append(f"The model draws at random: of {verdict.draws} fresh looks at the result, {share} were wrong.")
    if len(trace) == 2:
        lines.append("It asked at no other image than its result, so the walk has one step.")
    return lines


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number:,} times"
