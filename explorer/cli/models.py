"""List the trained models, or show one model's card.

  python -m explorer models
  python -m explorer models cifar10/pgd-linf
  python -m explorer models --markdown
  python -m explorer models cifar10/lwta --markdown
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from explorer.cli._console import Console, interval
from explorer.evaluation import tables
from explorer.models import zoo


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help="one model, as the list names it")
    parser.add_argument("--markdown", action="store_true", help="the list as the README's table, or one model's measures")


def run(options: argparse.Namespace, console: Console) -> Any:
    if options.name:
        card = zoo.card(options.name)
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
    rows = [[c.name, c.title, f"{c.parameters / 1e6:.2f} M", clean(c), c.precision, f"{c.bytes / 2**20:.1f} MiB"] for c in cards]
    console.table(["name", "title", "parameters", "clean accuracy", "stored as", "size"], rows)
    return [asdict(card) for card in cards]


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
        conditions = {k: v for k, v in measure.items() if k not in ("kind", "accuracy", "auc", "low", "high") and v not in (None, "", {})}
        console.say(f"  {measure.get('kind', '')}: {tables.value(measure)}; {_plain(conditions)}")


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={_plain(item)}" for key, item in value.items())
    return f"{value:.6g}" if isinstance(value, float) else f"{value:,}" if type(value) is int else str(value)
