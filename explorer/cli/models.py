"""List the trained models, show one model's card, or add a model from elsewhere.

  python -m explorer models
  python -m explorer models cifar10/pgd-linf
  python -m explorer models --markdown
  python -m explorer models cifar10/lwta --markdown
  python -m explorer models add cifar10/mine --architecture torchvision:resnet18 --weights mine.safetensors --classes 10 --range 0,1
  python -m explorer models add cifar10/ours --architecture package.module:factory --weights ours.safetensors --classes 10
      --mean 0.4914,0.4822,0.4465 --std 0.2470,0.2435,0.2616

`add` takes torchvision:NAME, timm:NAME (where timm is installed) or package.module:factory, whose code it imports and calls
(with num_classes=N if it takes that): add only what you trust. Weights must be safetensors; pickles are not opened. What the
network is given is (pixel - mean) / std, pixels in [0,1]; --range=LOW,HIGH says the same of a network that wants its pixels
in that range (0,1 or -1,1 or 0,255). The model then stands in the folder of runs' models, for all pages and commands.
"""

from __future__ import annotations

import argparse
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Any

from explorer.cli._console import Console, interval, whole
from explorer.core import InvalidValue
from explorer.evaluation import tables
from explorer.evaluation.adding import Addition, add
from explorer.models import zoo


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", nargs="*", metavar="NAME", help="one model, as the list names it; or: add NAME")
    parser.add_argument(
        "--markdown", action="store_true", help="the list as the README's table, or one model's measures"
    )
    adding = parser.add_argument_group("with add")
    adding.add_argument("--architecture", help="torchvision:NAME, timm:NAME or package.module:factory")
    adding.add_argument("--weights", metavar="FILE", help="a safetensors file of its state_dict")
    adding.add_argument("--classes", metavar="N", help="how many it tells apart")
    adding.add_argument("--mean", help="subtracted from pixels in [0,1]: one number, or one a channel")
    adding.add_argument("--std", help="then divided by: one number, or one a channel")
    adding.add_argument("--range", metavar="LOW,HIGH", help="in place of --mean and --std: what pixels 0 and 1 become")
    adding.add_argument("--size", default="0", help="enlarge images to so many pixels a side (default: leave them)")
    adding.add_argument("--title", default="", help="what choosers and tables call it (default: its name)")


def run(options: argparse.Namespace, console: Console) -> Any:
    if options.words[:1] == ["add"]:
        return _add(options, console)
    if given := [word for word in ADDING if getattr(options, word) is not None]:
        raise InvalidValue(f"--{given[0]} belongs to `models add NAME`.")
    if len(options.words) > 1:
        raise InvalidValue(f"models shows one model; got {' '.join(options.words)}.")
    if options.words:
        card = zoo.card(options.words[0])
        if options.markdown:
            console.say(tables.measures(card))
        else:
            show(card, console)
        return asdict(card)
    cards = zoo.cards()
    if not cards:
        console.say("No models yet: `python -m explorer train --list` shows the recipes.")
        return []
    if options.markdown:
        console.say(tables.markdown(cards))
        return [asdict(card) for card in cards]
    rows = [
        [c.name, c.title, f"{c.parameters / 1e6:.2f} M", clean(c), c.precision, f"{c.bytes / 2**20:.1f} MiB"]
        for c in cards
    ]
    console.table(["name", "title", "parameters", "clean accuracy", "stored as", "size"], rows)
    return [asdict(card) for card in cards]


ADDING = ("architecture", "weights", "classes", "mean", "std", "range")


def _add(options: argparse.Namespace, console: Console) -> Any:
    if len(options.words) != 2:
        raise InvalidValue("models add needs one name, such as cifar10/mine.")
    missing = [word for word in ("architecture", "weights", "classes") if getattr(options, word) is None]
    if missing:
        raise InvalidValue(f"models add needs --{' and --'.join(missing)}.")
    mean, std = _input(options)
    words = [f"--{word} {shlex.quote(getattr(options, word))}" for word in ADDING if getattr(options, word) is not None]
    size = whole("size", options.size, 0, 1024)
    asked = Addition(
        name=options.words[1],
        architecture=options.architecture,
        weights=Path(options.weights).expanduser(),
        classes=whole("classes", options.classes, 2, 100_000),
        mean=mean,
        std=std,
        size=size,
        title=options.title,
        command=" ".join(
            ["python -m explorer models add", options.words[1], *words, *([f"--size {size}"] if size else [])]
        ),
    )
    card = add(asked)
    console.say(
        f"Added {card.name}: {card.parameters:,} parameters, {card.bytes / 2**20:.1f} MiB, {zoo.card_path(card.name)}."
    )
    console.say(f"Measure it: python -m explorer evaluate {card.name} --write")
    return asdict(card)


def _input(options: argparse.Namespace) -> tuple[list[float], list[float]]:
    """mean and std of pixels in [0,1], said outright or by a range."""
    if options.range is not None:
        if options.mean is not None or options.std is not None:
            raise InvalidValue("--range stands in place of --mean and --std.")
        ends = _numbers("range", options.range)
        if len(ends) != 2 or not ends[0] < ends[1]:
            raise InvalidValue(
                f"range must be LOW,HIGH with LOW below HIGH, such as --range=-1,1; got {options.range!r}."
            )
        return [ends[0] / (ends[0] - ends[1])], [1 / (ends[1] - ends[0])]
    if options.mean is None or options.std is None:
        raise InvalidValue(
            "models add needs --mean and --std, or --range LOW,HIGH: what the network wants of pixels in [0,1]."
        )
    return _numbers("mean", options.mean), _numbers("std", options.std)


def _numbers(name: str, text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise InvalidValue(f"{name} must be numbers separated by commas; got {text!r}.") from error


def clean(card: zoo.Card) -> str:
    """The card's clean accuracy with its interval and number of images."""
    found = [m for m in card.measures if m.get("kind") == "clean"]
    return f"{interval(found[0])}, n={found[0]['n']:,}" if found else "not measured"


def show(card: zoo.Card, console: Console) -> None:
    """The whole card, one fact a line."""
    facts = {key: value for key, value in asdict(card).items() if key not in ("measures", "history", "training")}
    for key, value in [*facts.items(), *(("training", {}), *card.training.items())]:
        console.say(f"{key:<14} {_plain(value)}".rstrip())
    console.say("measures" if card.measures else "measures       none yet: `python -m explorer evaluate` makes them")
    for measure in card.measures:
        conditions = {
            k: v
            for k, v in measure.items()
            if k not in ("kind", "accuracy", "auc", "low", "high") and v not in (None, "", {})
        }
        console.say(f"  {measure.get('kind', '')}: {tables.value(measure)}; {_plain(conditions)}")


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={_plain(item)}" for key, item in value.items())
    return f"{value:.6g}" if isinstance(value, float) else f"{value:,}" if type(value) is int else str(value)
