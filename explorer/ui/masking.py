"""Signs of gradient masking, from what attacks on one picture did beside each other: what was seen, and no more.

A gradient attack knows more than one that sees answers only. Where it finds less, its gradients mislead it, or it was too
weak; either way its failure says little about the model (Athalye et al., arXiv:1802.00420).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from explorer.attacks import ATTACKS, BLACK_BOX
from explorer.engine import AttackRequest, Result, eps_text
from explorer.ui.verdicts import NORM_NAMES

FLAT = 0.5  # share of points without a usable gradient from which on a walk counts as blind


@dataclass(frozen=True)
class Tried:
    """One finished attack on one picture and model, as far as others can be held against it."""

    name: str  # "PGD (20 steps)"
    group: str
    norm: str
    limit: float | None  # the eps it was given; None if it looked for the smallest change
    distance: float  # how far its result lies, in that norm
    reached: bool  # by the verdict's rule
    draws: int
    degenerate: float  # share of the points where the gradient was zero or not finite

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
        f"{entry.title} ({', '.join(settings)})" if (settings := _settings(request)) else entry.title,
        entry.group,
        request.norm,
        None if request.is_minimal else request.eps,
        float((verdict.l2 if request.norm == "l2" else verdict.linf)[0]),
        bool(verdict.reached[0] & verdict.inside[0]),
        request.draws,
        float(result.conditions["stalled_share"]),
    )


def _settings(request: AttackRequest) -> list[str]:
    """What tells it from the same attack set otherwise, as far as its title says so."""
    settings = [word for word in request.title().split(", ")[2:] if not word.startswith("toward ")]
    return [*settings, f"seed {request.seed}"] if request.seed else settings


def remembered(memory: Memory, result: Result, request: AttackRequest) -> tuple[Tried, list[Tried]]:
    """This attack, and the earlier ones on the same picture, model and wish; from now on it is one of them."""
    key = (request.dataset, request.image, request.model, request.target, request.label)
    now, known = tried(result, request), memory.setdefault(key, {})
    before = [old for old in known.values() if (old.name, old.norm, old.limit) != (now.name, now.norm, now.limit)]
    known[(now.name, now.norm, now.limit)] = now
    for full, limit in ((memory, PICTURES), (known, ATTEMPTS)):
        while len(full) > limit:
            full.pop(next(iter(full)))  # the oldest
    return now, before


Memory = dict[tuple, dict[tuple, Tried]]  # of one session
PICTURES, ATTEMPTS = 64, 64


@dataclass(frozen=True)
class Pattern:
    flag: bool  # something looks wrong
    words: str


def pattern(now: Tried, before: Sequence[Tried]) -> Pattern | None:
    """What this attack, beside earlier ones on the same picture, model and wish, says about gradient masking.

    No more than was seen: None where there is nothing to say, and "no flag raised" is not "robust".
    """
    if now.failed and now.degenerate >= FLAT:
        return Pattern(
            True,
            f"**This looks like gradient masking.** At {now.degenerate:.0%} of the points that {now.name} visited the gradient "
            "was zero or not finite, so it walked at random: that it found nothing says little about the model. "
            f"Flat answers hide a boundary; they do not move it away. {_NEXT}",
        )
    for failed, success in [(now, old) for old in before] + [(old, now) for old in before]:
        if success.refutes(failed):
            return Pattern(True, _contradiction(failed, success))
    same = [now, *(old for old in before if _same_ball(old, now))]
    if {one.uses_gradients for one in same} == {True, False} and not any(one.reached for one in same):
        names = ", ".join(one.name for one in same)
        return Pattern(
            False,
            f"**No flag raised:** with and without gradients ({names}) nothing was found in this ball. That is no proof: "
            "passing such checks does not show that a model is robust.",
        )
    return None


def _same_ball(one: Tried, other: Tried) -> bool:
    return one.limit is not None and (one.norm, one.limit) == (other.norm, other.limit)


def _contradiction(failed: Tried, success: Tried) -> str:
    """What it means that one attack succeeded where another, that should have done at least as well, did not."""
    within = f"Within {NORM_NAMES[failed.norm]} {eps_text(failed.limit)} {success.name}"
    if not success.uses_gradients and success.group != "ensemble":
        return (
            f"**This looks like gradient masking.** {within} reached the goal on this picture by the model's answers alone, "
            f"and {failed.name}, which may follow the gradient, did not. A gradient tells more than answers do, so here "
            f"it seems to mislead (or the attack was too short: more steps would tell). {_NEXT}"
        )
    if success.draws > failed.draws:
        return (
            f"**Averaging mattered.** {within} with {success.draws} draws per step reached the goal on this picture, and "
            f"{failed.name} with {failed.draws} did not: the randomness hid the way, it did not block it. "
            "Judge this model by attacks that average; raise *draws per step* until nothing changes."
        )
    if success.group == "single step" and failed.group == "iterated":
        return (
            f"**One step did better than many.** {within} reached the goal on this picture, and {failed.name} did not. "
            f"Many steps should find at least as much: a sign of gradient masking, or of a step size that does not fit. {_NEXT}"
        )
    return (
        f"**{failed.name} was too weak here.** {within} reached the goal on this picture. That {failed.name} "
        "found nothing was about the attack as it was set, not about the model."
    )


_NEXT = (
    "Try **Square** or random search, which need no gradients; more **draws per step** if the model is random; "
    "the margin loss; and an attack made on another model and carried over (transfer)."
)
