"""Results of the Lab: curves with their 95 % bands, the numbers, and the lowest at the usual eps beside what the cards say."""

from __future__ import annotations

import numpy as np
import streamlit as st

from explorer import __version__
from explorer.attacks import ATTACKS
from explorer.core import USUAL_EPS, wilson
from explorer.core.ball import NORM_NAMES
from explorer.engine import eps_text
from explorer.engine.accuracy_over_eps import AccuracyOverEps, Cells, is_minimal
from explorer.evaluation.standing import standing as of_card
from explorer.models import zoo
from explorer.plots.robustness import Curve, Spent, accuracy_over_eps, success_over_passes
from explorer.ui.components.conditions import as_json
from explorer.ui.components.figures import chart, dark
from explorer.ui.components.save import save_place
from explorer.ui.lab import point
from explorer.ui.text.certified import share, table

FIGURE, BUDGETS = "lab.curves", "lab.budgets"


def show(asked: AccuracyOverEps, cells: Cells, standing: bool) -> None:
    """All finished cells; `standing`: nothing is under way, so that what can be taken home stays open."""
    attacks = [ATTACKS.entry(key).title for key in asked.attacks]
    models = [*titles(asked).values()]
    st.header("Accuracy over eps", anchor=False)
    lines = reference_lines(asked)
    figure = accuracy_over_eps(
        curves(asked, cells), models, attacks, asked.norm, asked.eps[-1], lines=lines, dark=dark()
    )
    chart(figure, FIGURE)
    if lines:
        st.caption("Upright lines: shares of the eps of reference, at which the cards' FGSM measures were made.")
    st.caption(
        "Bands: 95 % intervals (Wilson) for each eps by itself, over the choice of pictures. An attack gives an upper bound: a "
        "stronger one may leave less."
    )
    st.html(table(_numbers(asked, cells)))
    st.caption(
        f"Accuracy in % with its 95 % interval, of {asked.n:,} pictures; –: not measured yet. eps in {NORM_NAMES[asked.norm]}."
    )
    _beside_cards(asked, cells)
    _equal_budgets(asked, cells)
    point.show(asked, cells)
    if standing:
        _save(asked, cells)


def titles(asked: AccuracyOverEps) -> dict[str, str]:
    """What each model is called; two of one title are told apart by their names."""
    found = {model: zoo.card(model).title for model in asked.models}
    twice = {title for title in found.values() if [*found.values()].count(title) > 1}
    return {
        model: f"{title} ({model.partition('/')[2]})" if title in twice else title for model, title in found.items()
    }


def reference_lines(asked: AccuracyOverEps) -> dict[str, float]:
    """Shares of the eps of reference that the models' cards were measured at, where all agree on one."""
    found: dict[str, set[float]] = {}
    for model in asked.models:
        for measure in zoo.card(model).measures:
            if measure.get("eps_share") is not None and measure["norm"] == asked.norm:
                found.setdefault(f"{measure['eps_share']:g} eps_ref", set()).add(measure["eps"])
    return {name: min(sizes) for name, sizes in found.items() if len(sizes) == 1 and min(sizes) <= asked.eps[-1]}


def curves(asked: AccuracyOverEps, cells: Cells) -> list[Curve]:
    """One for each model and attack that has a cell under it."""
    found = []
    for model, title in titles(asked).items():
        for attack in asked.attacks:
            line = [place for place in asked.line(model, attack) if place in cells]
            if not line:
                continue
            if is_minimal(attack) and (found_at := cells[line[-1]].get("distances")):
                found.append(_security_curve(title, attack, found_at, asked))
                continue
            accuracy, low, high = (
                np.array([cells[place][name] for place in line]) for name in ("accuracy", "low", "high")
            )
            eps = np.array([place[2] for place in line])
            found.append(Curve(title, ATTACKS.entry(attack).title, eps, accuracy, low, high, asked.n))
    return found


def _security_curve(title: str, attack: str, distances: list[float | None], asked: AccuracyOverEps) -> Curve:
    """Accuracy at every eps at once: a step down at each picture's smallest change (`distances`, of those right untouched)."""
    far = asked.eps[-1]
    eps = np.array([0.0, *sorted(d for d in distances if d is not None and d <= far), far])
    left = [len(distances) - min(k, len(eps) - 2) for k in range(len(eps))]
    ends = np.array([wilson(count, asked.n) for count in left])
    return Curve(
        title, ATTACKS.entry(attack).title, eps, np.array(left) / asked.n, ends[:, 0], ends[:, 1], asked.n, stairs=True
    )


def _equal_budgets(asked: AccuracyOverEps, cells: Cells) -> None:
    """Success over passes in place of steps, at the usual eps or the largest that was asked."""
    eps = USUAL_EPS[asked.norm] if USUAL_EPS[asked.norm] in asked.eps else asked.eps[-1]
    found = []
    for model, title in titles(asked).items():
        for attack in asked.attacks:
            cell = cells.get((model, attack, eps))
            if cell is not None and cell.get("passes"):
                passes = np.array([one for one in cell["passes"] if one >= 0])
                found.append(Spent(title, ATTACKS.entry(attack).title, passes, len(cell["passes"])))
    if all(len({*one.passes.tolist()}) < 2 for one in found):  # nothing that takes steps: no budget to compare
        return
    st.header(f"Equal budgets, at eps {eps_text(eps)}", anchor=False)
    attacks = [ATTACKS.entry(key).title for key in asked.attacks]
    chart(success_over_passes(found, [*titles(asked).values()], attacks, dark=dark()), BUDGETS)
    st.caption(
        "The share of pictures, of those right untouched, that an attack has fooled within so many forward and backward passes "
        "each: attacks are compared at equal budgets, not at equal steps. Attacks on random models, and those that look for the "
        "smallest change, are judged at their end alone and have no line."
    )


def _numbers(asked: AccuracyOverEps, cells: Cells) -> list[list[str]]:
    rows = [["Model", "Attack", *(eps_text(eps) for eps in asked.eps)]]
    for model, title in titles(asked).items():
        for attack in asked.attacks:
            told = [share(cells[place]) if place in cells else "–" for place in asked.line(model, attack)]
            rows.append([title, ATTACKS.entry(attack).title, *told])
    return rows


def _beside_cards(asked: AccuracyOverEps, cells: Cells) -> None:
    """The lowest accuracy here at the norm's usual eps, and the lowest that the model's card knows there."""
    usual = USUAL_EPS[asked.norm]
    rows = [["Model", "Lowest here", "by", "Lowest on its card"]]
    for model, title in titles(asked).items():
        here = [cells[place] for attack in asked.attacks if (place := (model, attack, usual)) in cells]
        known = getattr(of_card(zoo.card(model)), asked.norm, None)  # a card tells L-infinity and L2
        if here:
            low = min(here, key=lambda row: row["accuracy"])
            attacks = [row["conditions"]["attack"] for row in here if row["accuracy"] == low["accuracy"]]
            by = ", ".join(ATTACKS.entry(key).title for key in attacks)
            told = "not measured" if known is None else f"{share(vars(known))}, n = {known.n:,}"
            rows.append([title, f"{share(low)}, n = {low['n']:,}", by, told])
    if len(rows) > 1:
        st.header(f"Beside the cards, at eps {eps_text(usual)}", anchor=False)
        st.html(table(rows))
        st.caption("In % with 95 % intervals. A card counts thorough attacks alone: PGD, APGD, AutoAttack.")


def _save(asked: AccuracyOverEps, cells: Cells) -> None:
    found = asked.table(cells)
    names = "-".join(model.partition("/")[2] for model in asked.models)
    save_place(
        f"{names}-accuracy-over-eps-{asked.norm}",
        about=f"{asked.n:,} test pictures of {asked.dataset}, evenly from all classes, seed {asked.seed}; bands: 95 % intervals "
        f"(Wilson). Robustness Explorer {__version__}.",
        table=found,
        figures={FIGURE: "Accuracy over eps"},
        key="lab.save",
    )
    with st.expander("All conditions of every cell"):
        as_json(dict(found.conditions))
