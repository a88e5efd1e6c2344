"""Words about a model that was added: whether it stands, how its weights were read, what the probe found."""

from __future__ import annotations

from explorer.engine.adding import Added, sentence
from explorer.evaluation.torchvision_weights import LICENCE as TERMS
from explorer.evaluation.torchvision_weights import Published
from explorer.models.zoo import Card

ACCEPT = (
    "A submission whose files have changed since it was added is refused. Look at them; then it can be taken as they stand now: it is "
    "probed again, and what was measured of the earlier code is kept apart."
)

DOWNLOAD = (
    "Networks for photographs with torchvision's own ImageNet weights, fetched from its server to the computer that runs this app, "
    "verified by the hash in the file's name and read in a confined process. They join **Photographs**. "
    "Top 1: the accuracy on ImageNet's validation images, as their authors say."
)
LICENCE = f"{sentence(TERMS)}."


def offered(one: Published) -> str:
    """A network, its download and what its authors measured."""
    return f"{one.title}: {one.size / 2**20:.0f} MB, {one.accuracy:.1f} % top 1"


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
