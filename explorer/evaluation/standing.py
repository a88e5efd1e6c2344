"""Standing of a model among others: its clean, robust and certified accuracy, each the lowest number that its card knows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from explorer.core import USUAL_EPS
from explorer.defenses import RECIPES
from explorer.models.zoo import Card

UNDER_ATTACK = ("white-box", "adaptive", "transfer")
THOROUGH = (
    "pgd",
    "apgd-ce+apgd-t",
    "autoattack",
    "all of the above",
)  # one step, or a part of the picture, is too weak a test
RADIUS = 0.5  # L2 at which certified accuracy is told
CHANCE = 0.1  # of ten classes: a model that keeps no more than this withstands nothing

KINDS = (
    "no defence",
    "robust",
    "random",
    "certified",
    "falls",
    "not measured",
)  # what models are told apart by, in this order


@dataclass(frozen=True)
class Share:
    """An accuracy in [0, 1] with its 95 % interval, over n pictures; `adaptive` is False where the attack flatters the model."""

    accuracy: float
    low: float
    high: float
    n: int
    adaptive: bool = True


@dataclass(frozen=True)
class Standing:
    """What a card says in numbers; None is not measured."""

    kind: str  # one of KINDS
    clean: Share | None
    linf: Share | None  # under thorough attacks in L-infinity 8/255
    l2: Share | None  # in L2 0.5
    certified: Share | None  # at the L2 radius 0.5


def standing(card: Card) -> Standing:
    """Of several measures that fit, the one of lowest accuracy counts, as in the table of models."""
    clean, linf, l2, certified = (lowest(card, fits) for fits in COLUMNS.values())
    return Standing(_kind(card, linf, l2), clean, linf, l2, certified)


def is_smoke(card: Card) -> bool:
    """Whether it comes from a run of so few pictures that it only shows that its recipe works."""
    if card.recipe not in RECIPES:
        return False
    images = card.training.get("images")
    return isinstance(images, int) and images <= RECIPES[card.recipe].smoke_images


def _kind(card: Card, linf: Share | None, l2: Share | None) -> str:
    group = RECIPES.entry(card.recipe).group if card.recipe in RECIPES else ""
    if any(m["kind"] == "certified" for m in card.measures) or group in ("smoothing", "certified"):
        return "certified"
    if card.stochastic:
        return "random"
    if group == "no defence":
        return group
    known = [share.accuracy for share in (linf, l2) if share is not None]
    return "not measured" if not known else "robust" if max(known) > CHANCE else "falls"


def _attacked(norm: str) -> Callable[[Mapping[str, Any]], bool]:
    def fits(m: Mapping[str, Any]) -> bool:
        of_norm = m["norm"] == norm and m["eps"] == USUAL_EPS[norm]
        return of_norm and m["kind"] in UNDER_ATTACK and m["attack"] in THOROUGH

    return fits


COLUMNS: dict[str, Callable[[Mapping[str, Any]], bool]] = {  # what a model's standing is read from
    "clean": lambda m: m["kind"] == "clean",
    "linf": _attacked("linf"),
    "l2": _attacked("l2"),
    "certified": lambda m: m["kind"] == "certified" and m["norm"] == "l2" and m["eps"] == RADIUS,
}


def lowest_measure(card: Card, fits: Callable[[Mapping[str, Any]], bool]) -> Mapping[str, Any] | None:
    """The measure of lowest accuracy of those that fit; None if none does."""
    return min((m for m in card.measures if fits(m)), key=lambda m: m["accuracy"], default=None)


def lowest(card: Card, fits: Callable[[Mapping[str, Any]], bool]) -> Share | None:
    """Its accuracy with interval."""
    m = lowest_measure(card, fits)
    if m is None:
        return None
    return Share(m["accuracy"], m["low"], m["high"], m["n"], "not adaptive" not in m.get("note", ""))
