"""Tables made from the cards, the same on the Models page, in docs/models.md and on the command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from explorer.attacks import ATTACKS
from explorer.certify.certifiers import CERTIFIERS
from explorer.core import USUAL_EPS
from explorer.core.ball import THREAT_NAMES
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
    "Certified, L2 0.25": lambda m: m["kind"] == "certified" and m["norm"] == "l2" and m["eps"] == 0.25,
}


def headlines(card: Card) -> dict[str, str]:
    """The card's measure for each column, with its interval. Of several that fit, the lowest: the best attack counts."""
    return {column: _in_words(headline_measure(card, column)) for column in HEADLINES}


def headline_measure(card: Card, column: str) -> Mapping[str, Any] | None:
    """The card's measure for one of HEADLINES, the lowest of several that fit; None: not measured."""
    return min((m for m in card.measures if HEADLINES[column](m)), key=lambda m: m["accuracy"], default=None)


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
    """All measures of one card, in their order: what was done, how it was judged, and the number with its interval; then the
    tables of common corruptions."""
    head = ["Measure", "On", "Judged by", "Accuracy", "n"]
    rows = [head, ["---"] * len(head)]
    for m in card.measures:
        judged = f"majority of {m['verdict_draws']} fresh draws" if m["verdict_draws"] > 1 else "one look"
        made = m.get("variant") or m.get("source_model") or ("itself" if m["attack"] else "")
        rows.append([what(m), made, judged, value(m), f"{m['n']:,}"])
    spoilt = [corrupted(m["outcomes"]) for m in card.measures if m["kind"] == "corrupted"]
    blocks = [rows, *([[*CORRUPTED], ["---"] * len(CORRUPTED), *table] for table in spoilt)]
    return "\n\n".join("\n".join(f"| {' | '.join(row)} |" for row in block) for block in blocks)


CORRUPTED = ("right under", *(f"severity {k}" for k in range(1, 6)))


def corrupted(outcomes: Mapping[str, Mapping[str, float]]) -> list[list[str]]:
    """One row a corruption, and their mean, under the head CORRUPTED: shares in percent."""
    return [[name, *(f"{100 * share:.1f} %" for share in row.values())] for name, row in outcomes.items()]


def what(measure: Mapping[str, Any]) -> str:
    """ "adaptive: PGD, 20 steps, 16 draws a step, L∞ 8/255"."""
    if measure["kind"] == "certified":
        by = measure.get("certificate")
        how = f"sigma {measure['sigma']:g}" if by is None else CERTIFIERS.entry(by).title
        return f"certified at {distance(measure)}, {how}"
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
    if "objective" in hyper:  # of a retrieval attack
        parts.append(hyper["objective"])
    if (measure.get("draws") or 1) > 1:
        parts.append(f"{measure['draws']} draws a step")
    if hyper.get("loss", "ce") != "ce":
        parts.append(f"{hyper['loss']} loss")
    if measure.get("eps_share") is not None:
        parts.append(f"{measure['eps_share']:g} of the eps of reference")
    doubt = " (not adaptive)" if "not adaptive" in measure["note"] else ""
    return f"{', '.join(parts)}, {distance(measure)}{doubt}"


def distance(measure: Mapping[str, Any]) -> str:
    """ "L∞ 8/255", "L2 0.5", "patch 5x5"; of minimal attacks the norm alone."""
    norm, eps = measure["norm"], measure["eps"]
    if norm == "patch":
        return f"patch {eps:.0f}x{eps:.0f}"
    sign = THREAT_NAMES[norm]
    if eps is None:
        return sign
    return f"{sign} {255 * eps:.4g}/255" if norm == "linf" else f"{sign} {eps:g}"


def _in_words(measure: Mapping[str, Any] | None) -> str:
    if measure is None:
        return NOT_MEASURED
    doubt = ", **not adaptive**" if "not adaptive" in measure.get("note", "") else ""
    return f"{in_percent(measure)}, n={measure['n']:,}{doubt}"
