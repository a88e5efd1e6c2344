"""Many attacked pictures at a glance: a card each, that can be clicked; updated in place while the attack runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from explorer.ui.components import drawing


@dataclass(frozen=True)
class Card:
    """One picture: pixels as data URLs, and its words."""

    value: int  # what choosing it returns
    name: str  # on hover and for screen readers
    state: str  # "wrong", "fooled", "holds" or "waiting": colour and icon, beside `word`
    word: str
    pictures: tuple[tuple[str, str], ...]  # (data URL, what it is), side by side
    lines: tuple[str, ...]  # below the pictures


_mount = drawing.Component("strip", Path(__file__).parent, "strip")


def strip(cards: Sequence[Card], chosen: int | None, *, key: str, label: str) -> int | None:
    """Draw the cards; returns the value of the one just clicked, else None."""
    data = {"label": label, "chosen": chosen, "cards": [asdict(card) for card in cards]}
    return _mount(data=data, key=key, on_picked_change=lambda: None).picked
