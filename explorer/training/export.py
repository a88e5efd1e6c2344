"""Export of a trained model to the zoo: its weights and a card that says what was done, on what, for how long."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from explorer.core import BadCheckpoint, Classifier, InvalidValue, seeded
from explorer.core.device import hardware_name
from explorer.data import dataset, load
from explorer.defenses import RECIPES
from explorer.defenses.recipe import Recipe, accuracy
from explorer.features.reference import write_features
from explorer.models import zoo
from explorer.models.zoo import Card
from explorer.training.result import Result

CAST_IMAGES = 2000  # test images on which float32 and float16 weights are compared
CAST_DRAWS = 10  # of a stochastic network, each on all these images
CAST_TOLERANCE = 0.002  # largest change of accuracy that half precision may cost (0.2 points)
NAME = re.compile(r"[a-z0-9_]+/[a-z0-9][a-z0-9._-]*")


def export(
    result: Result,
    recipe: Recipe,
    key: str,
    name: str,
    folder: Path,
    *,
    hardware: str | None = None,
    threads: int | None = None,
    precision: str = "bfloat16 autocast",
    command: str | None = None,
    title: str | None = None,
    summary: str | None = None,
) -> Card:
    """Write `<folder>/<model>.safetensors`, its card and its reference features; returns the card.

    `name` is like "cifar10/my-model"; `folder` must be named like the dataset, as the zoo reads its names from there.
    `key` is the recipe's key;
    `title` and `summary` are what people read in choosers and tables (default: the recipe's);
    `hardware`, `threads` and `precision` say how the run was made (default: this computer, torch's thread count now).
    Weights are stored in float16, unless that changes the accuracy by more than 0.2 points: then in float32.
    Raises InvalidValue for a name or folder that the zoo could not find again.
    """
    folder = Path(folder)
    check_place(name, recipe, folder)
    model = result.model
    words = {key: text for key, text in (("title", title), ("summary", summary)) if text}
    draft = _card(result, recipe, key, name) | words | {"command": command or command_of(key, recipe)}
    training = draft["training"] | {
        "hardware": hardware or hardware_name(model.device),
        "threads": threads or torch.get_num_threads(),
        "precision": precision,
    }
    about, check = _cast(Card(**draft | {"training": training}), model)
    card = zoo.write(folder, replace(about, training=training | {"cast_check": check}), model)
    place = folder / f"{name.split('/')[-1]}.json"
    write_features(zoo.load_file(place, model.device), card.dataset, card.sha256, zoo.features_path(place))
    return card


def check_place(name: str, recipe: Recipe, folder: Path) -> None:
    """Raises InvalidValue unless `name` is "<dataset>/<model>" and `folder` carries the dataset's name."""
    if not NAME.fullmatch(name) or not name.startswith(f"{recipe.dataset}/"):
        raise InvalidValue(
            f"name must be {recipe.dataset}/ and then small letters, digits, dots and dashes; got {name!r}."
        )
    if folder.name != recipe.dataset:
        raise InvalidValue(f"the export folder must be called {recipe.dataset}, like the dataset; got {str(folder)!r}.")


def recipe_hash(key: str, recipe: Recipe) -> str:
    """sha256 of the canonical JSON of the recipe's key and all its hyper-parameters."""
    text = json.dumps({"recipe": key, "hyper": recipe.to_dict()}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def command_of(key: str, recipe: Recipe) -> str:
    """The command line that trains this recipe: only values that differ from the defaults are named."""
    elsewhere = [] if recipe.dataset == RECIPES[key].dataset else [f"--dataset {recipe.dataset}"]
    changed = elsewhere + [
        f"--set {p.name}={getattr(recipe, p.name)}" for p in recipe.params() if getattr(recipe, p.name) != p.default
    ]
    return " ".join(["python -m explorer train", key, *changed])


def _card(result: Result, recipe: Recipe, key: str, name: str) -> dict[str, Any]:
    """All fields of a Card; what only the written file can tell is left empty."""
    entry = RECIPES.entry(key)
    architecture, arguments = recipe.architecture()
    training: dict[str, Any] = {
        "data": result.source,
        "images": result.images,
        "held_out": result.held_out,
        "epochs": recipe.epochs,
        "best_epoch": result.best_epoch,
        "selection": "the epoch with the best held-out score, averaged weights",
        "seed": recipe.seed,
        "seconds": round(result.seconds, 1),
        "date": datetime.now(UTC).date().isoformat(),
        "torch": torch.__version__,
    }
    if len(result.history) < recipe.epochs:
        training["ended_after"] = len(result.history)
    if result.warning:
        training["remark"] = result.warning
    training |= recipe.made_of()
    if recipe.start:
        training["start"] = {"name": recipe.start, "sha256": zoo.card(recipe.start).sha256}
    return {
        "name": name,
        "title": entry.title,
        "summary": entry.summary,
        "dataset": recipe.dataset,
        "architecture": architecture,
        "arguments": arguments,
        "parameters": sum(p.numel() for p in result.model.parameters()),
        "stochastic": result.model.stochastic,
        "recipe": key,
        "hyper": recipe.to_dict(),
        "recipe_hash": recipe_hash(key, recipe),
        "training": training,
        "history": result.history,
        "file": "",
        "precision": "float32",
        "sha256": "",
        "bytes": 0,
        "sigma": getattr(recipe, "sigma", None),
    }


def _cast(about: Card, model: Classifier) -> tuple[Card, dict[str, Any]]:
    """The card with the precision its weights may be stored in, and the comparison that decided it."""
    images = load(about.dataset, "test", n=min(CAST_IMAGES, dataset(about.dataset).rows["test"]))
    x, y = images.x.to(model.device), images.y.to(model.device)
    draws = CAST_DRAWS if model.stochastic else 1
    check: dict[str, Any] = {"images": len(images), "source": images.source, "draw_seed": 0, "draws": draws}

    def mean_accuracy(network: Classifier) -> float:
        return sum(accuracy(network, x, y, seeded(seed, model.device)) for seed in range(draws)) / draws

    check["float32"] = mean_accuracy(model)
    half = replace(about, precision="float16")
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch) / about.dataset
        zoo.write(place, half, model)
        try:
            stored = zoo.load_file(next(place.glob("*.json")), model.device)
        except BadCheckpoint:  # a weight too large for half precision became infinite
            return about, check | {"float16": None}
        check["float16"] = mean_accuracy(stored)
    return (half if abs(check["float16"] - check["float32"]) <= CAST_TOLERANCE else about), check
