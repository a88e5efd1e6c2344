"""Certification as a run's work: a certificate of each picture of a test set, and the certified accuracy that they prove."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, get_args

from explorer.certify import (
    Certificate,
    CertifyParams,
    Precision,
    Smoothed,
    accuracy_under_noise,
    average_radius,
    certified_accuracy,
)
from explorer.certify.bounds import check_enough
from explorer.certify.certifiers import CERTIFIERS
from explorer.certify.noise import IMAGES
from explorer.certify.store import Answer, Store, picture_hash
from explorer.certify.store import Question as Asked
from explorer.core import Cancelled, param, wilson
from explorer.core.rng import derived_seed
from explorer.evaluation import proven, published
from explorer.evaluation.tables import distance
from explorer.jobs.kinds import Cell, MeasuringSettings, Question, ShouldStop, facts_of, pictures, pinned
from explorer.models import zoo

if TYPE_CHECKING:
    import torch

    from explorer.core import Classifier
    from explorer.data import Images

SMOOTHING = "gaussian"
DRAWING = ("sigma", "n0", "n", "alpha", "seed", "precision", "sound")  # settings that are smoothing's alone
RADII = (0.0, *published.RADII)  # of smoothing; L2, pixel units


@dataclass(frozen=True)
class CertifySettings(CertifyParams, MeasuringSettings, shuffle=-1):
    """What `explorer certify` asks, and the Certify page of a test set."""

    images: int = param(500, "test images", lo=1, hi=10_000)
    certificate: str = param(SMOOTHING, "kind of certificate")
    seed: int = param(-1, "seed", lo=-1, hi=2**53 - 1, help="Of every draw; -1: the one kept for each question.")
    precision: Precision = param("float32", "precision", choices=get_args(Precision))
    sound: bool = param(False, "sound in floating point")


class Certify:
    """The kind."""

    verb = "Certifies"

    def checked(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        identity = pinned(settings)
        card = zoo.card(str(settings["model"]))
        usual = {"sigma": card.sigma or CertifyParams.sigma}
        found = CertifySettings.from_dict(usual | dict(settings) | {"weights": identity})
        CERTIFIERS.entry(found.certificate)
        check_enough(found.n, found.alpha)
        pictures(card.dataset, found.images, found.shuffle)
        return found.to_dict()

    def questions(self, settings: Mapping[str, Any], device: torch.device, should_stop: ShouldStop) -> list[Question]:
        asked = CertifySettings.from_dict(settings)
        card = zoo.card(asked.model)
        images, chosen = pictures(card.dataset, asked.images, asked.shuffle)
        model = zoo.load(asked.model, device)
        smoothing = asked.certificate == SMOOTHING
        values = {key: value for key, value in settings.items() if smoothing or key not in DRAWING}
        make = _drawn(asked, images, model, should_stop) if smoothing else _proven(asked, images, model, should_stop)
        title = CERTIFIERS.entry(asked.certificate).title
        return [Question(title, values | facts_of(images, chosen, device), [1] * len(images), make)]

    def row(self, conditions: Mapping[str, Any], cells: Sequence[Cell]) -> dict[str, Any]:
        certifier = CERTIFIERS.entry(conditions["certificate"])
        facts = _smoothed_facts(cells) if certifier.key == SMOOTHING else _proven_facts(certifier.cls.norm, cells)
        norm = certifier.cls.norm
        shares = [
            {"what": f"certified, {distance({'norm': norm, 'eps': one['radius']})}", **one}
            for one in facts.pop("radii")
        ]
        return {
            "title": certifier.title, "conditions": dict(conditions), "norm": certifier.cls.norm, "done": len(cells),
            **facts, "shares": shares, "pictures": list(cells),
        }  # fmt: skip


KIND = Certify()


def _drawn(asked: CertifySettings, images: Images, model: Classifier, should_stop: ShouldStop) -> Callable[[int], Cell]:
    """CERTIFY of one picture. Without a seed of one's own, an answer that was given before counts, and a new one is kept."""
    smoothed = Smoothed(model, asked.sigma, precision=asked.precision, sound=asked.sound)
    kept, draws = Store(), {"n0": asked.n0, "n": asked.n, "alpha": asked.alpha}
    told: dict[str, Any] = {"sigma": asked.sigma, "precision": asked.precision, "sound": asked.sound, **draws}

    def make(index: int) -> Cell:
        x, label = images.x[index], int(images.y[index])
        question = Asked(asked.weights, picture_hash(x), **told)
        found = kept.find(question) if asked.seed < 0 else None
        if found is None:
            seed = kept.seed(question) if asked.seed < 0 else derived_seed(asked.seed, IMAGES, index)
            found = _certified(smoothed, x, seed, label, draws, should_stop)
            if asked.seed < 0 and not found.certificate.skipped:
                found = kept.keep(question, found)
        return _cell(images, index, asdict(found.certificate))

    return make


def _certified(
    smoothed: Smoothed, x: torch.Tensor, seed: int, label: int, draws: Mapping[str, Any], should_stop: ShouldStop
) -> Answer:
    course: list[tuple[int, int]] = []
    certificate = None
    for now in smoothed.iter_certify(x, seed=seed, true_label=label, **draws):
        if should_stop():
            raise Cancelled("The certificate was stopped before its last draw.")
        if now.n_drawn:
            course.append((now.n_drawn, now.votes))
        certificate = now.certificate
    assert certificate is not None  # in the last one
    return Answer(certificate, tuple(course))


def _proven(
    asked: CertifySettings, images: Images, model: Classifier, should_stop: ShouldStop
) -> Callable[[int], Cell]:
    """The certificate of a kind that draws nothing; an endless radius (no change of pixels matters) is None."""
    certifier = proven.certifier_for(asked.certificate, model)

    def make(index: int) -> Cell:
        if should_stop():
            raise Cancelled("The certificate was stopped.")
        found = asdict(certifier.certificate(model, images.x[index].to(model.device)))
        del found["seconds"]  # not what was measured: another run's differ
        return _cell(images, index, found | {"radius": found["radius"] if math.isfinite(found["radius"]) else None})

    return make


def _cell(images: Images, index: int, certificate: dict[str, Any]) -> Cell:
    return {"index": int(images.index[index]), "true_label": int(images.y[index]), "certificate": certificate}


def _smoothed_facts(cells: Sequence[Cell]) -> dict[str, Any]:
    labels = [one["true_label"] for one in cells]
    found = [Certificate.from_dict(one["certificate"]) for one in cells]
    acr, noisy = average_radius(found, labels), accuracy_under_noise(found, labels)
    pairs = list(zip(found, labels, strict=True))
    return {
        "radii": [asdict(one) for one in certified_accuracy(found, labels, RADII)],
        "acr": acr.value, "acr_low": acr.low, "acr_high": acr.high, "under_noise": noisy.value,
        "abstained": sum(one.abstained and one.selected == label for one, label in pairs),
        "wrong": sum(one.selected != label for one, label in pairs),
    }  # fmt: skip


def _proven_facts(norm: str, cells: Sequence[Cell]) -> dict[str, Any]:
    found = [(one["certificate"], one["true_label"]) for one in cells]
    reach = [(math.inf if c["radius"] is None else c["radius"]) if c["label"] == y else -1.0 for c, y in found]
    radii = []
    for radius in proven.RADII[norm]:
        certified = sum(one >= radius for one in reach)
        low, high = wilson(certified, len(cells))
        share = {"accuracy": certified / len(cells), "low": low, "high": high, "certified": certified, "n": len(cells)}
        radii.append({"radius": radius, **share})
    return {
        "radii": radii,
        "abstained": sum(c["label"] is None for c, _ in found),
        "wrong": sum(c["label"] not in (None, y) for c, y in found),
    }
