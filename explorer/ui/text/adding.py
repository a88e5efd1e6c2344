"""Words about a model that was added: whether it stands, how its weights were read, what the probe found."""

from __future__ import annotations

from explorer.engine.adding import Added, sentence
from explorer.models.zoo import Card

ACCEPT = (
    "A submission whose files have changed since it was added is refused. Look at them; then it can be taken as they stand now: it is "
    "probed again, and what was measured of the earlier code is kept apart."
)


def added(card: Card) -> str:
    """That it stands, and where."""
    return f"**{card.title}** stands in every chooser now, as {card.name}: {card.parameters:,} weights."


def refused(one: Added) -> str:
    """Why not, with the model's name."""
    return one.said if one.name in one.said else f"{one.name}: {one.said}"


def about(card: Card) -> list[str]:
    """One sentence each: its weights, its accuracy on the sample, whether it is random, and what is odd."""
    facts = card.training
    notes = "; ".join(facts.get("notes", []))
    lines = [f"Its weights: {facts['weights']}{'; ' if notes else ''}{notes}."]
    if "sample" in facts:
        lines.append(facts["sample"])
    if card.stochastic:
        lines.append("It draws at random: each pass is seeded, attacks may average over draws, and fresh draws judge.")
    lines += [sentence(text) for text in facts.get("findings", [])]
    return lines
