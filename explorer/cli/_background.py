"""Options of what is submitted as a background run: the cluster's, and `--background` of the commands that measure."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from explorer.attacks import ATTACKS
from explorer.cli._console import Console, eps_of, settings, whole
from explorer.core import InvalidValue
from explorer.data import raw
from explorer.evaluation.adaptive import DRAWS, QUERIES
from explorer.jobs import Run, Spec, Store
from explorer.jobs.adaptive import usual_twin
from explorer.jobs.roc import usual_eps
from explorer.jobs.slurm import Options
from explorer.models import zoo


def cluster_arguments(parser: argparse.ArgumentParser) -> None:
    """--slurm, and what to ask the cluster for."""
    parser.add_argument("--slurm", action="store_true", help="on the Slurm cluster that this computer submits to")
    cluster = parser.add_argument_group(
        "with --slurm", "what to ask the cluster for; the run's folder must be seen by all nodes"
    )
    for p in Options.params():
        cluster.add_argument(
            f"--{p.name}", metavar="N" if p.kind is int else "WORD", help=f"{p.label}. {p.help}".rstrip(". ")
        )


def place_of(options: argparse.Namespace) -> dict[str, Any]:
    """A spec's place, cluster and processes. Raises InvalidValue."""
    cluster = {p.name: given for p in Options.params() if (given := getattr(options, p.name)) is not None}
    if cluster and not options.slurm:
        raise InvalidValue(f"--{next(iter(cluster))} is asked of a cluster: say --slurm, too.")
    asked = Options.from_dict(cluster)
    processes = asked.nodes * max(asked.gpus, 1)
    if options.processes is not None:
        processes = whole("processes", options.processes, 1, 1024)
    where = {"place": "slurm", "cluster": asked.to_dict()} if options.slurm else {"place": "local", "cluster": {}}
    return where | {"processes": processes}


def background_arguments(parser: argparse.ArgumentParser) -> None:
    """--background, and where the run lives."""
    parser.add_argument(
        "--background",
        action="store_true",
        help="as a run that outlives the terminal; `jobs` lists it and shows its table",
    )
    parser.add_argument(
        "--processes",
        metavar="N",
        help="with --background: share the work among so many (default: 1; with --slurm all GPUs)",
    )
    cluster_arguments(parser)


def check_foreground(options: argparse.Namespace) -> None:
    """Refuse what only a run in the background can do."""
    words = [p.name for p in Options.params() if getattr(options, p.name) is not None]
    words += [name for name in ("slurm", "processes") if getattr(options, name)]
    if words:
        raise InvalidValue(f"--{words[0]} belongs to --background, which is missing.")


def submit(kind: str, asked: Mapping[str, Any], options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Submit a run that measures; raises what `Store.submit` does, and for options that do not go together."""
    made = Store().submit(Spec(kind=kind, settings=dict(asked), device=options.device, **place_of(options)))
    console.say(f"Submitted run {made.id}; `python -m explorer jobs show {made.id}` shows its table as it grows.")
    return facts(made)


def certify_in_background(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """`certify`, by smoothing or by a kind that draws nothing, as a run."""
    refuse_together(options, "predict", "counts", "bench", "resume", "write")
    drawing = ("sigma", "n", "n0", "alpha", "seed", "sound")
    given = {name: value for name in drawing if (value := getattr(options, name)) not in (None, False)}
    if options.kind is not None and given:
        raise InvalidValue(f"--{next(iter(given))} is of noise; a certificate of the kind {options.kind} draws none.")
    images = len(raw(zoo.card(options.name).dataset, "test")[1]) if options.images == "all" else options.images
    kind = {} if options.kind is None else {"certificate": options.kind}
    asked = given | kind | {"model": options.name, "images": images, "precision": options.precision}
    return submit("certify", asked, options, console)


def evaluate_in_background(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """`evaluate`: clean accuracy and the attacks named, or --adaptive, as a run."""
    refuse_together(options, "standard", "corruptions", "detection", "retrieval", "inference", "reports_settings", "reports", "course",
                    *(() if options.roc else ("craft_on",)), "write")  # fmt: skip
    if options.roc and options.name is not None:
        return _roc(options, console)
    if options.adaptive and options.name is not None:
        return _adaptive(options, console)
    refuse_together(options, "twin")
    if not (options.clean or options.attack) or options.name is None:
        raise InvalidValue("--background needs a model's name, and --attack, --clean, --adaptive or --roc.")
    names = options.attack.split(",") if options.attack else []
    if options.set and len(names) != 1:
        raise InvalidValue(f"--set is about one attack; got {len(names)} with --background.")
    attacks = [ATTACKS[name].from_dict(settings(options.set)) for name in names]
    norm = options.norm or (attacks[0].threats[0] if attacks else "linf")
    eps = [eps_of(norm, text) for text in options.eps.split(",")] if options.eps else [eps_of(norm, None)]
    asked = {
        "model": options.name, "norm": norm, "seed": options.seed, "batch": options.batch,
        "precision": "float32" if options.precision == "auto" else options.precision,
        "attacks": [{"name": name, "hyper": a.to_dict()} for name, a in zip(names, attacks, strict=True)],
        "eps": eps if attacks else [], "images": options.n or 1000,
    }  # fmt: skip
    return submit("evaluate", asked, options, console)


def _adaptive(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    if len(options.twin) > 1:
        raise InvalidValue(f"--adaptive takes one --twin with --background; got {len(options.twin)}.")
    refuse_together(options, "set", "eps", "norm", use="--adaptive")
    twin = options.twin[0] if options.twin else usual_twin(zoo.card(options.name))
    asked = {
        "model": options.name,
        "twin": twin,
        "images": options.n or 200,
        "most": DRAWS[-1],
        "queries": QUERIES,
        "seed": options.seed,
    }
    return submit("adaptive", asked | {"shuffle": -1}, options, console)


def _roc(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    refuse_together(options, "set", "norm", "twin", use="--roc")
    card = zoo.card(options.name)
    eps = usual_eps(card) if options.eps is None else eps_of("linf", options.eps)
    asked = {
        "model": card.name,
        "source": options.craft_on or "",
        "eps": eps,
        "seed": options.seed,
        "images": options.n or 1000,
    }
    return submit("roc", asked, options, console)


def refuse_together(options: argparse.Namespace, *names: str, use: str = "--background") -> None:
    """Refuse options that a run in the background, or another `use`, does not take."""
    for name in names:
        if getattr(options, name):
            raise InvalidValue(f"--{name.replace('_', '-')} is not for {use}: leave one of them out.")


def facts(one: Run) -> dict[str, Any]:
    """Everything about a run that a program may want."""
    state = one.state
    spec = {} if state.status == "unreadable" else one.spec.to_dict()
    about = state.to_dict() | {"progress": state.progress}
    return {"id": one.id, "folder": str(one.folder), "spec": spec, "state": about, "environment": one.environment}
