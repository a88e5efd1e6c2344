"""Tables of certified accuracy: the report's and the paper's numbers beside ours, which come from the cards alone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from explorer.certify import largest_radius
from explorer.core import wilson
from explorer.engine.certifying_set import CertifiedSet
from explorer.evaluation.predicting import OUTCOMES
from explorer.evaluation.published import (
    CERTIFIED,
    COHEN,
    PREDICT,
    PREDICT_SIGMA,
    RADII,
    REPORT,
    SIGMAS,
    UNDER_NOISE,
)
from explorer.evaluation.tables import NOT_MEASURED
from explorer.models import zoo
from explorer.models.zoo import Card
from explorer.plots.certify import Curve, down

Measures = list[Mapping[str, Any]]
SHOWN = (0.0, 0.25, 0.5, 0.75, 1.0)  # radii of the table of numbers
OURS = "ours"
CONDITIONS = ("sigma", "n0", "draws", "alpha", "n", "precision", "data", "chosen", "seed")


def certified(card: Card) -> dict[float, Measures]:
    """For each sigma the card's certified accuracies, by radius: of several series, that of most images, then most draws."""
    series: dict[tuple, Measures] = {}
    for m in card.measures:
        if m["kind"] == "certified" and m.get("certificate") is None:  # by noise
            series.setdefault(tuple(m[name] for name in CONDITIONS), []).append(m)
    best: dict[float, Measures] = {}
    for rows in series.values():
        first = rows[0]
        known = best.get(first["sigma"])
        if known is None or (first["n"], first["draws"]) > (known[0]["n"], known[0]["draws"]):
            best[first["sigma"]] = sorted(rows, key=lambda m: m["eps"])
    return dict(sorted(best.items()))


def called(card: Card, sigma: float) -> str:
    """The model and the noise it was smoothed with, said once."""
    return card.title if f"sigma {sigma:g}" in card.title else f"{card.title}, σ {sigma:g}"


def average_radius(measure: Mapping[str, Any]) -> tuple[str, str]:
    """The average certified radius, rounded down, with its interval where it is known, and the number of abstentions."""
    mean, abstained = measure.get("average_radius"), measure.get("abstained")
    if mean is not None and abstained is not None:
        return f"{down(mean['value'], 3)} [{mean['low']:.3f} to {mean['high']:.3f}]", str(abstained)
    found = _NOTED.search(measure["note"])
    return (found[1], found[2]) if found else (NOT_MEASURED, NOT_MEASURED)


_NOTED = re.compile(r"average certified radius ([0-9.]+), ([0-9]+) abstentions")  # where cards kept them at first


def curves(cards: Iterable[Card]) -> list[Curve]:
    """What the cards know, as points, as far as the number of draws can reach."""
    found = []
    for card in cards:
        for sigma, rows in certified(card).items():
            rows = [m for m in rows if _within_reach(m, m["eps"])]
            radius, accuracy, low, high = (np.array([m[k] for m in rows]) for k in ("eps", "accuracy", "low", "high"))
            owner, n = called(card, sigma), rows[0]["n"]
            found.append(Curve(f"{owner}: card, n={n}", radius, accuracy, low, high, n, points=True, owner=owner))
    return found


def owners(cards: Iterable[Card]) -> list[str]:
    """Whose curves there may be, drawn or not: the order in which colours and marks are given."""
    return [called(card, sigma) for card in cards for sigma in certified(card)]


def curve(now: CertifiedSet) -> Curve:
    """What was certified here, as a line."""
    rows, n = now.curve(), len(now.certificates)
    owner = called(zoo.card(now.request.model), now.request.single(0).params.sigma)
    radius, accuracy, low, high = np.array([(row.radius, row.accuracy, row.low, row.high) for row in rows]).T
    return Curve(f"{owner}: here, n={n}", radius, accuracy, low, high, n, owner=owner)


def conditions(cards: Iterable[Card]) -> list[str]:
    """One line for each series of the cards."""
    return [
        f"{card.name}: {m['n']} images ({m['chosen']}), n0 {m['n0']}, n {m['draws']:,}, alpha {m['alpha']:g} each, {m['precision']}; "
        f"{m['note']}"
        for card in cards
        for m in (rows[0] for rows in certified(card).values())
    ]


def numbers(sets: Sequence[CertifiedSet], cards: Sequence[Card]) -> str:
    """One row a set: what the network does without noise, on noisy copies, what is certified, and the average radius."""
    radii = [f"r = {r:g}" for r in SHOWN]
    rows = [["Model", "Pictures × copies", "No noise", "Noisy copies", *radii, "Average radius", "Abstains"]]
    for now in sets:
        right, total = now.natural
        noisy, acr = now.noisy, now.acr
        assert noisy is not None and acr is not None  # as soon as there is a certificate
        cells = [_share(right / total, *wilson(right, total)), _share(noisy.value, noisy.low, noisy.high)]
        cells += [_share(row.accuracy, row.low, row.high) for row in now.curve(SHOWN)]
        mean = down(acr.value, 3) + (f" [{acr.low:.3f} to {acr.high:.3f}]" if acr.low < acr.high else "")
        title = called(zoo.card(now.request.model), now.request.single(0).params.sigma)
        rows.append(
            [title, f"{len(now.certificates)} × {now.request.n:,}, here", *cells, mean, str(now.counts["abstained"])]
        )
    for card in cards:
        for sigma, measures in certified(card).items():
            made = f"{measures[0]['n']} × {measures[0]['draws']:,}, card"
            cells = [_of_card(card, "clean", None), _of_card(card, "noisy", sigma)]
            cells += [cell(measures, radius) for radius in SHOWN]
            rows.append([called(card, sigma), made, *cells, *average_radius(measures[0])])
    return table(rows)


def _share(value: float, low: float, high: float) -> str:
    """In %, with its interval; without one where all pictures gave the same number, which tells nothing of its spread."""
    return f"{100 * value:.0f}" + (f" [{100 * low:.0f} to {100 * high:.0f}]" if low < high else "")


def _of_card(card: Card, kind: str, sigma: float | None) -> str:
    found = [m for m in card.measures if m["kind"] == kind and m["sigma"] == sigma]
    return share(found[0]) if found else NOT_MEASURED


def radii_table(cards: Sequence[Card]) -> str:
    """Table 3: certified accuracy in % for each sigma: the report's, the paper's, ours with the 95 % interval."""
    rows = [["σ", "Who", *(f"r = {r:g}" for r in RADII)]]
    for sigma in SIGMAS:
        for source in (REPORT, COHEN):
            rows.append([f"{sigma:g}", source.name, *(f"{100 * share:.0f}" for share in CERTIFIED[source.name][sigma])])
        mine = [(card, certified(card).get(sigma)) for card in cards]
        found = [(card, measures) for card, measures in mine if measures]
        for card, measures in found:
            rows.append([f"{sigma:g}", f"{OURS}, {card.title}", *(cell(measures, r) for r in RADII)])
        if not found:
            rows.append([f"{sigma:g}", OURS, *[NOT_MEASURED] * len(RADII)])
    return table(rows)


def cell(measures: Measures, radius: float) -> str:
    """The certified accuracy at a radius in %, with its interval; 0 beyond what the number of draws can reach at all."""
    if not _within_reach(measures[0], radius):
        return "0 [out of reach]"
    return next((share(m) for m in measures if m["eps"] == radius), NOT_MEASURED)


def _within_reach(measure: Mapping[str, Any], radius: float) -> bool:
    """Whether any image at all can be certified at this radius with the measure's number of draws."""
    return radius <= largest_radius(measure["sigma"], measure["draws"], measure["alpha"])


def share(m: Mapping[str, Any]) -> str:
    """A measure in %, with its 95 % interval."""
    return f"{100 * m['accuracy']:.1f} [{100 * m['low']:.1f} to {100 * m['high']:.1f}]"


def standing(cards: Sequence[Card]) -> str:
    """How ours stand beside the report's table 3: its non-zero cells, how many we measured, how many reach its number."""
    cells = [(s, r, v) for s, row in CERTIFIED[REPORT.name].items() for r, v in zip(RADII, row, strict=True) if v > 0]
    measured = reached = surely = 0
    for sigma, radius, value in cells:
        ours = [m for card in cards for m in certified(card).get(sigma, ()) if m["eps"] == radius]
        if ours:
            best = max(ours, key=lambda m: m["accuracy"])
            measured += 1
            reached += best["accuracy"] >= value
            surely += best["low"] > value
    return (
        f"Of the report's {len(cells)} non-zero cells, {measured} are measured here (the best of our models for each σ); "
        f"{reached} of them are at least the report's number, {surely} of these by more than our 95 % interval. Other "
        "architectures, training and images: the tables stand side by side, they are no duel."
    )


def noise_table(cards: Sequence[Card]) -> str:
    """Table 1: accuracy on noisy images in %; ours was measured on test images alone."""
    rows = [["σ", "Who", "train", "test"]]
    for sigma in SIGMAS:
        train, test = UNDER_NOISE[sigma]
        rows.append([f"{sigma:g}", REPORT.name, f"{100 * train:.1f}", f"{100 * test:.1f}"])
        found = [(card, m) for card in cards for m in card.measures if m["kind"] == "noisy" and m["sigma"] == sigma]
        for card, m in found:
            rows.append([f"{sigma:g}", f"{OURS}, {card.title}, n={m['n']:,}", "–", share(m)])
        if not found:
            rows.append([f"{sigma:g}", OURS, "–", NOT_MEASURED])
    return table(rows)


def predicted(cards: Iterable[Card], sigma: float) -> list[tuple[Card, Measures]]:
    """The cards that know what PREDICT says at this sigma, each with its measures by rising n."""
    found: list[tuple[Card, Measures]] = []
    for card in cards:
        known: Measures = [m for m in card.measures if m["kind"] == "predict" and m["sigma"] == sigma]
        if known:
            found.append((card, sorted(known, key=lambda m: m["draws"])))
    return found


def predict_table(cards: Sequence[Card]) -> str:
    """Table 4: what PREDICT says with n draws; ours from the cards, each share with its 95 % interval."""
    ours = predicted(cards, PREDICT_SIGMA)
    rows = [["n", "Who", *OUTCOMES.values()]]
    for n, p in PREDICT.items():
        rows.append([f"{n:,}", REPORT.name, *(f"{100 * getattr(p, name):.0f}" for name in OUTCOMES)])
        mine = [(card, m) for card, measures in ours for m in measures if m["draws"] == n]
        for card, m in mine:
            cells = (share({"accuracy": m["outcomes"][name]["share"], **m["outcomes"][name]}) for name in OUTCOMES)
            rows.append([f"{n:,}", f"{OURS}, {card.title}, n={m['n']:,}", *cells])
        if not mine:
            rows.append([f"{n:,}", OURS, *[NOT_MEASURED] * len(OUTCOMES)])
    return table(rows)


def predict_notes(cards: Sequence[Card]) -> list[str]:
    """Under which conditions ours of table 4 were made, one line a series."""
    lines = []
    for card, measures in predicted(cards, PREDICT_SIGMA):
        series: dict[tuple, list[int]] = {}
        for m in measures:
            series.setdefault((m["n"], m["chosen"], m["alpha"], m["precision"], m["seed"], m["note"]), []).append(
                m["draws"]
            )
        for (n, chosen, alpha, precision, seed, note), draws in series.items():
            asked = ", ".join(f"{d:,}" for d in draws)
            lines.append(
                f"{card.name}, {asked} draws: {n:,} images ({chosen}), alpha {alpha:g} each, {precision}, seed {seed}; {note}."
            )
    return lines


def table(rows: Sequence[Sequence[str]]) -> str:
    """HTML of a head and rows; "62.4 [58.1 to 66.5]" becomes a number with its interval below; rows of "ours" are tinted."""
    head, *body = rows
    lines = [f"<tr>{''.join(f'<th style={_EDGE!r}>{escape(text)}</th>' for text in head)}</tr>"]
    for row in body:
        tint = ' style="background:rgba(63,127,209,.12)"' if any(text.startswith(OURS) for text in row) else ""
        lines.append(f"<tr{tint}>{''.join(f'<td style={_EDGE!r}>{_two_lines(text)}</td>' for text in row)}</tr>")
    return (
        '<div style="overflow-x:auto"><table style="border-collapse:collapse;width:100%;font-size:.875rem;line-height:1.3">'
        f"{''.join(lines)}</table></div>"
    )


_EDGE = "border-bottom:1px solid rgba(128,128,128,.35);padding:.35rem .4rem;text-align:left;vertical-align:top"


def _two_lines(text: str) -> str:
    number, bracket, interval = text.partition(" [")
    if not bracket:
        return escape(text)
    return f'<b>{escape(number)}</b><br><span style="opacity:.75;white-space:nowrap">{escape(interval.replace("]", ""))}</span>'
