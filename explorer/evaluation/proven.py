"""Certified accuracy by deterministic certificates: the share of images that are right and proven, radius by radius."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from torch import Tensor

from explorer.certify.accuracy import Mean
from explorer.certify.certifier import CertifiedRadius, Certifier, parts
from explorer.certify.certifiers import CERTIFIERS
from explorer.core import Classifier, InvalidValue
from explorer.core.device import hardware_name
from explorer.data import Images
from explorer.evaluation.measure import Measure, count

RADII: Mapping[str, tuple[float, ...]] = {  # the literature's: of 1-Lipschitz networks, interval bounds, patches
    "l2": (0.0, 36 / 255, 0.25, 72 / 255, 108 / 255, 0.5, 0.75, 1.0),
    "linf": (0.0, 1 / 255, 2 / 255, 4 / 255, 8 / 255, 0.05, 0.1),
    "patch": (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0),
}
AT_ONCE = 250  # images handed to a certifier


def certifier_for(key: str, model: Classifier) -> Certifier:
    """The deterministic certifier of that name. Raises UnknownName, and InvalidValue where it says nothing about the model."""
    certifier = CERTIFIERS[key]()
    if not certifier.deterministic:
        raise InvalidValue(f"{key} draws at random: it is what is done where no kind is named.")
    if (reason := certifier.reason_against(model)) is not None:
        raise InvalidValue(reason[0].upper() + reason[1:])
    return certifier


def certificates(certifier: Certifier, model: Classifier, x: Tensor) -> Iterator[CertifiedRadius]:
    """One for each image of x (N,C,H,W), in their order."""
    for part in parts(x, AT_ONCE):
        yield from (one for one in certifier.certificates(model, part) if one is not None)


def proven_measures(
    key: str, model: Classifier, images: Images, chosen: str, found: Sequence[CertifiedRadius], seconds: float
) -> list[Measure]:
    """What a card stores: one measure for each of the norm's radii. `chosen`: how the images were, in words."""
    certifier = CERTIFIERS[key]
    right = [one.label == y for one, y in zip(found, images.y.tolist(), strict=True)]
    shared: dict[str, Any] = {
        "kind": "certified", "certificate": key, "seed": 0, "batch": AT_ONCE, "data": f"{images.name} {images.split}, {images.source}",
        "chosen": chosen, "precision": "float32", "device": hardware_name(model.device), "seconds": round(seconds, 1),
        "verdict_draws": 1, "norm": certifier.norm, "abstained": sum(one.abstained for one in found),
        "average_radius": _average([one.radius if ok else 0.0 for one, ok in zip(found, right, strict=True)]),
        "note": f"deterministic; {certifier.caveat}",
    }  # fmt: skip
    measures = []
    for radius in RADII[certifier.norm]:
        proven = sum(ok and one.radius >= radius for one, ok in zip(found, right, strict=True))
        measures.append(Measure(**shared, **count(proven, len(found)), eps=radius))
    return measures


def _average(radii: Sequence[float]) -> dict[str, float] | None:
    """The mean of the radii with its 95 % interval over the choice of images; None if one is infinite."""
    if not all(map(math.isfinite, radii)):
        return None
    return asdict(Mean.of(radii, 0.0, max(radii)))
