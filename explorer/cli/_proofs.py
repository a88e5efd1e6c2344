"""Deterministic certificates of many test images: `explorer certify NAME --kind KIND`."""

from __future__ import annotations

import argparse
import time
from math import isfinite
from typing import Any

from explorer.certify.certifier import CertifiedRadius
from explorer.certify.certifiers import CERTIFIERS
from explorer.cli._console import Console, images_of, whole, write_card
from explorer.core import InvalidValue
from explorer.engine import choose
from explorer.evaluation.proven import certificates, certifier_for, proven_measures
from explorer.evaluation.tables import distance, in_percent
from explorer.models import zoo

SMOOTHING = (
    "sigma",
    "n",
    "n0",
    "alpha",
    "seed",
    "resume",
    "bench",
    "predict",
    "counts",
    "sound",
)  # options that say of noise


def kinds() -> list[str]:
    """The deterministic kinds' names."""
    return [key for key in CERTIFIERS.keys() if CERTIFIERS[key].deterministic]


def run(options: argparse.Namespace, console: Console) -> Any:
    if meant := next((name for name in SMOOTHING if getattr(options, name) not in (None, False)), None):
        raise InvalidValue(f"--{meant} is of noise; a certificate of the kind {options.kind} draws none.")
    card = zoo.card(options.name)
    n = None if options.images == "all" else whole("images", options.images, 1, 10_000)
    model = zoo.load(card.name, choose(options.device))
    certifier = certifier_for(options.kind, model)
    images, chosen = images_of(card.dataset, n)
    found: list[CertifiedRadius] = []
    began = time.perf_counter()
    with console.bar(len(images), "images") as bar:
        for one in certificates(certifier, model, images.x.to(model.device)):
            found.append(one)
            bar.update()
    seconds = time.perf_counter() - began
    measures = proven_measures(options.kind, model, images, chosen, found, seconds)
    rows = [m.to_dict() for m in measures]
    console.say(
        f"{card.name}: right and proven ({CERTIFIERS.entry(options.kind).title}), with its 95 % interval over the choice of images"
    )
    console.table(["distance", "certified"], [[distance(row), in_percent(row)] for row in rows])
    console.say(f"{chosen}, {images.source}; deterministic, float32; {certifier.caveat} {seconds:.0f} s")
    if options.write:
        write_card(card.name, measures, console)
    radii = [one.radius if isfinite(one.radius) else None for one in found]
    labels = [one.label for one in found]
    return {"model": card.name, "weights": card.sha256, "measures": rows, "radii": radii, "labels": labels}
