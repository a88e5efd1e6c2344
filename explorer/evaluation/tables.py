"""Tables made from the cards, the same on the Models page, in the README and on the command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from explorer.core import USUAL_EPS
from explorer.models.zoo import Card

NOT_MEASURED = "not measured"
UNDER_ATTACK = ("white-box", "adaptive", "transfer")


def _attacked(norm: str) -> Callable[[Mapping[str, Any]], bool]:
    return lambda m: (
        m["kind"] in UNDER_ATTACK and m["attack"] == "pgd" and m["norm"] == norm and m["eps"] == USUAL_EPS[norm]
    )


HEADLINES: dict[str, Callable[[Mapping[str, Any]], bool]] = {
    "Clean": lambda m: m["kind"] == "clean",
    "PGD, L∞ 8/255": _attacked("linf"),
    "PGD, L2 0.5": _attacked("l2"),
    "Certified, L2 0.25": lambda m: m["kind"] == "certified" and m["eps"] == 0.25,
}


def headlines(card: Card) -> dict[str, str]:
    """The card's measure for each column, with its interval. Of several that fit, the lowest: the best attack counts."""
    return {column: _lowest([m for m in card.measures if fits(m)]) for column, fits in HEADLINES.items()}


def in_percent(measure: Mapping[str, Any]) -> str:
    """ "74.1 % [71.3, 76.7]": the accuracy and its 95 % interval."""
    return f"{100 * measure['accuracy']:.1f} % [{100 * measure['low']:.1f}, {100 * measure['high']:.1f}]"


def markdown(cards: Sequence[Card]) -> str:
    """One row a model, with the 95 % interval and the number of images of each measure."""
    head = ["Model", "What it is", *HEADLINES]
    rows = [head, ["---"] * len(head)]
    rows += [[f"{card.title} (`{card.name}`)", card.summary, *headlines(card).values()] for card in cards]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _lowest(fitting: list[Mapping[str, Any]]) -> str:
    if not fitting:
        return NOT_MEASURED
    lowest = min(fitting, key=lambda m: m["accuracy"])
    doubt = ", **not adaptive**" if "not adaptive" in lowest.get("note", "") else ""
    return f"{in_percent(lowest)}, n={lowest['n']:,}{doubt}"
