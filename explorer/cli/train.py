"""Train a model by a recipe, then export it with its card.

  python -m explorer train --list
  python -m explorer train baseline
  python -m explorer train pgd-linf --set epochs=40 --set width=48 --name cifar10/my-model
  python -m explorer train lwta --smoke

A run lives in its folder and goes on from its last finished epoch when the same command is given again; its metrics
are one JSON object a line in metrics.jsonl. The weights exported are the averaged ones of the epoch with the best
score on held-out training images.
"""

from __future__ import annotations

import argparse
import os
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from explorer.cli._console import Console, hyper_table, percent, settings
from explorer.core import InvalidValue
from explorer.defenses import RECIPES
from explorer.defenses._recipe import Recipe
from explorer.engine import choose
from explorer.training import Progress, Result, train
from explorer.training.export import check_place, command_of, export

PRECISIONS = {"float32": "float32", "bfloat16": "bfloat16 autocast"}  # as the option says it: as the card says it


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", nargs="?", help="which recipe; --list shows them")
    parser.add_argument("--list", action="store_true", help="show the recipes; with a recipe, its hyper-parameters")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="change a hyper-parameter (repeatable)")
    parser.add_argument("--out", metavar="FOLDER", help="where the run lives (default: runs/RECIPE)")
    parser.add_argument("--name", help="what the zoo calls the model (default: DATASET/RECIPE)")
    parser.add_argument("--title", help="what choosers call it (default: the recipe's title)")
    parser.add_argument("--summary", help="one line of what it is, for tables (default: the recipe's)")
    parser.add_argument("--export", metavar="FOLDER", help="where weights and card go (default: OUT/export/DATASET)")
    parser.add_argument("--smoke", action="store_true", help="a run of a minute on few images that shows the recipe works")
    parser.add_argument(
        "--precision", choices=("auto", *PRECISIONS), default="auto",
        help="of the passes; auto: bfloat16 where the device computes in it, else float32 (default: %(default)s)",
    )  # fmt: skip


def run(options: argparse.Namespace, console: Console) -> Any:
    if options.list or options.recipe is None:
        return _list(options.recipe, console)
    recipe = recipe_of(options.recipe, settings(options.set), options.smoke)
    stem = f"{options.recipe}-smoke" if options.smoke else options.recipe
    name = options.name or f"{recipe.dataset}/{stem}"
    folder = Path(options.out or Path("runs") / stem)
    target = Path(options.export or folder / "export" / recipe.dataset)
    check_place(name, recipe, target)
    check_folder(folder)
    check_folder(target)
    device = choose(options.device)
    precision = _precision(options.precision, device)
    result = _train(recipe, folder, device, precision, options.smoke, console)
    words = {"name": options.name, "title": options.title, "summary": options.summary}
    command = command_of(options.recipe, recipe)
    command += "".join(f" --{option} {shlex.quote(text)}" for option, text in words.items() if text)
    if options.smoke:
        command = f"python -m explorer train {options.recipe} --smoke"
    card = export(
        result, recipe, options.recipe, name, target, precision=PRECISIONS[precision], command=command,
        title=options.title, summary=options.summary,
    )  # fmt: skip
    best = result.history[result.best_epoch - 1]
    scores = ", ".join(f"{key} {percent(best[key])}" for key in ("clean", "robust", "noisy") if key in best)
    kept = f"kept epoch {result.best_epoch} of {recipe.epochs}: {scores} of {result.held_out} held-out images"
    console.say(f"Trained {name} in {result.seconds:.0f} s; {kept}.")
    console.say(f"Exported {target / card.file} ({card.bytes / 2**20:.1f} MiB, {card.precision}) and its card.")
    return {"card": asdict(card), "folder": str(folder), "export": str(target)}


def recipe_of(key: str, changes: dict[str, str], smoke: bool) -> Recipe:
    """The recipe with these values; `smoke` takes its own small ones first. Raises UnknownName or InvalidValue."""
    cls = RECIPES[key]
    return cls.from_dict({**(cls.smoke if smoke else {}), **changes})


def check_folder(folder: Path) -> None:
    """Refuse a folder that cannot be made or written before the training, not after it."""
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise InvalidValue(f"{folder} cannot be used: {there} is not a folder that can be written.")


def _train(recipe: Recipe, folder: Path, device: torch.device, precision: str, smoke: bool, console: Console) -> Result:
    limit = recipe.smoke_images if smoke else None
    with console.bar(0, "updates") as bar:

        def show(now: Progress) -> None:
            if now.held_out is not None:
                scores = ", ".join(f"{key} {percent(value)}" for key, value in now.held_out.items() if key != "score")
                bar.clear()
                console.say(f"epoch {now.epoch + 1}/{now.epochs}  loss {now.loss:.3f}  held-out: {scores}")
                return
            if bar.total != now.updates:  # the first update since the start, or since going on
                bar.total, bar.initial, bar.n = now.updates, now.update - 1, now.update - 1
            bar.set_postfix_str(f"epoch {now.epoch + 1}/{now.epochs}, loss {now.loss:.3f}", refresh=False)
            bar.update()

        return train(recipe, folder, device=device, limit=limit, bf16=precision == "bfloat16", progress=show)


def _precision(asked: str, device: torch.device) -> str:
    if asked != "auto":
        return asked
    fast = device.type == "cuda" or (device.type == "cpu" and torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return "bfloat16" if fast else "float32"


def _list(key: str | None, console: Console) -> Any:
    if key is not None:
        entry = RECIPES.entry(key)
        console.say(f"{entry.key}: {entry.title}. {entry.summary}\n")
        hyper_table(entry.cls, console)
        return {"key": entry.key, "title": entry.title, "summary": entry.summary, "hyper": entry.cls().to_dict()}
    rows = [[e.key, e.title, e.paper or "-", e.cls().epochs, e.summary] for e in RECIPES]
    console.table(["recipe", "title", "papers", "epochs", "what for"], rows)
    return [{"key": e.key, "title": e.title, "paper": e.paper, "summary": e.summary} for e in RECIPES]
