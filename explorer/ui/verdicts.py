"""What a finished attack means, in sentences: every number as measured, with its conditions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from explorer.attacks import ATTACKS, BLACK_BOX
from explorer.core import Trace
from explorer.core.ball import EPS_LEAST
from explorer.engine import AttackRequest, Result, eps_text
from explorer.engine.slices import Slice
from explorer.engine.smallest import Probe, Search

NORM_NAMES = {"linf": "L∞", "l2": "L2"}
FLAT = 0.5  # share of points without a usable gradient from which on a walk counts as blind


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
        return True, f"**Wrong from the start.** The model takes this {true} for {_a(before)} before anything is changed."
    if reached:
        return True, f"**Fooled.** The model now sees {_a(sees)} instead of {_a(true)}, {within}."
    if trace.target is not None:
        wish = trace.classes[trace.target]
        return False, f"**Not reached.** The model sees {_a(sees)}, not {_a(wish)}, {within}. {_NO_PROOF}"
    return False, f"**Holds.** The model still sees {_a(sees)}, {within}. {_NO_PROOF}"


_NO_PROOF = "That this walk found nothing is no proof that nothing is there."


def _smallest(trace: Trace, result: Result, request: AttackRequest) -> tuple[bool, str]:
    """The headline of a search for the smallest change: how far it had to go, or that it failed."""
    verdict, true = result.verdict, trace.classes[trace.label]
    sees = trace.classes[int(verdict.predicted[0])]
    if not bool(trace.reached[result.best]):
        wish = f"anything but {_a(true)}" if trace.target is None else _a(trace.classes[trace.target])
        return False, f"**Nothing found.** No change was found that makes the model see {wish}. {_NO_PROOF}"
    if float(verdict.linf[0]) == 0:
        return True, f"**Nothing to do.** The model sees {_a(sees)} instead of {_a(true)} before any change."
    if request.norm == "l2":
        length = f"has length {float(verdict.l2[0]):.3g} (L2)"
    else:
        levels = math.ceil(25500 * float(verdict.linf[0]) - 1e-6) / 100  # up, so that the sentence stays true
        length = f"moves no pixel by more than {levels:g}/255 (L∞)"
    if not bool(verdict.inside[0]):
        return False, "The result lies outside the pixel range and does not count."
    if not bool(verdict.reached[0]):
        return False, f"**Does not hold.** The smallest change found {length}, but on fresh looks the model sees {_a(sees)}."
    return True, f"**Fooled.** The model now sees {_a(sees)} instead of {_a(true)}. The smallest change found {length}."


def details(trace: Trace, result: Result, request: AttackRequest, stochastic: bool) -> list[str]:
    """The facts behind the headline, one sentence each."""
    verdict, about = result.verdict, result.conditions
    lines = []
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
    where = f"({about['seconds']:.2g} s on {about['device']}), seed {request.seed}."
    if ATTACKS.entry(request.attack).group in BLACK_BOX:
        lines.append(f"Black-box: the attack saw only this model's answers, in {about['forwards']:,} forward passes {where}")
    else:
        lines.append(
            f"White-box: the attack used this model's own gradients{_and_others(request)}, in {about['forwards']:,} forward and "
            f"{about['backwards']:,} backward passes {where}"
        )
    return lines


def warning(request: AttackRequest, stochastic: bool) -> str | None:
    """What makes the result look stronger than it is, if anything."""
    if stochastic and request.draws == 1:
        return (
            "This model is random, and the attack looked at one draw per step: its gradients point at a moving target. "
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


@dataclass(frozen=True)
class Tried:
    """One finished attack on one picture and model, as far as others can be held against it."""

    name: str  # with what tells it from the same attack's other settings
    title: str
    group: str
    norm: str
    limit: float | None  # the eps it was given; None if it looked for the smallest change
    distance: float  # how far its result lies, in that norm
    reached: bool  # by the verdict's rule
    draws: int
    stalled: float  # share of the points where the gradient was zero or not finite

    @property
    def uses_gradients(self) -> bool:
        return self.group not in (*BLACK_BOX, "ensemble")  # an ensemble has attacks of both kinds

    @property
    def failed(self) -> bool:
        """A gradient attack that was given a ball and found nothing in it."""
        return self.uses_gradients and self.limit is not None and not self.reached

    def refutes(self, other: Tried) -> bool:
        """Whether it found a success inside the ball in which `other` found none."""
        return self.reached and other.failed and self.norm == other.norm and self.distance <= other.limit


def tried(result: Result, request: AttackRequest) -> Tried:
    """What to remember of a finished attack."""
    verdict, entry = result.verdict, ATTACKS.entry(request.attack)
    return Tried(
        request.title() + f", seed {request.seed}",
        entry.title,
        entry.group,
        request.norm,
        None if request.is_minimal else request.eps,
        float((verdict.l2 if request.norm == "l2" else verdict.linf)[0]),
        bool(verdict.reached[0] & verdict.inside[0]),
        request.draws,
        float(result.conditions["stalled_share"]),
    )


def pattern(now: Tried, before: Sequence[Tried]) -> str | None:
    """What this attack, beside earlier ones on the same picture, model and wish, says about gradient masking.

    No more than was seen: None where there is nothing to say, and "no flag raised" is not "robust".
    """
    if now.failed and now.stalled >= FLAT:
        return (
            f"**This looks like gradient masking.** At {now.stalled:.0%} of the points that {now.title} visited the gradient "
            "was zero or not finite, so it walked at random: that it found nothing says little about the model. "
            f"Flat answers hide a boundary; they do not move it away. {_NEXT}"
        )
    for failed, success in [(now, old) for old in before] + [(old, now) for old in before]:
        if success.refutes(failed):
            return _contradiction(failed, success)
    others = [old for old in before if _same_ball(old, now)]
    kinds = {one.uses_gradients for one in (now, *others)}
    if kinds == {True, False} and not any(one.reached for one in (now, *others)):
        names = ", ".join(dict.fromkeys(one.title for one in (now, *others)))
        return (
            f"No flag raised: with and without gradients ({names}) nothing was found in this ball. That is no proof: "
            "passing such checks does not show that a model is robust."
        )
    return None


def _same_ball(one: Tried, other: Tried) -> bool:
    return one.limit is not None and (one.norm, one.limit) == (other.norm, other.limit)


def _contradiction(failed: Tried, success: Tried) -> str:
    """What it means that one attack succeeded where another, that should have done at least as well, did not."""
    within = f"Within {NORM_NAMES[failed.norm]} {eps_text(failed.limit)} {success.title}"
    if not success.uses_gradients and success.group != "ensemble":
        return (
            f"**This looks like gradient masking.** {within} reached the goal on this picture by the model's answers alone, "
            f"and {failed.title}, which may follow the gradient, did not. A gradient tells more than answers do, so here "
            f"it seems to mislead (or the attack was too short: more steps would tell). {_NEXT}"
        )
    if success.draws > failed.draws:
        return (
            f"**Averaging mattered.** {within} with {success.draws} draws per step reached the goal on this picture, and "
            f"{failed.title} with {failed.draws} did not: the randomness hid the way, it did not block it. "
            "Judge this model by attacks that average; raise *draws per step* until nothing changes."
        )
    if success.group == "single step" and failed.group == "iterated":
        return (
            f"**One step did better than many.** {within} reached the goal on this picture, and {failed.title} did not. "
            f"Many steps should find at least as much: a sign of gradient masking, or of a step size that does not fit. {_NEXT}"
        )
    return (
        f"**{failed.title} was too weak here.** {within} reached the goal on this picture. That {failed.title} "
        "found nothing was about the attack as it was set, not about the model."
    )


_NEXT = (
    "Try **Square** or random search, which need no gradients; more **draws per step** if the model is random; "
    "the margin loss; and an attack made on another model and carried over (transfer)."
)


def eps_words(norm: str, eps: float) -> str:
    """For people: "L∞ 6.375/255", "L2 0.43"."""
    return f"{NORM_NAMES[norm]} {eps * 255:.4g}/255" if norm == "linf" else f"{NORM_NAMES[norm]} {eps:.4g}"


def smallest(search: Search) -> tuple[bool, str]:
    """Whether a search found an eps that suffices, and one sentence about the interval so far."""
    norm, title = search.request.norm, ATTACKS.entry(search.request.attack).title
    fooled, held = search.fooled, search.held
    if search.clean is not None and search.clean.reached:
        return True, "**Nothing to search for.** The untouched picture does it already."
    if fooled is None:
        if held is None:
            return False, "The time was over before the first attack had ended: choose fewer steps, restarts or draws."
        return False, f"**Nothing found.** {title} failed at every eps tried, up to {eps_words(norm, held.eps)}. {_NO_PROOF}"
    reaches = f"{title} reaches its goal at **{eps_words(norm, fooled.eps)}**"
    if held is None:
        least = f", the least eps that 32-bit pixels can tell from none ({EPS_LEAST:g})" if fooled.eps <= EPS_LEAST else ""
        return True, f"{reaches}{least}, and failed nowhere."
    return True, f"{reaches} and not at {eps_words(norm, held.eps)}."


def smallest_notes(search: Search) -> list[str]:
    """The conditions and limits of a finished search, one sentence each."""
    request, fooled, held = search.request, search.fooled, search.held
    lines = []
    if fooled is not None and held is not None:
        lines.append(
            "An upper bound for this picture: another attack, another seed or more steps may do it with less. That nothing was "
            "found below is no proof that nothing is there."
        )
        if request.norm == "linf" and fooled.eps < 1 / 255:
            lines.append(f"Less than one level of an 8-bit picture (1/255). {_rounded(fooled)}")
        else:
            lines.append(_rounded(fooled))
    if search.failed_above:
        above = ", ".join(eps_words(request.norm, p.eps) for p in sorted(search.failed_above, key=lambda p: p.eps))
        lines.append(
            f"**Not monotone:** it failed at {above}, although it succeeded at less. More room should never hurt; "
            "a fixed number of steps or an unlucky start can."
        )
    elif search.checked and search.ended == "done":
        lines.append(
            f"{search.checked} smaller eps were tried, too, and failed: success need not grow with eps, but nothing "
            "spoke against it here."
        )
    if search.ended == "time":
        lines.append("The time for one computation was over: the interval is wider than asked for.")
    if search.draws > 1:
        lines.append(
            f"Each try is judged on {search.draws} fresh draws, by their majority; the margin shown is the attack's own, over "
            f"{request.draws} draw{'' if request.draws == 1 else 's'}, so the two may disagree."
        )
    lines.append(
        f"{len(search.probes)} attacks, {search.passes:,} forward and backward passes, {search.seconds:.2g} s on "
        f"{search.device}; seed {request.seed} in each."
    )
    return lines


def _rounded(probe: Probe) -> str:
    kept = "still holds" if probe.reached_8bit else "does not hold any more"
    return f"Saved as an 8-bit picture, the result at {'this' if probe.reached else 'that'} eps {kept}."


def slice_notes(found: Slice, request: AttackRequest) -> list[str]:
    """How to read a slice, and under which conditions it was made."""
    plan, stochastic = found.plan, found.plan.draws > 1
    lines = [
        "To the right: from the original (0) on to the attacked picture (1) and beyond. Up and down: a random direction at "
        f"right angles to it (seed {plan.seed}), of the same {'largest pixel' if found.norm == 'linf' else 'length'}. One unit "
        f"along moves pixels by up to {255 * found.linf[0]:.3g}/255 and has length {found.l2[0]:.3g} (L2); one unit sideways "
        f"{255 * found.linf[1]:.3g}/255 and {found.l2[1]:.3g}.",
        "The paler, the less sure. Every point is shown to the model as a picture: pixel values outside [0, 1] are cut. "
        f"{_cut_share(found)} The dashed outline is drawn before that cut.",
        "One plane out of 3,071 dimensions and more: other directions may look different. It shows where the model changes its "
        "mind on this plane, not how near its boundary comes elsewhere.",
    ]
    if stochastic:
        lines.append(
            f"This model is random: each point shows the mean probability over {plan.draws} draws, the very same draws at every "
            "point, so that what differs between points is the picture and not the luck."
        )
    elif found.passes and request_is_random(request):
        lines.append("This model is random: each point shows one draw, the very same draw everywhere.")
    if found.ended == "time":
        lines.append("The time for one computation was over: the finest points are missing.")
    lines.append(f"{found.passes:,} forward passes, {found.seconds:.2g} s on {found.device}.")
    return lines


def saved(reached: bool, reached_8bit: bool) -> str:
    """What rounding to 8 bits makes of the result."""
    if reached and reached_8bit:
        return "It survives being saved as an ordinary 8-bit picture."
    if reached:
        return "**Rounding undoes it:** saved as an ordinary 8-bit picture, the result no longer fools the model."
    return "Rounded to 8 bits, as in a saved picture, the outcome is " + ("different: fooled." if reached_8bit else "the same.")


def _floor_levels(linf: float) -> str:
    return f"{linf * 255:.2f}".rstrip("0").rstrip(".")


def _a(name: str) -> str:
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"
