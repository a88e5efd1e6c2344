"""Measure what attacks cost on this computer: PGD-20 beside a bare loop of the passes it cannot do without.

  python -m explorer bench
  python -m explorer bench cifar10/pgd-linf --repeats 15

With `attacks`: our attacks beside other libraries' at equal settings: success, distances, passes and time.
`pip install --no-deps -r requirements-peers.txt` installs those libraries; what is missing is named and left out. All of it
takes hours on a small computer; each comparison is printed as soon as it is done.

  python -m explorer bench attacks
  python -m explorer bench attacks --only pgd,deepfool --images 64 --repeats 5 --json beside.json

With `coverage`: every image attack of those libraries, with ours beside it or a sentence why there is none.

  python -m explorer bench coverage --peers torchattacks

With `precision`: whether the attacks that compute their gradients in bfloat16 from 16 pictures on fool as many as in float32.

  python -m explorer bench precision cifar10/pgd-linf fashion_mnist/fashion-mlp

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
from explorer.cli._parser import Verb
from explorer.core import UnknownName
from explorer.core.device import computes_bfloat16, hardware_name
from explorer.engine import choose, eps_text
from explorer.evaluation import bench
from explorer.evaluation.beside import MODEL, beside, chosen
from explorer.evaluation.coverage import COVERAGE
from explorer.evaluation.peers.library import PEERS, Peer
from explorer.evaluation.precisions import both_precisions
from explorer.evaluation.throughput import throughput
from explorer.models import zoo

REPEATS = 7


def _arguments_of_pgd(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name", nargs="?", metavar="NAME", help="which model (default: an untrained PreAct ResNet-18 of width 32)"
    )
    _arguments_of_training(parser)


def _arguments_of_training(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--repeats", default=str(REPEATS), help="how often each is timed; the median counts (default: %(default)s)"
    )


def _arguments_of_attacks(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--repeats", help="how often each is timed; the median counts (default: 1 or 3, by the attack)")
    parser.add_argument("--model", help=f"which model is attacked (default: {MODEL})")
    parser.add_argument("--images", help="how many test images (default: 8 to 200, by what the attack costs)")
    parser.add_argument("--only", metavar="A,B", help="these comparisons, or all of these attacks")
    parser.add_argument("--peers", metavar="A,B", help=f"these libraries of {', '.join(p.name for p in PEERS)}")
    parser.add_argument(
        "--minutes", help="most that a library may take for a round (default: 10; of the longest 30, of AutoAttack 120)"
    )
    parser.add_argument("--seed", help="of the first round; each further round takes the next (default: 0)")


def _pgd(options: argparse.Namespace, console: Console) -> Any:
    repeats = whole("repeats", options.repeats, 1, 1000)
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


def _training(options: argparse.Namespace, console: Console) -> Any:
    repeats, device = whole("repeats", options.repeats, 1, 1000), choose(options.device)
    with console.bar(0, "repeats") as bar:
        rows = throughput(device=device, bf16=computes_bfloat16(device), repeats=repeats, progress=_shown(bar))
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
    changes: dict[str, Any] = {
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
    names = _names(options.peers or None)
    peers = PEERS if names is None else [_peer(name) for name in names]
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


def _peer(name: str) -> Peer:
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


def _arguments_of_coverage(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--peers", metavar="A,B", help=f"these libraries of {', '.join(COVERAGE)}")


def _coverage(options: argparse.Namespace, console: Console) -> Any:
    libraries = options.peers.split(",") if options.peers else list(COVERAGE)
    for library in libraries:
        if library not in COVERAGE:
            raise UnknownName("library", library, COVERAGE)
    rows = [(library, row) for library in libraries for row in COVERAGE[library]]
    console.table(["library", "its attack", "ours", ""], [[library, *row.told()] for library, row in rows])
    ours = sum(bool(row.ours) for _, row in rows)
    console.say(f"{ours} of {len(rows)} have one of ours beside them.")
    return [{"library": library, "attack": row.attack, "ours": row.ours, "why": row.why} for library, row in rows]


def _arguments_of_precision(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="+", metavar="NAME", help="which models")
    parser.add_argument("--only", metavar="A,B", help="these attacks (default: all that take bfloat16 by themselves)")
    parser.add_argument("--images", default="128", help="of the test images, at most (default: %(default)s)")
    parser.add_argument("--seed", default="0", help="of every draw (default: %(default)s)")


def _precision(options: argparse.Namespace, console: Console) -> Any:
    check_writable(options.json)
    device, keys, rows, found = choose(options.device), _names(options.only), [], []
    n, seed = whole("images", options.images, 1, 10_000), whole("seed", options.seed, 0, 2**31)
    for name in options.names:
        zoo.card(name)
    console.say(f"{hardware_name(device)}, {torch.get_num_threads()} threads, torch {torch.__version__}; seed {seed}")
    for name in options.names:
        for one in both_precisions(name, keys, n=n, seed=seed, device=device):
            exact, fast = one.float32, one.bfloat16
            size = f"{exact.norm} {eps_text(exact.eps)}" if exact.eps is not None else str(exact.norm)
            fooled = [str(count) for count in one.fooled]
            time = f"{fast.seconds / max(exact.seconds, 0.01):.2f}"
            rows.append([name, one.key, size, str(exact.n), *fooled, time, "yes" if one.as_well else "NO"])
            found.append({"model": name, "attack": one.key, "float32": exact.to_dict(), "bfloat16": fast.to_dict()})
    head = ["model", "attack", "at", "images", "fooled, float32", "fooled, bfloat16", "time, of float32's", "as well"]
    console.table(head, rows)
    return found


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


VERBS = {
    "pgd": Verb("PGD-20 beside a bare loop of the passes it cannot do without", _pgd, _arguments_of_pgd),
    "attacks": Verb("our attacks beside other libraries', at equal settings", _attacks, _arguments_of_attacks),
    "coverage": Verb(
        "every image attack of the other libraries, with ours beside it", _coverage, _arguments_of_coverage
    ),
    "precision": Verb(
        "gradients in bfloat16 beside float32: as many fooled, and the time", _precision, _arguments_of_precision
    ),
    "training": Verb("the training loop beside a bare loop of the same steps", _training, _arguments_of_training),
}
USUAL, NAMED = "pgd", "pgd"
