"""A cell of the reports' tables as a run in the background: what such a run is asked, and what its table says for the cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from explorer.attacks import ATTACKS
from explorer.core import Ball, DataUnavailable, UnknownName
from explorer.core.ball import as_norm
from explorer.data import dataset, raw
from explorer.data.loading import files_of
from explorer.evaluation.ranking import DEEPFOOL
from explorer.evaluation.report_tables import Ask
from explorer.evaluation.reports import FEW
from explorer.jobs.certify import CertifySettings
from explorer.jobs.evaluate import EvaluateSettings
from explorer.jobs.roc import RocSettings, usual_eps
from explorer.models import zoo
from explorer.models.zoo import Card

ATTACKED = 1000  # test images of an attack, as `evaluate --reports-settings` takes
Settings = dict[str, Any]


def question(ask: Ask) -> tuple[str, Settings] | None:
    """Kind and settings, as a submitted spec names them, of the run that measures exactly this; None where no kind does.

    Clean accuracy, one attack at one eps, smoothing's certified accuracy, and the classes' AUC. Several attacks in turn, an eps that other
    measures give (a share of the eps of reference), noise, PREDICT and rho_2 are measured by commands alone.
    """
    try:
        card = zoo.card(ask.model)
    except UnknownName:
        return None  # it is not trained yet
    if ask.kind == "clean":
        wanted = FEW if card.stochastic else dataset(card.dataset).rows["test"]
        return "evaluate", _evaluate(card, images=wanted) | {"attacks": [], "eps": []}
    if ask.kind == "certified":
        own = {"sigma": ask.where["sigma"], "images": _there(card, CertifySettings.images)}
        return "certify", CertifySettings(model=card.name, weights=card.identity, **own).to_dict()
    if ask.kind == "class AUC":
        made_on, n = ask.where["source_model"] or "", _there(card, dataset(card.dataset).rows["test"])
        curves = RocSettings(model=card.name, weights=card.identity, source=made_on, eps=usual_eps(card), images=n)
        return "roc", curves.to_dict()
    if len(ask.attacks) == 1 and "eps" in ask.where:
        (key, hyper), ball = ask.attacks[0], Ball(as_norm(ask.where["norm"]), ask.where["eps"])
        attacks = [{"name": key, "hyper": ATTACKS[key](**hyper).to_dict()}]
        asked = _evaluate(card, clean=False, norm=ball.norm, images=ATTACKED)
        return "evaluate", asked | {"attacks": attacks, "eps": [ball.eps]}
    return None


def measure(ask: Ask, kind: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The run's number for this cell, with the fields that a card's measure has; `rows`: a finished run's table."""
    row = next(one for one in rows if one["conditions"].get("set", DEEPFOOL) == DEEPFOOL)
    about = row["conditions"]
    told = {"seed": about["seed"], "verdict_draws": about.get("verdict_draws", 1)}
    if kind == "certify":
        (share,) = [one for one in row["shares"] if one["radius"] == ask.where["eps"]]
        drawn = {"n0": about["n0"], "draws": about["n"], "alpha": about["alpha"], "sigma": about["sigma"]}
        return told | drawn | {"kind": "certified", "eps": share["radius"], "norm": "l2"} | share
    if kind == "roc":
        classes = [[one["auc"], one["low"], one["high"]] for one in row["curves"]]
        made_on = {"source_model": about["source"] or None, "attack": "deepfool", "n": row["n"]}
        return {**about, **told, **made_on, "kind": "class AUC", "classes": classes}
    facts = {name: row[name] for name in ("accuracy", "low", "high", "n")}
    return {"kind": "clean", **about, **told, **facts, "draws": about.get("hyper", {}).get("draws")}


def _evaluate(card: Card, *, images: int, **asked: Any) -> Settings:
    return EvaluateSettings(model=card.name, weights=card.identity, images=_there(card, images), **asked).to_dict()


def _there(card: Card, wanted: int) -> int:
    """So many test images, or all that this computer has: the full set's, else the bundled ones. Decodes no full set."""
    try:
        files_of(card.dataset, "test")
        most = dataset(card.dataset).rows["test"]
    except DataUnavailable:
        most = len(raw(card.dataset, "test", "sample")[1])
    return min(wanted, most)
