"""What a proof is paid for with: certified accuracy beside clean and attacked accuracy of every model with certificates, from the cards."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import isclose
from typing import Any

from explorer.evaluation.standing import THOROUGH, UNDER_ATTACK, Share, lowest
from explorer.models.zoo import Card

SMOOTHING = "gaussian"  # the kind of a certified measure that names none
DISTANCES: Mapping[str, tuple[float, ...]] = {  # the usual ones of each norm; of a patch its side in pixels
    "l2": (36 / 255, 0.25, 0.5, 1.0),
    "linf": (1 / 255, 2 / 255, 8 / 255, 0.1),
    "patch": (2.0, 5.0),
}


@dataclass(frozen=True)
class Paid:
    """One model at one distance, by one kind of certificate; None is not measured.

    Of a smoothed model `clean` and `attacked` are the network's own, which is asked without noise.
    """

    model: str  # its title
    certificate: str  # a key of explorer.certify.certifiers
    distance: float  # of DISTANCES
    clean: Share | None
    attacked: Share | None  # by thorough attacks in this norm at this distance
    certified: Share


def paid(cards: Iterable[Card], norm: str) -> list[Paid]:
    """By kind of certificate, then model, then distance. Models without certified accuracy in this norm are left out."""
    rows = [
        Paid(card.title, key, at, lowest(card, lambda m: m["kind"] == "clean"), _attacked(card, norm, at), found)
        for card in cards
        for key in sorted({_kind(m) for m in card.measures if m["kind"] == "certified"})
        for at in DISTANCES[norm]
        if (found := _certified(card, key, norm, at)) is not None
    ]
    return sorted(rows, key=lambda row: row.certificate)  # stable


def _kind(m: Mapping[str, Any]) -> str:
    return m.get("certificate") or SMOOTHING


def _at(m: Mapping[str, Any], norm: str, distance: float) -> bool:
    return m["norm"] == norm and m["eps"] is not None and isclose(m["eps"], distance, rel_tol=1e-6)


def _certified(card: Card, key: str, norm: str, distance: float) -> Share | None:
    return lowest(card, lambda m: m["kind"] == "certified" and _kind(m) == key and _at(m, norm, distance))


def _attacked(card: Card, norm: str, distance: float) -> Share | None:
    return lowest(card, lambda m: m["kind"] in UNDER_ATTACK and m["attack"] in THOROUGH and _at(m, norm, distance))
