"""What attacks on one picture, beside each other, say about gradient masking: what was seen, and no more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from explorer.core.ball import THREAT_NAMES
from explorer.engine import eps_text
from explorer.engine.masking import Tried

_NEXT = (
    "Try **Square** or random search, which need no gradients; more **draws per step** if the model is random; "
    "the margin loss; and an attack made on another model and carried over (transfer)."
)


@dataclass(frozen=True)
class Pattern:
    flag: bool  # something looks wrong
    words: str


def pattern(now: Tried, before: Sequence[Tried]) -> Pattern | None:
    """What this attack, beside earlier ones on the same picture, model and wish, says about gradient masking.

    No more than was seen: None where there is nothing to say, and "no flag raised" is not "robust".
    """
    if now.blind:
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
    assert failed.limit is not None  # it was given a ball: otherwise nothing refutes it
    within = f"Within {THREAT_NAMES[failed.norm]} {eps_text(failed.limit)} {success.name}"
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
