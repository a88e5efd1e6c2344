"""A class's tournament: all submissions on one board, attacked on the same pictures, paired with a baseline.

  python -m explorer tournament start submissions.zip --data cifar10 --word "banana" --baseline cifar10/lenet
  python -m explorer tournament start cifar10/group-a cifar10/group-b --word "banana" --baseline cifar10/lenet
  python -m explorer tournament start cifar10/group-a --attacks a.py b.py --checks 40 --word "banana" --baseline cifar10/lenet
  python -m explorer tournament board k3v9

`start` adds the submissions of a zip (as `models add --zip` does; what is refused is named) and submits one run in the background.
The pictures are drawn by the hash of all entries and the word, which is said in class once all are in. `board` prints the board of
a run, also while it goes. With --attacks or --checks the class's attacks against all entries stand below it, as a matrix.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from explorer.cli._console import Console, whole
from explorer.cli._parser import Verb
from explorer.core import InvalidValue
from explorer.evaluation.submissions import add_zip
from explorer.evaluation.tables import in_percent
from explorer.evaluation.tournament import RANKED, TESTS, Entry, Share, board, matrix
from explorer.jobs import Run, Spec, Store
from explorer.jobs.measuring import result
from explorer.models import zoo


def _arguments_of_start(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("entries", nargs="+", metavar="ENTRY", help="zips of submissions, or names of models")
    parser.add_argument("--data", default="cifar10", help="the dataset of a zip's submissions (default: %(default)s)")
    parser.add_argument("--word", required=True, help="said in class once all entries are in")
    parser.add_argument("--baseline", required=True, metavar="MODEL", help="whom every entry is paired with")
    parser.add_argument(
        "--attacks",
        nargs="+",
        default=[],
        metavar="FILE.py",
        help="attacks of the class: attack(model, x, y, eps); confined",
    )
    parser.add_argument(
        "--checks", default="0", metavar="N", help="pictures of the checks for gradient masking (default: none)"
    )
    parser.add_argument("--images", default="500", metavar="N", help="test images (default: %(default)s)")


def _start(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    names, refused = [], {}
    for entry in options.entries:
        if not entry.endswith(".zip"):
            names.append(zoo.card(entry).name)
            continue
        for name, came in add_zip(
            options.data, Path(entry), command=f"explorer tournament start {entry}", say=console.say
        ):
            if isinstance(came, zoo.Card):
                names.append(name)
            else:
                refused[name] = came
                console.say(f"{name} is refused: {came}")
    names = list(dict.fromkeys([*names, options.baseline]))
    settings = {
        "models": names,
        "model": options.baseline,
        "word": options.word,
        "images": whole("images", options.images, 10, 2000),
        "checks": whole("checks", options.checks, 0, 500),
        "attacks": [_attack(Path(name)) for name in options.attacks],
    }
    made = Store().submit(Spec(kind="tournament", settings=settings, device=options.device))
    console.say(f"{len(names)} entries; `python -m explorer tournament board {made.id}` shows the board as it grows.")
    return {"run": made.id, "entries": names, "refused": refused}


def _attack(file: Path) -> dict[str, str]:
    try:
        return {"name": file.stem, "source": file.read_text("utf-8")}
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidValue(f"the attack {str(file)!r} cannot be read: {error}.") from error


def _arguments_of_board(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="ID", help="which run; its first letters will do")


def _board(options: argparse.Namespace, console: Console) -> list[dict[str, Any]]:
    one = Store().run(options.run)
    if one.spec.kind != "tournament":
        raise InvalidValue(f"run {one.id} is no tournament.")
    entries = board((result(one) or {"rows": []})["rows"], one.spec.settings["model"])
    if not entries:
        raise InvalidValue(f"run {one.id} has measured nothing yet: try again in a moment.")
    shown = [test for test in TESTS if any(test in entry.shares for entry in entries)]
    console.table(
        ["", "entry", *(TESTS[test].title for test in shown), ""],
        [_line(k, e, shown) for k, e in enumerate(entries, 1)],
    )
    settings = one.spec.settings
    console.say(
        f"{settings['images']} pictures drawn by all entries and the word {settings['word']!r}; in brackets 95 % intervals; p: McNemar's "
        f"exact test against {settings['model']}, adjusted by Holm. Places by {', then '.join(RANKED)}."
    )
    _matrix(one, console)
    return [
        {"model": e.model, "refused": e.refused, **{test: vars(share) for test, share in e.shares.items()}}
        for e in entries
    ]


def _matrix(one: Run, console: Console) -> None:
    """The class's attacks against all entries, where the run asks them."""
    if not (one.spec.settings.get("attacks") or one.spec.settings.get("checks")):
        return
    found = matrix((result(one) or {"rows": []})["rows"])
    console.table(
        ["attack", *found.models],
        [[a, *(_cell(found.shares.get((a, m))) for m in found.models)] for a in found.attacks],
    )
    for (attack, model), why in found.refused.items():
        console.say(f"{attack} on {model}: {why}")
    for model, (asked, raised) in found.flags.items():
        console.say(
            f"{model}: {len(raised)} of {asked} checks for gradient masking raised a flag{': ' * bool(raised)}{'; '.join(raised)}."
        )


def _line(place: int, entry: Entry, shown: list[str]) -> list[str]:
    return [str(place), entry.model, *(_cell(entry.shares.get(test)) for test in shown), entry.refused]


def _cell(share: Share | None) -> str:
    if share is None:
        return "-"
    low, high = share.interval
    p = "" if share.p is None else f" p={share.p:.2g}"
    facts = {"accuracy": share.right / share.n, "low": low, "high": high}
    return f"{in_percent(facts)} n={share.n}{p}"


VERBS = {
    "start": Verb("add the entries, and submit the run", _start, _arguments_of_start),
    "board": Verb("the board of a run, also while it goes", _board, _arguments_of_board),
}
USUAL = "board"
