"""Attack one image and say what happened; save the exact arrays.

  python -m explorer attack --model cifar10/pgd-linf --image 17
  python -m explorer attack --model cifar10/baseline --attack pgd --norm l2 --eps 0.25 --image 3 --target cat
  python -m explorer attack --model cifar10/baseline --image photo.jpg --set steps=40 --save walk.npz
  python -m explorer attack --model cifar10/pgd-linf --attack deepfool --norm l2 --image 17
  python -m explorer attack --model cifar10/pgd-linf --image 17 --norm l2 --edge 3000
  python -m explorer attack --list --attack pgd
  python -m explorer attack --attack-file mine.py --check
  python -m explorer attack --attack-file mine.py --model cifar10/pgd-linf --image 17

--save writes float arrays (every frame, its logits, features, loss and distances) and, beside them, a JSON file with all
conditions; into a .zip it adds the pictures and the script that makes them again. The same request gives the same walk as
on the Attack page.
"""

from __future__ import annotations

import argparse
import hashlib
import io
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from explorer.api.own_attacks import OwnResult, attack_file
from explorer.attacks import ATTACKS, GROUPS
from explorer.cli._console import EPS, Console, check_writable, eps_of, hyper_table, percent, save, settings, whole
from explorer.core import NORMS, BadImage, InvalidValue, Trace, confinement
from explorer.core.ball import NORM_NAMES, THREAT_NAMES
from explorer.data import Look, dataset, load, read_upload
from explorer.engine import AttackRequest, Budget, Engine, Export, Result, attack_work, captions, eps_text
from explorer.engine.edge import ORDER, PASSES_LIMITS, edge_request, edge_work
from explorer.engine.rounding import size
from explorer.evaluation.outcome import Ending
from explorer.models import zoo
from explorer.testing.clinic import examine

LIMITS = Budget(passes=10_000_000, draws=512, frames=100_000)  # nobody else waits for this device


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--list", action="store_true", help="show the attacks; with --attack, its hyper-parameters")
    parser.add_argument("--model", help="which model; `python -m explorer models` lists them")
    parser.add_argument(
        "--image", default="0", help="row of the bundled sample, or a picture file (default: %(default)s)"
    )
    parser.add_argument("--invert", action="store_true", help="with a picture file: dark becomes bright, bright dark")
    parser.add_argument("--label", help="what a picture file shows; without it, what the model takes it for")
    parser.add_argument("--attack", help="which attack (default: pgd)")
    parser.add_argument(
        "--attack-file", metavar="FILE.py", help="an attack of your own: attack(model, x, y, eps); confined"
    )
    parser.add_argument("--function", metavar="NAME", help="with --attack-file: its name, where it is not `attack`")
    parser.add_argument("--check", action="store_true", help="with --attack-file: what is wrong with it, in sentences")
    parser.add_argument(
        "--norm",
        help="of the allowed change: linf, l2, l1 or l0, rotation, corruption (default: the attack's first, linf for most)",
    )
    parser.add_argument(
        "--eps", help=f"its size, in pixel units (default: {EPS['linf']} for linf, {EPS['l2']} for l2, {EPS['l1']} for l1, "
        f"{EPS['l0']} pixels for l0, all that its own limits allow for rotation, severity {EPS['corruption']} for corruption; an "
        "attack that looks for the smallest change takes none)",
    )  # fmt: skip
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="change a hyper-parameter (repeatable)"
    )
    parser.add_argument(
        "--target", metavar="CLASS", help="the class to reach, by name or number; without it any wrong one"
    )
    parser.add_argument(
        "--edge", metavar="PASSES", help="how far is the edge? The minimal attacks in turn, within so many passes"
    )
    parser.add_argument("--seed", default="0", help="of every draw (default: %(default)s)")
    parser.add_argument(
        "--save", metavar="FILE.npz", help="write all arrays here, and their conditions to FILE.json; FILE.zip gets the "
        "pictures and the script, too",
    )  # fmt: skip


def run(options: argparse.Namespace, console: Console) -> Any:
    if options.list:
        return _list(options.attack, console)
    if options.attack_file is not None:
        return _own(options, console)
    if options.check or options.function:
        raise InvalidValue("--check and --function belong to --attack-file, which is missing.")
    if options.model is None:
        raise InvalidValue("attack needs --model; `python -m explorer models` lists them.")
    if options.edge is not None:
        return _edge(options, console)
    target = _save_target(options.save)
    card, key = zoo.card(options.model), options.attack or "pgd"
    if options.eps is not None and ATTACKS[key].budget == "minimal":
        raise InvalidValue(
            f"--eps does not belong to {key}: it looks for the smallest change itself; got {options.eps!r}."
        )
    norm = options.norm or ATTACKS[key].threats[0]
    engine = Engine(options.device, threads=torch.get_num_threads())  # it computes here, in no thread of its own
    image, notes = _image(options.image, card.dataset, engine, options.invert)
    request = AttackRequest(
        dataset=card.dataset,
        image=image,
        model=card.name,
        attack=key,
        hyper=settings(options.set),
        norm=norm,
        eps=eps_of(norm, options.eps),
        target=options.target,
        seed=options.seed,
        label=options.label,
    ).checked()
    trace, result = _watch(engine, request, console)
    _tell(trace, result, request, card, notes, console)
    export = Export(request, trace, result)
    if target is not None:
        _save(target, export, console)
    return export.facts()


def _edge(options: argparse.Namespace, console: Console) -> Any:
    """How far the edge is: what each minimal attack found."""
    if options.attack or options.set or options.eps or options.save:
        raise InvalidValue(
            "--edge tries the minimal attacks at their defaults: without --attack, --set, --eps and --save."
        )
    card, engine = zoo.card(options.model), Engine(options.device, threads=torch.get_num_threads())
    image, _ = _image(options.image, card.dataset, engine, options.invert)
    asked = edge_request(
        AttackRequest(
            card.dataset, image, card.name, norm=options.norm or "l2", target=options.target, seed=options.seed,
            label=options.label,
        )
    )  # fmt: skip
    passes = whole("edge", options.edge, *PASSES_LIMITS)
    with console.bar(len(ORDER[asked.norm]), "attacks") as bar:
        for found in edge_work(engine, asked, passes)():
            if found is not None:
                bar.update(len(found.tried) - bar.n)
    assert found is not None  # the last one
    rows = [
        [ATTACKS.entry(one.request.attack).title, "nothing" if one.distance is None else size(one.distance, asked.norm),
         f"{one.spent:,}"]
        for one in found.tried
    ]  # fmt: skip
    console.table(["attack", f"smallest change ({NORM_NAMES[asked.norm]})", "passes"], rows)
    best = found.best
    console.say(
        f"{found.spent:,} of {found.budget:,} passes, seed {asked.seed}; left out: {', '.join(found.left_out) or 'none'}. "
        + (
            "Nothing found."
            if best is None
            else f"The edge is no farther than {size(best.distance or 0.0, asked.norm)}."
        )
    )
    return found.facts()


def _own(options: argparse.Namespace, console: Console) -> Any:
    """An attack from a file: examined by the clinic, or run on one image and judged outside."""
    if options.attack or options.set or options.target or options.label:
        raise InvalidValue("--attack-file stands in place of --attack, --set, --target and --label.")
    norm: Any = options.norm or "linf"
    if warning := confinement.not_prevented():
        console.say(f"{warning[:1].upper()}{warning[1:]}")
    if options.check:
        faults = examine(Path(options.attack_file), norm, options.function)
        for fault in faults:
            console.say(f"{fault.clause}: {fault.sentence}")
        console.say(
            f"{len(faults)} fault{'' if len(faults) == 1 else 's'} found"
            + ("; none found is no proof." if not faults else ".")
        )
        return [asdict(fault) for fault in faults]
    if options.model is None or not options.image.isdecimal():
        raise InvalidValue("--attack-file needs --model, and --image as a row of the sample.")
    target = _save_target(options.save)
    images, eps = load(zoo.card(options.model).dataset, source="sample"), eps_of(norm, options.eps)
    if int(options.image) >= len(images):
        raise InvalidValue(f"image must be a row of the sample, in [0, {len(images) - 1}]; got {options.image}.")
    rows, seed = slice(int(options.image), int(options.image) + 1), whole("seed", options.seed, 0, 2**53 - 1)
    x, y = images.x[rows], images.y[rows]
    found = attack_file(
        options.attack_file, options.model, x, y, norm=norm, eps=eps, seed=seed, function=options.function
    )
    return _tell_own(found, norm, eps, target, console)


def _tell_own(found: OwnResult, norm: str, eps: float, target: Path | None, console: Console) -> Any:
    trace, verdict, walked = found.traces[0], found.verdict, found.walked
    for caption in (captions(trace)[0], captions(trace)[-1]):
        console.say(caption)
    inside = "inside" if bool(verdict.inside[0]) else "OUTSIDE"
    console.say(
        f"Checked again in float32: {inside} the ball {norm} {eps_text(eps)} (Linf {size(float(verdict.linf[0]), 'linf')}, "
        f"L2 {size(float(verdict.l2[0]), 'l2')}), {ENDINGS[found.endings[0]]}."
    )
    if found.left_at is not None:
        console.say(f"Step {found.left_at} is the first outside the ball or [0, 1].")
    for words in walked.left:
        console.say(f"It left something behind: {words}.")
    console.say(f"It asked the model {walked.forwards} times, and {walked.backwards} times for a gradient.")
    if target is not None:
        room = io.BytesIO()
        np.savez_compressed(
            room, frames=trace.frames, logits=trace.logits, loss=trace.loss, linf=trace.linf, l2=trace.l2
        )
        save(target.with_suffix(".npz"), room.getvalue())
        console.say(f"Saved {target.with_suffix('.npz')}.")
    return {
        "ending": str(found.endings[0]), "inside": bool(verdict.inside[0]), "linf": float(verdict.linf[0]),
        "l2": float(verdict.l2[0]), "steps": len(trace) - 1, "left_at": found.left_at, "forwards": walked.forwards,
        "backwards": walked.backwards, "left_behind": list(walked.left),
    }  # fmt: skip


def _image(text: str, name: str, engine: Engine, invert: bool) -> tuple[int | str, tuple[str, ...]]:
    """The image as a request names it; a file is read, checked and kept for it."""
    if text.lstrip("-").isdecimal():
        if invert:
            raise InvalidValue("--invert belongs to a picture file; a row of the sample is seen as it is.")
        return int(text), ()
    file = Path(text).expanduser()
    try:
        data = file.read_bytes()
    except OSError as error:
        raise BadImage(f"image must be a row of the sample or a picture file; {text!r}: {error.strerror}.") from error
    spec = dataset(name)
    upload = read_upload(data, file.name, spec.shape, Look(spec.background, invert))
    key = "upload:" + hashlib.sha256(upload.pixels.numpy().tobytes()).hexdigest()[:16]
    engine.keep_upload(key, upload.pixels)
    return key, upload.notes


def _watch(engine: Engine, request: AttackRequest, console: Console) -> tuple[Trace, Result]:
    """The finished walk and its result; the map that would follow is of no use here."""
    with console.bar(request.frames, "images") as bar:
        for snapshot in attack_work(engine, request, LIMITS)():
            if snapshot is not None and snapshot.result is not None:
                return snapshot.trace, snapshot.result
            bar.update()
    raise AssertionError("an attack ends with a result")


def _tell(
    trace: Trace, result: Result, request: AttackRequest, card: zoo.Card, notes: tuple[str, ...], console: Console
) -> None:
    verdict, about = result.verdict, result.conditions
    for note in notes:
        console.say(note)
    console.say(f"{request.title()}, seed {request.seed}")
    console.say(captions(trace, None, card.stochastic)[0])
    console.say(captions(trace, result, card.stochastic)[result.best])
    norm = request.norm
    own = "" if norm in ("linf", "l2") else f", {THREAT_NAMES[norm]} {size(float(verdict.distance[0]), norm)}"
    console.say(
        f"Checked again in float32: {'inside' if bool(verdict.inside[0]) else 'OUTSIDE'} "
        f"the {'pixel range' if request.is_minimal else 'ball' if norm in NORMS else 'limits'} "
        f"(Linf {size(float(verdict.linf[0]), 'linf')}, L2 {size(float(verdict.l2[0]), 'l2')}{own}), "
        f"{_came_of(result)}; rounded to 8 bits, the goal is {'' if bool(verdict.reached_8bit[0]) else 'not '}reached."
    )
    cost = f"{about['forwards']} forward and {about['backwards']} backward passes, {about['seconds']:.2f} s"
    console.say(f"{cost} on {about['device']}; frame {result.best} of {len(trace) - 1} counts.")


ENDINGS = {
    Ending.WRONG_BEFORE: "the model was wrong before any change, so nobody was fooled",
    Ending.FOOLED: "the model is fooled",
    Ending.HOLDS: "the model holds",
    Ending.TARGET_MISSED: "the target is missed",
}


def _came_of(result: Result) -> str:
    word, verdict = ENDINGS[result.ending], result.verdict
    share = percent(float(verdict.share[0]))
    return word if verdict.draws == 1 else f"{word} (the goal is reached at {share} of {verdict.draws} fresh draws)"


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
    rows = [[e.key, e.title, e.group, ", ".join(e.cls.threats), e.paper, e.summary] for e in entries]
    console.table(["attack", "title", "group", "threats", "paper", "what for"], rows)
    return [
        {
            "key": e.key,
            "title": e.title,
            "group": e.group,
            "norms": list(e.cls.norms),
            "threats": list(e.cls.threats),
            "budget": e.cls.budget,
            "paper": e.paper,
            "summary": e.summary,
        }
        for e in entries
    ]
