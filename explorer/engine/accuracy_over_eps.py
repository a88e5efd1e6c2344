"""Accuracy over eps (a robustness curve) as a question: which models, attacks and sizes of eps, on how many pictures; and its table.

Nothing is measured here: its cells are those of background runs that evaluate (`explorer.jobs.evaluate`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from explorer.attacks import ATTACKS
from explorer.core import USUAL_EPS, Ball, InvalidValue, parse_number
from explorer.core.ball import Norm, as_norm
from explorer.data import dataset
from explorer.engine.parsing import as_text, as_whole, from_link
from explorer.engine.request import eps_text
from explorer.engine.tables import Row, Table
from explorer.models import zoo

SHARES = (0.0, 1 / 4, 1 / 2, 3 / 4, 1.0, 3 / 2, 2.0, 4.0)  # of the norm's usual eps
MOST = {"models": 4, "attacks": 3, "eps": 12, "n": 1000}
LINK = {name: name for name in ("models", "attacks", "norm", "eps", "n", "seed")} | {"data": "dataset"}
Place = tuple[str, str | None, float]  # of a cell: model, attack, eps; attack None at eps 0
Cells = Mapping[
    Place, Row
]  # what was measured there: accuracy, low, high (95 % Wilson interval), n, correct, conditions


def usual_eps(norm: str) -> tuple[float, ...]:
    """Eight sizes around the norm's usual eps, pixel units, 0 among them; in L0 whole numbers of pixels."""
    sizes = [share * USUAL_EPS[norm] for share in SHARES]
    return tuple(float(round(size)) for size in sizes) if norm == "l0" else tuple(sizes)


@dataclass(frozen=True)
class AccuracyOverEps:
    """One to four models of a dataset under one to three attacks at their defaults, at ascending sizes of eps.

    Text is understood where values are listed ("0,8/255"). Raises an ExplorerError with one sentence for anything unfit.
    """

    dataset: str
    models: tuple[str, ...]
    attacks: tuple[str, ...]
    norm: Norm = "linf"
    eps: tuple[float, ...] = ()  # pixel units; 0 is clean accuracy; empty: the norm's usual ones
    n: int = 100  # test pictures, evenly from all classes
    seed: int = 0  # of every draw

    def __post_init__(self) -> None:
        models, attacks, norm = _named("models", self.models), _named("attacks", self.attacks), as_norm(self.norm)
        eps, name = _sizes(self.eps, norm), dataset(as_text("dataset", self.dataset)).name
        for model in models:
            if (card := zoo.card(model)).dataset != name:
                raise InvalidValue(f"model {model} was made for {card.dataset}; got dataset {name!r}.")
        for attack in attacks:
            ATTACKS[attack]().check_threat(Ball(norm, eps[-1]))
        n, seed = as_whole("n", self.n, 1, MOST["n"]), as_whole("seed", self.seed, 0, 2**31 - 1)
        found = {"models": models, "attacks": attacks, "norm": norm, "eps": eps, "n": n, "seed": seed}
        for field, value in found.items():
            object.__setattr__(self, field, value)

    @property
    def places(self) -> tuple[Place, ...]:
        """Of all cells, model by model."""
        return tuple(place for model in self.models for attack in self.attacks for place in self.line(model, attack))

    def line(self, model: str, attack: str) -> tuple[Place, ...]:
        """The cells of one curve by rising eps; curves of one model share the one at eps 0."""
        return tuple((model, attack if eps else None, eps) for eps in self.eps)

    def settings(self, model: str) -> dict[str, Any]:
        """What a run that evaluates this model is asked."""
        attacks = [{"name": key, "hyper": ATTACKS[key]().to_dict()} for key in self.attacks]
        asked = {"model": model, "clean": 0.0 in self.eps, "norm": self.norm, "images": self.n, "seed": self.seed}
        return asked | {"attacks": attacks, "eps": [eps for eps in self.eps if eps]}

    def missing(self, cells: Cells) -> tuple[Place, ...]:
        """Places without a cell, each once."""
        return tuple(dict.fromkeys(place for place in self.places if place not in cells))

    def passes(self, cells: Cells) -> int:
        """Forward and backward passes of one picture that the attacks on the missing cells may need, by their own count
        (`expected_passes`), and one for each clean answer. Verdicts are not in it; pictures wrong at first are not attacked. An
        attack that looks for the smallest change walks once for all sizes of eps.
        """
        each = {key: ATTACKS[key]().expected_passes for key in self.attacks}
        walks = {(model, key, 0.0 if is_minimal(key) else eps) for model, key, eps in self.missing(cells)}
        return self.n * sum(1 if key is None else each[key] for _, key, _ in walks)

    def to_query(self) -> dict[str, str]:
        """Names and values of a link that `from_query` turns into an equal question; defaults are left out."""
        query = {
            "data": self.dataset,
            "models": ",".join(self.models),
            "attacks": ",".join(self.attacks),
            "norm": self.norm,
        }
        if self.eps != usual_eps(self.norm):
            query["eps"] = ",".join(map(eps_text, self.eps))
        usual = {"n": AccuracyOverEps.n, "seed": AccuracyOverEps.seed}
        return query | {name: str(getattr(self, name)) for name, value in usual.items() if getattr(self, name) != value}

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> AccuracyOverEps:
        """The question a link names; raises an ExplorerError for anything unfit."""
        return cls(**from_link(query, LINK, needed=("data", "models", "attacks")))

    def table(self, cells: Cells) -> Table:
        """One row a finished cell, with the conditions of each."""
        rows, conditions = [], []
        for place in dict.fromkeys(place for place in self.places if place in cells):
            model, attack, eps = place
            found = cells[place]
            facts = {name: found[name] for name in ("accuracy", "low", "high", "correct", "n")}
            at = {"model": model, "attack": attack, "norm": self.norm, "eps_pixel_units": eps}
            rows.append(at | facts | {"seed": self.seed})
            conditions.append(dict(found["conditions"]))
        return Table(tuple(rows), {"question": self.to_query(), "cells": conditions})


def is_minimal(attack: str | None) -> bool:
    """Whether this attack looks for the smallest change, whatever eps."""
    return attack is not None and ATTACKS[attack].budget == "minimal"


def _named(what: str, values: Any) -> tuple[str, ...]:
    """Distinct names, as many as allowed, of a list or of text with commas."""
    names = [one.strip() for one in values.split(",")] if isinstance(values, str) else list(values)
    names = [as_text(what, one) for one in names if one]
    if not 1 <= len(names) <= MOST[what] or len({*names}) < len(names):
        raise InvalidValue(f"{what} must be 1 to {MOST[what]} different ones; got {len(names)}.")
    return tuple(names)


def _sizes(values: Any, norm: Norm) -> tuple[float, ...]:
    """Ascending sizes of eps, at least one above 0."""
    parts = values.split(",") if isinstance(values, str) else values
    try:
        sizes = sorted({parse_number(one) for one in parts} or usual_eps(norm))
    except (ValueError, ZeroDivisionError, OverflowError) as error:
        raise InvalidValue(f'eps must be numbers or fractions such as "0, 4/255, 8/255"; got {values!r}.') from error
    if len(sizes) > MOST["eps"] or not sizes[-1] > 0:
        raise InvalidValue(f"eps must be at most {MOST['eps']} sizes, one of them above 0; got {values!r}.")
    for size in sizes:
        if size != 0:
            Ball(norm, size)  # refuses what is out of range
    return tuple(sizes)
