"""Compute UMAP maps of models' penultimate features, ahead of time, for the app to draw.

  python -m explorer features cifar10/baseline
  python -m explorer features --all

A map shows the reference images, all of the bundled sample. It is kept as arrays with the sha256 of the weights, in the
user's cache folder; with --write beside the model's card, together with the reference features, to be shipped. The PCA
maps need nothing computed ahead. One that is there and belongs to the weights is left alone, unless --again is given.
"""

from __future__ import annotations

import argparse
import os
import time
from typing import Any

from explorer.cli._console import Console
from explorer.core import InvalidValue
from explorer.engine import choose
from explorer.features import Embedding, Gathering, Maps, NoMap, Reference
from explorer.features.reference import fits, save_features
from explorer.features.umap_map import UmapSettings, compute, keep
from explorer.models import zoo


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="*", help="which models; `python -m explorer models` lists them")
    parser.add_argument("--all", action="store_true", help="all models")
    parser.add_argument("--again", action="store_true", help="also where a map is there already")
    parser.add_argument("--write", action="store_true", help="beside the model's card, to be shipped")
    parser.add_argument(
        "--background", action="store_true", help="the lowest priority, and what it is doing line by line"
    )


def run(options: argparse.Namespace, console: Console) -> Any:
    if options.all == bool(options.name):
        raise InvalidValue("features needs the names of models, or --all.")
    if options.background and hasattr(os, "nice"):
        os.nice(19)
    cards = zoo.cards() if options.all else [zoo.card(name) for name in options.name]
    return [_one(card, options, console) for card in cards]


def _one(card: zoo.Card, options: argparse.Namespace, console: Console) -> dict[str, Any]:
    began = time.monotonic()
    reference = _gathered(card, options, console)
    if options.write and not reference.directions:
        file = zoo.features_file(card.name)
        if not fits(file, reference, card.identity):
            save_features(reference, card.identity, file)
            reference = _gathered(card, options, console)  # as everybody will read them: in half precision
    found = None if options.again else _found(card, reference)
    if found is None:
        data = compute(reference, card.identity, UmapSettings(), lambda doing: console.say(f"{card.name}: {doing} ..."))
        file = keep(card.name, card.identity, data, beside=options.write)
        found = Maps(reference, card.name, card.identity).umap()
        console.say(f"{card.name}: {time.monotonic() - began:.0f} s, {len(data) / 1024:.0f} KiB in {file}")
    else:
        console.say(f"{card.name}: a map is there already")
    facts = dict(found.facts)
    console.say(
        f"{card.name}: trustworthiness {facts['trustworthiness']:.3f} with {facts['trustworthiness_k']} neighbours, "
        f"{facts['images']:,} images"
    )
    return {"model": card.name, **facts}


def _gathered(card: zoo.Card, options: argparse.Namespace, console: Console) -> Reference:
    model = zoo.load(card.name, choose(options.device))
    gathering = Gathering(model, card.dataset, key=card.identity, shipped=zoo.features_file(card.name))
    done, total = gathering.progress
    with console.bar(total, "reference images", start=done) as bar:
        while (reference := gathering.advance()) is None:
            done, total = gathering.progress
            bar.update(done - bar.n)
            if options.background:
                console.say(f"{card.name}: {done:,} of {total:,} reference images have been through the model")
    return reference


def _found(card: zoo.Card, reference: Reference) -> Embedding | None:
    try:
        return Maps(reference, card.name, card.identity).umap()
    except NoMap:
        return None
