"""How to read the smallest eps, the edge and a slice, in sentences: every number as measured, with its conditions."""

from __future__ import annotations

import math

from explorer.attacks import ATTACKS
from explorer.core.ball import EPS_LEAST, THREAT_NAMES
from explorer.data import dataset
from explorer.engine import AttackRequest
from explorer.engine.captions import article
from explorer.engine.edge import Edge
from explorer.engine.rounding import of_change, size
from explorer.engine.slices import Slice
from explorer.engine.smallest import Probe, Search
from explorer.models import zoo
from explorer.plots.slices import CUT
from explorer.ui.text.attack import NO_PROOF, seconds


def eps_words(norm: str, eps: float) -> str:
    """For people: "L∞ 6.375/255", "L2 0.43"."""
    return f"{THREAT_NAMES[norm]} {eps * 255:.4g}/255" if norm == "linf" else f"{THREAT_NAMES[norm]} {eps:.4g}"


def smallest(search: Search) -> tuple[bool, str]:
    """Whether a search found an eps that suffices, and one sentence about the interval so far."""
    norm, title = search.request.norm, ATTACKS.entry(search.request.attack).title
    fooled, held = search.fooled, search.held
    if search.clean is not None and search.clean.reached:
        return True, "**Nothing to search for.** The untouched picture does it already."
    if fooled is None:
        if held is None:
            return False, "The time was over before the first attack had ended: choose fewer steps, restarts or draws."
        return (
            False,
            f"**Nothing found.** {title} failed at every eps tried, up to {eps_words(norm, held.eps)}. {NO_PROOF}",
        )
    reaches = f"{title} reaches its goal at **{eps_words(norm, fooled.eps)}**"
    if held is None:
        least = (
            f", the least eps that 32-bit pixels can tell from none ({EPS_LEAST:g})"
            if norm in ("linf", "l2", "l1") and fooled.eps <= EPS_LEAST
            else ""
        )
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
        f"{len(search.probes)} attacks, {search.passes:,} forward and backward passes, {seconds(search.seconds)} on "
        f"{search.device}; seed {request.seed} in each."
    )
    return lines


def _rounded(probe: Probe) -> str:
    kept = "still reaches" if probe.reached_8bit else "no longer reaches"
    return f"Saved as an 8-bit picture, the result {kept} the goal."


def outline_words(found: Slice, request: AttackRequest) -> str:
    """What the dashed outline of a slice is."""
    if found.outline_is_eps:
        return f"allowed: {eps_words(request.norm, request.eps)}"
    return f"as near as the change found ({THREAT_NAMES[found.norm]})"


def loss_words(found: Slice) -> str:
    """What the loss of a slice is."""
    if found.target is None:
        return "cross-entropy"
    return f"minus the cross-entropy of {found.classes[found.target]}"


def slice_notes(found: Slice, request: AttackRequest) -> list[str]:
    """How to read a slice, and under which conditions it was made."""
    plan, draws = found.plan, found.plan.draws
    same = {"linf": "size of its largest pixel", "l2": "length", "l1": "sum"}[found.norm]
    lines = [
        "From left to right: through the original (0) to the attacked picture (1) and beyond. Up and down: a random direction "
        f"(seed {plan.seed}) at right angles to that, of the same {same}. One unit to the right changes pixels by up to "
        f"{255 * found.linf[0]:.3g}/255 and has length {found.l2[0]:.3g} (L2); one unit up "
        f"{255 * found.linf[1]:.3g}/255 and {found.l2[1]:.3g}.",
        "The paler, the less sure. Each point is shown to the model as a picture: pixel values outside [0, 1] are cut. "
        f"{_cut_words(found)} The outline is drawn as it would be without that.",
        f"This is one plane out of {_dimensions(request):,} dimensions. It shows where the model changes its mind on it, not "
        "how near its boundary comes in other directions.",
    ]
    if zoo.card(request.model).stochastic:
        shown = "one draw" if draws == 1 else f"the mean probability over {draws} draws"
        lines.append(
            f"This model is random: each point shows {shown}, the very same everywhere, so that points differ by their "
            "pictures and not by luck."
        )
    if found.ended == "time":
        lines.append("The time for one computation was over: the finest points are missing.")
    lines.append(f"{found.passes:,} forward passes, {seconds(found.seconds)} on {found.device}.")
    return lines


def _cut_words(found: Slice) -> str:
    if not found.cut.any():
        return "Here none were."
    many = float((found.cut > CUT).mean())
    if many == 0:
        return f"Here these are at most {float(found.cut.max()):.1%} of a picture's values."
    return (
        f"At {many:.0%} of the points, beyond the dotted line, these are more than {CUT:.0%} of the picture's values."
    )


def _dimensions(request: AttackRequest) -> int:
    return math.prod(dataset(request.dataset).shape)


def edge(found: Edge) -> tuple[bool, str]:
    """Whether there is an answer to how far the edge is, and one sentence with it."""
    best, classes = found.best, found.request.classes
    if found.wrong_before:
        return True, "**Nothing to look for.** The model is wrong before anything is changed."
    if best is None or best.distance is None:
        return False, f"**Nothing found** in {found.spent:,} passes. {NO_PROOF}"
    title = ATTACKS.entry(best.request.attack).title
    changed = of_change(best.distance, found.request.norm)
    return True, (
        f"**The smallest change known {changed}.** {title} found it; the model then sees {article(classes[best.predicted])}."
    )


def edge_notes(found: Edge) -> list[str]:
    """What each attack found, and the limits of it, one sentence each."""
    norm, lines = found.request.norm, []
    for one in found.tried:
        far = "nothing" if one.distance is None else size(one.distance, norm)
        lines.append(f"{ATTACKS.entry(one.request.attack).title}: {far}, in {one.spent:,} passes")
    if found.left_out:
        names = ", ".join(ATTACKS.entry(key).title for key in found.left_out)
        lines.append(f"No room in {found.budget:,} passes for {names}.")
    if found.ended == "time":
        lines.append("The time for one computation was over; what was found until then is shown.")
    lines.append(
        "An upper bound: the edge is no farther than this. That nothing nearer was found is no proof that nothing is there; the "
        "Certify page has proofs."
    )
    lines.append(f"Judged in float32 on fresh looks, each attack at its defaults, seed {found.request.seed}.")
    return lines
