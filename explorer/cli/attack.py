"""Attack one image and say what happened; save the exact arrays.

  python -m explorer attack --model cifar10/pgd-linf --image 17
  python -m explorer attack --model cifar10/baseline --attack pgd --norm l2 --eps 0.25 --image 3 --target cat
  python -m explorer attack --model cifar10/baseline --image photo.jpg --set steps=40 --save walk.npz
  python -m explorer attack --model cifar10/pgd-linf --attack deepfool --norm l2 --image 17
  python -m explorer attack --list --attack pgd

--save writes float arrays (every frame, its logits, features, loss and distances) and, beside them, a JSON file with all
conditions; into a .zip it adds the pictures and the script that makes them again. The same request gives the same walk as
on the Attack page.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path
from typing import Any

from explorer.attacks import ATTACKS, GROUPS
from explorer.cli._console import EPS, Console, check_writable, hyper_table, percent, save, settings
from explorer.core import BadImage, InvalidValue
from explorer.data import dataset, read_upload
from explorer.engine import AttackRequest, Budget, Engine, Export, Snapshot, attack_work, captions
from explorer.models import zoo

LIMITS = Budget(passes=10_000_000, draws=512, frames=100_000)  # nobody else waits for this device


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--list", action="store_true", help="show the attacks; with --attack, its hyper-parameters")
    parser.add_argument("--model", help="which model; `python -m explorer models` lists them")
    parser.add_argument(
        "--image", default="0", help="row of the bundled sample, or a picture file (default: %(default)s)"
    )
    parser.add_argument("--label", help="what a picture file shows; without it, what the model takes it for")
    parser.add_argument("--attack", help="which attack (default: pgd)")
    parser.add_argument("--norm", help="of the allowed change: linf or l2 (default: linf, where the attack has it)")
    parser.add_argument(
        "--eps", help=f"its size, in pixel units (default: {EPS['linf']} for linf, {EPS['l2']} for l2; an attack that "
        "looks for the smallest change takes none)",
    )  # fmt: skip
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="change a hyper-parameter (repeatable)"
    )
    parser.add_argument(
        "--target", metavar="CLASS", help="the class to reach, by name or number; without it any wrong one"
    )
    parser.add_argument("--seed", default="0", help="of every draw (default: %(default)s)")
    parser.add_argument(
        "--save", metavar="FILE.npz", help="write all arrays here, and their conditions to FILE.json; FILE.zip gets the "
        "pictures and the script, too",
    )  # fmt: skip


def run(options: argparse.Namespace, console: Console) -> Any:
    if options.list:
        return _list(options.attack, console)
    if options.model is None:
        raise InvalidValue("attack needs --model; `python -m explorer models` lists them.")
    target = _save_target(options.save)
    card, key = zoo.card(options.model), options.attack or "pgd"
    if options.eps is not None and ATTACKS[key].budget == "minimal":
        raise InvalidValue(
            f"--eps does not belong to {key}: it looks for the smallest change itself; got {options.eps!r}."
        )
    norm = options.norm or ATTACKS[key].norms[0]
    engine = Engine(options.device)
    image, notes = _image(options.image, card.dataset, engine)
    request = AttackRequest(
        dataset=card.dataset,
        image=image,
        model=card.name,
        attack=key,
        hyper=settings(options.set),
        norm=norm,
        eps=options.eps or EPS.get(norm, "0.5"),
        target=options.target,
        seed=options.seed,
        label=options.label,
    ).checked()
    last = _watch(engine, request, console)
    _tell(last, request, card, notes, console)
    export = Export(request, last.trace, last.result)
    if target is not None:
        _save(target, export, console)
    return export.facts()


def _image(text: str, name: str, engine: Engine) -> tuple[int | str, tuple[str, ...]]:
    """The image as a request names it; a file is read, checked and kept for it."""
    if text.lstrip("-").isdecimal():
        return int(text), ()
    file = Path(text).expanduser()
    try:
        data = file.read_bytes()
    except OSError as error:
        raise BadImage(f"image must be a row of the sample or a picture file; {text!r}: {error.strerror}.") from error
    upload = read_upload(data, file.name, dataset(name).shape)
    key = "upload:" + hashlib.sha256(upload.pixels.numpy().tobytes()).hexdigest()[:16]
    engine.keep_upload(key, upload.pixels)
    return key, upload.notes


def _watch(engine: Engine, request: AttackRequest, console: Console) -> Snapshot:
    """The first snapshot with a result; the map that would follow is of no use here."""
    with console.bar(request.frames, "images") as bar:
        for snapshot in attack_work(engine, request, LIMITS)():
            if snapshot is not None and snapshot.result is not None:
                return snapshot
            bar.update()
    raise AssertionError("an attack ends with a result")


def _tell(last: Snapshot, request: AttackRequest, card: zoo.Card, notes: tuple[str, ...], console: Console) -> None:
    trace, result = last.trace, last.result
    verdict, about = result.verdict, result.conditions
    for note in notes:
        console.say(note)
    console.say(f"{request.title()}, seed {request.seed}")
    console.say(captions(trace, None, card.stochastic)[0])
    console.say(captions(trace, result, card.stochastic)[result.best])
    console.say(
        f"Checked again in float32: {'inside' if bool(verdict.inside[0]) else 'OUTSIDE'} "
        f"the {'pixel range' if request.is_minimal else 'ball'} "
        f"(Linf {255 * float(verdict.linf[0]):.4g}/255, L2 {float(verdict.l2[0]):.4g}), "
        f"{_holds(verdict.share[0], verdict.draws, bool(verdict.reached[0]))}; "
        f"after rounding to 8 bits it {'still holds' if bool(verdict.reached_8bit[0]) else 'does not hold'}."
    )
    cost = f"{about['forwards']} forward and {about['backwards']} backward passes, {about['seconds']:.2f} s"
    console.say(f"{cost} on {about['device']}; frame {result.best} of {len(trace) - 1} counts.")


def _holds(share: Any, draws: int, reached: bool) -> str:
    word = "the attack holds" if reached else "the attack does not hold"
    return word if draws == 1 else f"{word} ({percent(float(share))} of {draws} fresh draws)"


def _save_target(text: str | None) -> Path | None:
    if text is None:
        return None
    if not text.endswith((".npz", ".zip")):
        raise InvalidValue(f"--save writes an .npz or a .zip file; got {text!r}.")
    check_writable(text)
    return Path(text)


def _save(target: Path, export: Export, console: Console) -> None:
    """One zip with everything; else the arrays, and their conditions beside them."""
    if target.suffix == ".zip":
        save(target, export.bundle())
        console.say(f"Saved {target}.")
        return
    save(target, export.arrays())
    beside = target.with_suffix(".json")
    save(beside, export.conditions())
    console.say(f"Saved {target} and {beside}.")


def _list(key: str | None, console: Console) -> Any:
    if key is not None:
        entry = ATTACKS.entry(key)
        console.say(f"{entry.key}: {entry.title} ({entry.paper}). {entry.summary}\n")
        hyper_table(entry.cls, console)
        return {"key": entry.key, "title": entry.title, "hyper": entry.cls().to_dict()}
    entries = sorted(ATTACKS, key=lambda e: (GROUPS.index(e.group), e.key))
    rows = [[e.key, e.title, e.group, ", ".join(e.cls.norms), e.paper, e.summary] for e in entries]
    console.table(["attack", "title", "group", "norms", "paper", "what for"], rows)
    return [
        {
            "key": e.key,
            "title": e.title,
            "group": e.group,
            "norms": list(e.cls.norms),
            "budget": e.cls.budget,
            "paper": e.paper,
            "summary": e.summary,
        }
        for e in entries
    ]
