"""ROC curves of a model's classes as a run's work: clean, under FGSM and under DeepFool, batch by batch (`evaluation/ranking.py`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.core import USUAL_EPS, InvalidValue, param
from explorer.data import dataset
from explorer.defenses.deep_defense import OVERSHOOT, STEPS
from explorer.evaluation.batch_attack import stop_if_asked
from explorer.evaluation.boundary import FREE
from explorer.evaluation.ranking import CLEAN, DEEPFOOL, FGSM, SETS, class_curves, log_odds, ranked_pictures
from explorer.evaluation.robustness import BATCH, batch_of
from explorer.jobs.kinds import Cell, MeasuringSettings, Question, ShouldStop, facts_of, pictures, pinned
from explorer.models import zoo

if TYPE_CHECKING:
    import torch

    from explorer.data import Images

TITLES = {CLEAN: "clean", FGSM: "FGSM", DEEPFOOL: "DeepFool"}


@dataclass(frozen=True)
class RocSettings(MeasuringSettings, shuffle=-1):
    """What the Lab page asks of the classes of a model."""

    source: str = param("", "made on", help="The model that is attacked; empty: the ranked one itself.")
    eps: float = param(
        USUAL_EPS["linf"],
        "eps",
        lo=1e-5,
        hi=1.0,
        help="Of FGSM, L-infinity, in pixel units; DeepFool's changes are of any length.",
    )
    images: int = param(1000, "test images", lo=20, hi=10_000)


class Roc:
    """The kind."""

    verb = "Ranks"

    def checked(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        identity = pinned(settings)
        found = RocSettings.from_dict(dict(settings) | {"weights": identity})
        card = zoo.card(found.model)
        for other in (card, zoo.card(found.source or found.model)):
            if other.stochastic or other.dataset != card.dataset:
                raise InvalidValue(f"both models must be deterministic and of {card.dataset}; got {other.name}.")
        pictures(card.dataset, found.images, found.shuffle)
        return found.to_dict() | {"source": "" if found.source == card.name else found.source}

    def questions(self, settings: Mapping[str, Any], device: torch.device, should_stop: ShouldStop) -> list[Question]:
        asked = RocSettings.from_dict(settings)
        card = zoo.card(asked.model)
        images, chosen = pictures(card.dataset, asked.images, asked.shuffle)
        model = zoo.load(asked.model, device)
        source = zoo.load(asked.source, device) if asked.source else model
        made_on = zoo.card(asked.source).identity if asked.source else ""
        shared = {key: value for key, value in settings.items() if key != "eps"} | facts_of(images, chosen, device)
        shared |= {"source_weights": made_on, "batch": BATCH}
        sizes = [min(BATCH, len(images) - at * BATCH) for at in range(math.ceil(len(images) / BATCH))]
        found = []
        for key in SETS:
            conditions = shared | _facts(key, asked)
            make = _make(key, asked, images, model, source, should_stop)
            found.append(Question(TITLES[key], conditions, sizes, make))
        return found

    def row(self, conditions: Mapping[str, Any], cells: Sequence[Cell]) -> dict[str, Any]:
        scores, labels = (np.array([one for cell in cells for one in cell[name]]) for name in ("scores", "labels"))
        found, names = class_curves(scores, labels), dataset(zoo.card(conditions["model"]).dataset).classes
        curves = [
            {"class": names[one.label], "label": one.label, "auc": one.auc.value, "low": one.auc.ends[0], "high": one.auc.ends[1],
             "positives": one.positives, "false_positive": one.false_positive.tolist(), "true_positive": one.true_positive.tolist()}
            for one in found
        ]  # fmt: skip
        title = TITLES[conditions["set"]]
        about = {"title": title, "conditions": dict(conditions), "done": len(labels), "n": len(labels), "shares": []}
        return about | {"said": _said(title, curves, len(labels)), "curves": curves}


KIND = Roc()


def usual_eps(card: zoo.Card) -> float:
    """The eps of reference that the model's card was measured at, to four places; else the usual one of L-infinity."""
    of_card = [m["eps"] for m in card.measures if m.get("eps_share") == 1.0]
    return round(of_card[-1], 4) if of_card else USUAL_EPS["linf"]


def _facts(key: str, asked: RocSettings) -> dict[str, Any]:
    """What decides about one set of pictures."""
    if key == FGSM:
        return {"set": key, "norm": "linf", "eps": asked.eps}
    if key == DEEPFOOL:
        return {
            "set": key,
            "norm": "l2",
            "eps": None,
            "hyper": {"steps": STEPS, "overshoot": OVERSHOOT},
            "variant": FREE,
        }
    return {"set": key, "norm": None, "eps": None}


def _make(
    key: str, asked: RocSettings, images: Images, model: Any, source: Any, should_stop: ShouldStop
) -> Callable[[int], Cell]:
    def make(index: int) -> Cell:
        stop_if_asked(should_stop)
        x, y, rng = batch_of(images, model, BATCH, asked.seed, index)
        scores = log_odds(model, ranked_pictures(key, source, x, y, asked.eps, rng))
        return {"scores": [[float(f"{v:.7g}") for v in row] for row in scores.tolist()], "labels": y.tolist()}

    return make


def _said(title: str, curves: Sequence[Mapping[str, Any]], n: int) -> str:
    """The mean, and the class that is told from the others least."""
    if not curves:
        return f"{title}: no class by now."
    least, mean = min(curves, key=lambda one: one["auc"]), sum(one["auc"] for one in curves) / len(curves)
    return f"{title}, {n:,} pictures: mean AUC {mean:.4f}, lowest {least['auc']:.4f} ({least['class']})."
