"""Measure what attacks cost on this computer: PGD-20 beside a bare loop of the passes it cannot do without.

  python -m explorer bench
  python -m explorer bench cifar10/pgd-linf --repeats 15

With `attacks`: our attacks beside other libraries' at equal settings: success, distances, passes and time.
`pip install --no-deps -r requirements-peers.txt` installs those libraries; what is missing is named and left out. All of it
takes hours on a small computer; each comparison is printed as soon as it is done.

  python -m explorer bench attacks
  python -m explorer bench attacks --only pgd,deepfool --images 64 --repeats 5 --json beside.json

With `training`: images per second of the training loop beside a bare loop of the same forwards, backwards and steps.

  python -m explorer bench training --repeats 9

The times mean something only while nothing else computes; the load before and after stands beside them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from tqdm import tqdm

from explorer.cli._console import Console, check_writable, images_of, percent, whole
from explorer.core import InvalidValue, UnknownName
from explorer.core.device import hardware_name
from explorer.engine import choose
from explorer.evaluation import bench
from explorer.evaluation.beside import MODEL, beside, chosen
from explorer.evaluation.peers import PEERS
from explorer.evaluation.throughput import throughput
from explorer.models import zoo

ATTACKS, TRAINING = "attacks", "training"  # in place of a model's name
REPEATS = 7


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name",
        nargs="?",
        help="which model (default: an untrained PreAct ResNet-18 of width 32), or: attacks, training",
    )
    parser.add_argument(
        "--repeats",
        help=f"how often each is timed; the median counts (default: {REPEATS}; of attacks, 1 or 3, as it says)",
    )
    beside = parser.add_argument_group("bench attacks")
    beside.add_argument("--model", help=f"which model is attacked (default: {MODEL})")
    beside.add_argument("--images", help="how many test images (default: 8 to 200, by what the attack costs)")
    beside.add_argument("--only", metavar="A,B", help="these comparisons, or all of these attacks")
    beside.add_argument("--peers", metavar="A,B", help=f"these libraries of {', '.join(p.name for p in PEERS)}")
    beside.add_argument(
        "--minutes", help="most that a library may take for a round (default: 10; of the longest 30, of AutoAttack 120)"
    )
    beside.add_argument("--seed", help="of the first round; each further round takes the next (default: 0)")


def run(options: argparse.Namespace, console: Console) -> Any:
    if options.name == ATTACKS:
        return _attacks(options, console)
    for name in ("model", "images", "only", "peers", "minutes", "seed"):
        if getattr(options, name) is not None:
            raise InvalidValue(f"--{name} belongs to `bench attacks`; got {getattr(options, name)!r}.")
    repeats = whole("repeats", str(REPEATS) if options.repeats is None else options.repeats, 1, 1000)
    if options.name == TRAINING:
        return _training(repeats, options, console)
    if options.name is not None:
        zoo.card(options.name)
    with console.bar(0, "repeats") as bar:
        rows = bench(options.name, device=choose(options.device), repeats=repeats, progress=_shown(bar))
    first = rows[0]
    console.say(
        f"{first['model']} on {first['device']}, {first['threads']} threads, torch {first['torch']}, {repeats} repeats"
    )
    for row in rows:
        console.say(f"{row['what']}, batch {row['batch']}: {_numbers(row)}; load {_load(row['load'])}")
    return rows


def _training(repeats: int, options: argparse.Namespace, console: Console) -> Any:
    device = choose(options.device)
    with console.bar(0, "repeats") as bar:
        rows = throughput(device=device, bf16=device.type == "cuda", repeats=repeats, progress=_shown(bar))
    first = rows[0]
    console.say(
        f"{first['device']}, {first['threads']} threads, torch {first['torch']}, {first['precision']}, {repeats} repeats"
    )
    for row in rows:
        low, high = row["ratio_range"]
        speeds = f"{row['images_per_second']:.1f} to {row['bare_images_per_second']:.1f} images a second"
        console.say(
            f"{row['what']}, batch {row['batch']}: {row['ratio']:.3f} of the bare loop ({low:.3f} to {high:.3f}; {speeds}; at "
            f"least {row['target']:.2f} is wanted); a checkpoint of {row['checkpoint_bytes'] / 2**20:.0f} MiB takes "
            f"{row['checkpoint_seconds']:.2f} s, {percent(row['checkpoint_share'])} of the time; load {_load(row['load'])}"
        )
    return rows


def _shown(bar: tqdm) -> Callable[[str, int, int], None]:
    def show(stage: str, done: int, total: int) -> None:
        bar.set_description_str(stage, refresh=False)
        bar.total = total
        bar.update(done - bar.n)

    return show


def _numbers(row: dict[str, Any]) -> str:
    if "ratio" not in row:
        return f"{row['walk_seconds']:.3f} s, the first step after {row['first_step_seconds']:.3f} s"
    low, high = row["ratio_range"]
    goal = "" if row["target"] is None else f", at most {row['target']:.2f} is wanted"
    times = f"{row['pgd_seconds']:.3f} s to {row['bare_seconds']:.3f} s"
    return f"{row['ratio']:.3f} times ({low:.3f} to {high:.3f}; {times}{goal})"


def _load(pair: list[float | None]) -> str:
    return "unknown" if None in pair else f"{pair[0]:g} before, {pair[1]:g} after"


def _attacks(options: argparse.Namespace, console: Console) -> Any:
    check_writable(options.json)
    card = zoo.card(options.model or MODEL)
    changes = {
        field: whole(name, getattr(options, name), 1, limit)
        for name, field, limit in (
            ("images", "images", 10_000),
            ("repeats", "rounds", 1000),
            ("minutes", "minutes", 1440),
        )
        if getattr(options, name) is not None
    }
    selection = [replace(c, **changes) for c in chosen(_names(options.only))]
    images, _ = images_of(card.dataset, max(c.images for c in selection))
    peers = [_peer(name) for name in _names(options.peers)] if options.peers else PEERS
    model = zoo.load(card.name, choose(options.device))
    about = f"{hardware_name(model.device)}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    console.say(f"{card.name} on {about}; {images.name} {images.split}, {images.source}")
    for peer in peers:
        reason = peer.missing()
        console.say(f"Beside {peer.name} {peer.version}." if reason is None else f"{peer.name} is left out: {reason}.")
    with console.bar(0, "runs") as bar:

        def told(comparison: dict[str, Any]) -> None:
            with bar.external_write_mode():
                _tell(comparison, console)

        result = beside(
            model,
            images,
            selection,
            peers=peers,
            seed=whole("seed", options.seed or "0", 0, 2**31),
            progress=_shown(bar),
            told=told,
        )
    result = {"model": card.name, **result}
    _sum_up(result["comparisons"], console)
    return result


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def _peer(name: str) -> Any:
    known = {peer.name: peer for peer in PEERS}
    if name not in known:
        raise UnknownName("library", name, known)
    return known[name]


def _tell(comparison: dict[str, Any], console: Console) -> None:
    eps = f", eps {comparison['eps']:.4g}" if comparison["eps"] else ""
    settings = ", ".join(f"{name}={value}" for name, value in comparison["hyper"].items())
    console.say()
    console.say(f"{comparison['key']}: {comparison['title']}, {comparison['norm']}{eps} ({settings})")
    console.say(
        f"{comparison['right']} of {comparison['images']} images are classified right and attacked, "
        f"{comparison['rounds']} rounds; load {_load(comparison['load'])}"
    )
    minimal = comparison["minimal"]
    distances = ["mean", "median", "ours / theirs, mean and median where both succeed"] if minimal else []
    head = [
        "library",
        "fooled",
        "same as ours",
        "outside",
        *distances,
        "forwards",
        "backwards",
        "seconds",
        "time, ours / theirs",
    ]
    console.table(
        head, [_cells(row, comparison["right"], minimal) for row in comparison["rows"] if "failed" not in row]
    )
    for row in comparison["rows"]:
        if "failed" in row:
            console.say(f"{row['library']} failed: {row['failed']}")
    for wanted in comparison["wanted"]:
        if not wanted["what"].startswith("images") or not wanted["reached"]:
            console.say(_verdict(wanted))


def _cells(row: dict[str, Any], right: int, minimal: bool) -> list[str]:
    distances = []
    if minimal:
        theirs, ours = row["on_common"], row["ours_on_common"]
        pair = [f"{ours[m]:.4f} / {theirs[m]:.4f}" for m in ("mean", "median") if ours[m] is not None]
        distances = [_distance(row["mean_distance"]), _distance(row["median_distance"]), ", ".join(pair) or "none"]
    return [
        row["library"],
        f"{percent(row['success'])} ({_range(row['successes'])} of {right})",
        f"{_range(row['same_verdicts'])}",
        f"{row['outside']} (by {row['excess']:.0e})" if row["outside"] else "none",
        *distances,
        f"{row['forwards']:.1f}",
        f"{row['backwards']:.1f}",
        f"{row['seconds']:.3f}",
        f"{row['time_ratio']:.3f}",
    ]


def _range(counts: list[int]) -> str:
    return str(counts[0]) if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"


def _distance(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _verdict(wanted: dict[str, Any]) -> str:
    word = "reached" if wanted["reached"] else "NOT REACHED"
    if wanted["what"].startswith("images"):
        return f"  {word}: fooled {percent(1 - wanted['value'])}, {wanted['library']} {percent(1 - wanted['at_most'])}"
    return f"  {word}: {wanted['what']}, beside {wanted['library']}: {wanted['value']:.4f}, at most {wanted['at_most']:.4f} wanted"


def _sum_up(comparisons: list[dict[str, Any]], console: Console) -> None:
    every = [(c["key"], wanted) for c in comparisons for wanted in c["wanted"]]
    missed = [(key, wanted) for key, wanted in every if not wanted["reached"]]
    console.say()
    console.say(f"{len(every) - len(missed)} of {len(every)} of what was wanted is reached.")
    for key, wanted in missed:
        console.say(f"{key}:{_verdict(wanted)}")
