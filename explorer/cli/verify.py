"""Measure a drawn part of what a card records again, and say "same" or "other".

  python -m explorer verify cifar10/lenet --sample 200
  python -m explorer verify cifar10/lenet --only pgd --seed 5
  python -m explorer verify claim.json
  python -m explorer verify folder/cifar10/mine.json

CARD is a model's name, a card's file (its weights beside it), or a claim that `models claim` wrote. With the card's own seed, and
on its kind of device, every kept verdict must be the same; with another seed, or of cards that keep counts alone, an exact test
decides at level 0.01, all measures of the card together. The last line begins with "same" or "other"; the exit code is 0, or 1.
"""

from __future__ import annotations

import argparse
import contextlib
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from explorer.cli import FAILED, OK
from explorer.cli._console import Console, whole
from explorer.core import BadCheckpoint
from explorer.core.device import choose, computer_name
from explorer.core.versions import arithmetic, code_hash
from explorer.evaluation import claim
from explorer.evaluation.tables import what
from explorer.evaluation.verifying import LEVEL, NOT_REPEATED, OTHER, REPEATED, Finding, conclusion, verify_card
from explorer.models import zoo

MOST = 10_000  # images of a test set


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("card", metavar="CARD", help="a model's name, a card's file, or a claim's file")
    parser.add_argument(
        "--sample",
        default="200",
        help="images of each measure, at least; whole batches are drawn (default: %(default)s)",
    )
    parser.add_argument(
        "--only", metavar="TEXT", default="", help="only measures whose description holds TEXT, such as clean or pgd"
    )
    parser.add_argument("--seed", help="of the attacks and random models, in place of the card's own")
    parser.add_argument("--draw", help="seed of which images are drawn (default: another one each time)")


def run(options: argparse.Namespace, console: Console) -> Any:
    sample = whole("sample", options.sample, 1, MOST)
    seed = None if options.seed is None else whole("seed", options.seed, 0, 2**53 - 1)
    draw = secrets.randbelow(2**31) if options.draw is None else whole("draw", options.draw, 0, 2**31 - 1)
    device = choose(options.device)
    with _card(options.card) as card:
        console.say(f"{card.name}: {card.title}, weights {card.sha256[:12]}")
        console.say(f"Draws {sample:,} images of each measure or more, with seed {draw}, on {computer_name(device)}.")
        _tell_cost(card, sample, options.only, console)
        try:
            found = verify_card(
                card, sample=sample, only=options.only, seed=seed, draw=draw, device=device,
                progress=lambda what: console.say(f"  {what} ..."),
            )  # fmt: skip
        except BadCheckpoint as error:
            found = [Finding("weights", card.sha256, OTHER, str(error))]
    for one in found:
        console.say(f"{one.state}: {one.measure}; recorded {one.recorded}. {one.reason}")
        if one.bound:
            console.say(f"    {one.bound[:1].upper()}{one.bound[1:]}.")
    told = conclusion(found)
    count = {state: sum(one.state == state for one in found) for state in (told, OTHER, NOT_REPEATED)}
    about = f"{count[OTHER]} of {len(found)} measures differ from the record" if count[OTHER] else (
        f"{count[told]} of {len(found)} measures were repeated, and nothing speaks against them (level {LEVEL:g})"
    )  # fmt: skip
    rest = f"; {count[NOT_REPEATED]} could not be repeated" if count[NOT_REPEATED] and told != NOT_REPEATED else ""
    if told == NOT_REPEATED:
        about = "no measure of this card could be repeated here"
    console.say(f"{told}: {about}{rest}.")
    facts = {"model": card.name, "weights": card.sha256, "conclusion": told, "level": LEVEL, "draw": draw, "seed": seed}
    facts |= {"sample": sample, "device": computer_name(device), "code": f"{arithmetic()}, code {code_hash()}"}
    console.code = FAILED if told == OTHER else OK
    return facts | {"measures": [one.to_dict() for one in found]}


@contextlib.contextmanager
def _card(text: str) -> Iterator[zoo.Card]:
    """The card meant, findable by its name inside the block."""
    path = Path(text).expanduser()
    if path.suffix != ".json" or not path.is_file():
        yield zoo.card(text)
    elif b'"claim"' in path.read_bytes()[:100]:
        yield claim.read(path)
    else:
        path = path.absolute()
        with zoo.with_extra_root(path.parent.parent):
            yield zoo.card(f"{path.parent.name}/{path.stem}")


def _tell_cost(card: zoo.Card, sample: int, only: str, console: Console) -> None:
    """How long the record says that it takes, so that nobody waits in the dark."""
    chosen = [m for m in card.measures if only.lower() in what(m).lower() and m["kind"] in REPEATED]
    seconds = sum((m.get("seconds") or 0) * min(1.0, max(sample, m["batch"]) / m["n"]) for m in chosen)
    console.say(f"By the record's own times that is about {seconds:,.0f} s; --only TEXT measures a part.")
