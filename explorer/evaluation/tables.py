"""Tables made from the cards, the same on the Models page, in the README and on the command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from explorer.attacks import ATTACKS
from explorer.core import USUAL_EPS
from explorer.features.measures import DETECTORS
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


def value(measure: Mapping[str, Any]) -> str:
    """A measure's number with its 95 % interval: an accuracy in percent, or "AUC 0.71 [0.68, 0.74]"."""
    if measure["kind"] == "detection":
        return f"AUC {measure['auc']:.2f} [{measure['low']:.2f}, {measure['high']:.2f}]"
    if measure["kind"] == "rho_2":
        return f"ρ₂ {measure['value']:.4f} [{measure['low']:.4f}, {measure['high']:.4f}]"
    if measure["kind"] == "class AUC":
        return f"mean AUC {measure['value']:.4f}, classes {measure['low']:.4f} to {measure['high']:.4f}"
    return in_percent(measure)


def markdown(cards: Sequence[Card]) -> str:
    """One row a model, with the 95 % interval and the number of images of each measure."""
    head = ["Model", "What it is", *HEADLINES]
    rows = [head, ["---"] * len(head)]
    rows += [[f"{card.title} (`{card.name}`)", card.summary, *headlines(card).values()] for card in cards]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def measures(card: Card) -> str:
    """All measures of one card, in their order: what was done, how it was judged, and the number with its interval."""
    head = ["Measure", "On", "Judged by", "Accuracy", "n"]
    rows = [head, ["---"] * len(head)]
    for m in card.measures:
        judged = f"majority of {m['verdict_draws']} fresh draws" if m["verdict_draws"] > 1 else "one look"
        made = m.get("variant") or m.get("source_model") or ("itself" if m["attack"] else "")
        rows.append([_what(m), made, judged, value(m), f"{m['n']:,}"])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _what(measure: Mapping[str, Any]) -> str:
    """ "adaptive: PGD, 20 steps, 16 draws a step, L∞ 8/255"."""
    if measure["kind"] == "certified":
        return f"certified at L2 {measure['eps']:g}, sigma {measure['sigma']:g}"
    if measure["kind"] == "predict":
        return f"PREDICT, sigma {measure['sigma']:g}: gives the right class"
    if measure["kind"] == "detection":
        return f"detection: {DETECTORS[measure['detector']].title.lower()}; {_attack(measure)}"
    if measure["attack"] is None:
        return f"{measure['kind']}{'; ' * bool(measure['note'])}{measure['note']}"
    return f"{measure['kind']}: {_attack(measure)}"


def _attack(measure: Mapping[str, Any]) -> str:
    hyper = measure["hyper"]
    parts = [" + ".join(ATTACKS.entry(key).title if key in ATTACKS else key for key in measure["attack"].split("+"))]
    parts += [f"{hyper[name]} {name}" for name in ("steps", "queries") if name in hyper]
    if measure.get("knows_detector"):
        parts.append("evading it")
    if (measure.get("draws") or 1) > 1:
        parts.append(f"{measure['draws']} draws a step")
    if hyper.get("loss", "ce") != "ce":
        parts.append(f"{hyper['loss']} loss")
    if measure.get("eps_share") is not None:
        parts.append(f"{measure['eps_share']:g} of the eps of reference")
    if measure["eps"] is None:
        return f"{', '.join(parts)}, {'L∞' if measure['norm'] == 'linf' else 'L2'}"
    eps = f"{255 * measure['eps']:.4g}/255" if measure["norm"] == "linf" else f"{measure['eps']:g}"
    doubt = " (not adaptive)" if "not adaptive" in measure["note"] else ""
    return f"{', '.join(parts)}, {'L∞' if measure['norm'] == 'linf' else 'L2'} {eps}{doubt}"


def _lowest(fitting: list[Mapping[str, Any]]) -> str:
    if not fitting:
        return NOT_MEASURED
    lowest = min(fitting, key=lambda m: m["accuracy"])
    doubt = ", **not adaptive**" if "not adaptive" in lowest.get("note", "") else ""
    return f"{in_percent(lowest)}, n={lowest['n']:,}{doubt}"
