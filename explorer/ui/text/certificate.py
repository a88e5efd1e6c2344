"""What certificates say, in sentences: every radius rounded down, every number with its conditions. Words only, no widgets."""

from __future__ import annotations

from collections.abc import Sequence

from explorer.certify import Certificate, CertifyProgress
from explorer.engine.attacking_smoothed import SmoothedAttack, SmoothedSearch
from explorer.engine.certifying import Certifying, CertifyRequest
from explorer.models import zoo
from explorer.plots.certify import down
from explorer.ui.text.training import duration

WORTH_SAYING = 10.0  # seconds left
WRONG, RIGHT, ABSTAINED = "wrong", "right", "abstained"


def percent(share: float) -> str:
    """ "97.3 %", rounded down."""
    return f"{down(100 * share, 1)} %"


def title(request: CertifyRequest) -> str:
    """One line of conditions."""
    what = "your own picture" if request.one.is_upload else f"picture {request.image}"
    if request.label is not None:
        what += f" ({request.classes[request.label]})"
    sound = ", sound" if request.sound else ""
    return (
        f"{request.model}, smoothed with sigma {request.sigma:g}: {what}, n0 {request.n0:,}, n {request.n:,}, "
        f"alpha {request.alpha:g}{sound}"
    )


def so_far(progress: CertifyProgress, classes: Sequence[str]) -> str:
    """A certificate in the making."""
    if progress.selected is None or progress.n_drawn == 0:
        return "**Choosing the class** by the first noisy copies; fresh ones will then measure how often it wins."
    name, votes = classes[progress.selected], progress.estimation[progress.selected]
    seen = f"{votes:,} of {progress.n_drawn:,} noisy copies are seen as {name}"
    if progress.radius is None:
        return f"**No radius yet.** {seen}: not enough to be sure of more than one half."
    return (
        f"**{name}, radius at least {down(progress.radius, 3)} so far.** {seen}. This bound may be watched as it grows; the "
        "certificate itself is made once, from all copies, and usually reaches farther."
    )


def verdict(certificate: Certificate, classes: Sequence[str], truth: int | None) -> tuple[str, str]:
    """Whether it is right, wrong or abstains, and what that means."""
    if certificate.label is None:
        return ABSTAINED, abstained(certificate, classes)
    name, radius = classes[certificate.label], certificate.radius_text()
    within = (
        f"no change of the picture shorter than {radius} (L2) alters what the smoothed model answers, unless the draws "
        f"misled, which happens with probability {certificate.alpha:g} at most"
    )
    if truth is not None and certificate.label != truth:
        return (
            WRONG,
            f"**Certified, but wrong: {name}, within {radius}.** The picture shows {classes[truth]}, yet {within}.",
        )
    return RIGHT, f"**Certified: {name}, within {radius}.** That is, {within}."


def abstained(certificate: Certificate, classes: Sequence[str]) -> str:
    """Why there is no certificate, in plain words."""
    c = certificate
    votes, name = c.estimation[c.selected], classes[c.selected]
    known = (
        f"the true share is only known to be at least {percent(c.p_lower)}"
        if votes
        else "nothing is known of the true share"
    )
    hope = (
        "More copies may settle it: ask with a larger n."
        if 2 * votes > c.n
        else "More copies will hardly help: no class seems to have more than half."
    )
    return (
        f"**It abstains.** {votes:,} of {c.n:,} noisy copies ({percent(votes / c.n)}) are seen as {name}. Allowing for the luck of the "
        f"draws (alpha {c.alpha:g}), {known}, and a certificate needs more than 50 %. So nothing is promised: no class and no "
        f"radius. To abstain is no error; it is how the method says that it does not know. {hope}"
    )


def progress(now: Certifying) -> tuple[float, str]:
    """How far it is, in [0, 1], and in words that stay where they are when it is done."""
    total = now.request.n0 + now.request.n
    if now.certificate is not None:
        if now.kept:
            return 1.0, "Made before: the same question gets the same certificate, never another try."
        spent = f"{now.seconds:.1f} s" if now.seconds < 60 else duration(now.seconds)
        return 1.0, f"All {total:,} noisy copies have voted, in {spent} of computing."
    done = 0 if now.progress is None else now.progress.done
    left = now.seconds / done * (total - done) if done else 0.0
    soon = f", about {duration(left)} of computing left" if left >= WORTH_SAYING else ""
    return done / total, f"{done:,} of {total:,} noisy copies have voted{soon}."


def facts(now: Certifying) -> list[str]:
    """What a finished certificate holds for, and what it does not, one sentence each."""
    c, request = now.certificate, now.request
    assert c is not None  # there is nothing to tell before
    radius = (
        "which is not above one half: no radius."
        if c.label is None
        else f"and the radius σ Φ⁻¹(p) is {c.radius_text(5)}. Shown radii are rounded down."
    )
    lines = [
        f"{c.n0:,} draws chose the class, {c.n:,} fresh ones measured it: {c.estimation[c.selected]:,} votes for "
        f"{request.classes[c.selected]}, so that its true share is at least p = {down(c.p_lower, 5)} (one-sided Clopper-Pearson), "
        f"{radius}",
        *([scale(c.radius, now.picture.size)] if c.label is not None else []),
        f"It holds for this picture alone, and may be wrong with probability {c.alpha:g}: of many certificates, a few are.",
    ]
    if now.others:
        lines.append(
            f"Of this picture and model, {now.others} other certificate{'' if now.others == 1 else 's'} "
            f"{'was' if now.others == 1 else 'were'} asked for (with another sigma, n or alpha). Each may be wrong by itself: to pick "
            "the best of them is not covered."
        )
    if c.sound:
        lines.append(
            "Sound in floating point: the noise lies on the grid of 8-bit pixels and is drawn exactly (Voráček and Hein, 2023)."
        )
    else:
        lines.append(
            "Not sound in floating point: the noise is ordinary 32-bit numbers, whose rounding the proof leaves out, and an "
            "attack on the rounding could beat it. The sound mode (at the left) has no such gap."
        )
    if c.invalid:
        lines.append(f"{c.invalid:,} draws voted for no class (not finite, or void) and count against the certificate.")
    if zoo.card(request.model).stochastic:
        lines.append("This network is random itself: its own draws are part of the noise that is averaged over.")
    lines.append(
        f"The seed of the draws, {c.seed}, was drawn and not chosen, and is recorded. Asking again returns this certificate."
    )
    return lines


def scale(radius: float, values: int) -> str:
    """How much a radius is, in terms that can be imagined."""
    each = down(255 * radius / values**0.5, 1)
    return (
        f"How much is that? A change of this length is {each}/255 on every one of the picture's {values:,} values at once, or "
        "much more on a few of them."
    )


def effort() -> str:
    """What the quick attack does, what the thorough one does beyond it, and what neither does."""
    quick, thorough = (SmoothedAttack(**SmoothedAttack.presets[name]) for name in ("quick", "thorough"))
    return (
        f"**Quick**: some seconds. {quick.steps} steps, each over {quick.draws} noisy copies, one attack; the distance to within "
        f"{100 * quick.width:g} %. It may miss nearer attacks that the **thorough** one finds, which takes several times as long: "
        f"{thorough.steps} steps over {thorough.draws} copies, a second attack where the first fails, smaller distances tried again, "
        f"to within {100 * thorough.width:g} %. Neither finds all."
    )


def trying(search: SmoothedSearch) -> tuple[float, str]:
    """How far the attack at one distance is, in [0, 1], and how many distances were tried: how many there will be is not known."""
    n = len(search.probes)
    done = f"{n} distance{'' if n == 1 else 's'} tried, {search.seconds:.0f} s of computing"
    now = search.attempt
    if now is None:
        return 0.0, f"Looking at the untouched picture. {done}."
    doing = "is judged by PREDICT" if now.step >= now.steps else f"step {now.step} of {now.steps}"
    return min(now.step / now.steps, 1.0), f"**Trying L2 {now.eps:.3g}**: {now.attack}, {doing}. {done}."


def searched(search: SmoothedSearch, classes: Sequence[str]) -> tuple[bool, str]:
    """Whether an attack was found, and what it means beside the certificate."""
    if search.ended == "abstained":
        return False, (
            "**Nothing to attack.** The smoothed model gives no class for the untouched picture: PREDICT abstains, its two "
            "most frequent classes are too close."
        )
    proven = (
        search.certificate.radius if search.certificate is not None and search.certificate.label is not None else None
    )
    so_far = "" if search.ended else " so far"
    if search.distance is None or search.found_class is None:
        held = search.largest_held
        if held is None:
            return False, "**The first attack is under way.**"
        return False, f"**No attack succeeded{so_far}**, up to L2 {held:.3g}. That is no proof: another attack might."
    words = f"**Nearest attack{so_far}: L2 {search.distance:.3f}**, where the smoothed model sees {classes[search.found_class]}."
    if proven:
        gap = search.distance / proven
        words += (
            f" The certificate reaches {down(proven, 3)}. Between the two ({gap:.2g} times as far) nobody knows: a better attack "
            "may come nearer, a better proof reach farther."
        )
    return True, words


def alarmed(search: SmoothedSearch, classes: Sequence[str]) -> str:
    """An attack inside the certified radius: what it means."""
    c = search.certificate
    assert c is not None and c.label is not None and search.found_class is not None  # what the alarm is about
    return (
        f"**Alarm: an attack inside the certified radius.** At L2 distance {search.distance:.4f} the smoothed model sees "
        f"{classes[search.found_class]}, although nothing nearer than {c.radius_text(4)} should change its answer, "
        f"{classes[c.label]}. This must not happen, except by bad luck of the draws (probability {c.alpha:g}) or through "
        "rounding, where the certificate is not sound in floating point. Otherwise something is wrong: with the certificate, "
        "the prediction or this app. Please keep the conditions below."
    )


def search_notes(search: SmoothedSearch) -> list[str]:
    """How the attacks were made and judged."""
    about = search.conditions
    lines = [
        f"{', '.join(about['attacks'])}: {about['steps']} steps at each of {about['probes']} distances, each gradient the mean over "
        f"{about['draws']} fresh noisy copies. White-box and adaptive: the attack knows the smoothing.",
        f"Judged by PREDICT on {about['n']} fresh noisy copies, which give another class with probability {about['alpha']:g} at most "
        f"where it is not one. It abstained {search.abstentions} time{'' if search.abstentions == 1 else 's'}; that counts as no success.",
        "The attack gives an upper bound of the distance to the nearest other answer, the certificate a lower bound."
        + (
            ""
            if search.settings.twice
            else " This was one attack alone, without the second try: a nearer one may well have been missed."
        ),
        f"{about['seconds']:.1f} s on {about['device']}; seed {about['seed']}, which follows from the question.",
    ]
    return lines


METHOD = r"""
The **smoothed model** answers for a picture with the class that the network sees most often in noisy copies of it. If one
class has a share of at least $p > 1/2$ of all possible noisy copies, no change shorter than
$R = \sigma\,\Phi^{-1}(p)$ in L2 can take the majority from it: moving the picture by a little moves the cloud of copies by
as little, and most of the two clouds overlap (Cohen, Rosenfeld and Kolter, arXiv:1902.02918, theorem 1).

Nobody can try all copies. So $n_0$ of them **choose** the class, and $n$ fresh ones **measure** its share: $p$ is the
one-sided Clopper-Pearson lower bound at confidence $1-\alpha$. If $p$ does not exceed one half, the answer is to **abstain**.

While it runs, a bound is shown that holds at every look at once (a confidence sequence by betting, arXiv:2406.17830). It
is a little lower than the certificate, which takes all $n$ draws and one look.
"""

ORDINARY = """
An ordinary network has never seen noise, and a noisy copy is no picture of anything to it: it often sees the same few classes
in nearly all copies. The votes for the right class then seldom pass one half, and smoothing it has little to certify, however
well it does on clean pictures. Where it always answers the same class, that **wrong** answer is certified, with a large radius:
a certificate says that the answer does not change, not that it is right.
"""
