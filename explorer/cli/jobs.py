"""Background runs, `python -m explorer jobs`: submitted, they wait their turn for the device and outlive the terminal.

  python -m explorer jobs submit baseline --set epochs=5
  python -m explorer jobs submit pgd-linf --slurm --partition gpu --time 8:00:00 --nodes 2 --gpus 4
  python -m explorer jobs list
  python -m explorer jobs logs k3v9 --follow
  python -m explorer jobs cancel k3v9
  python -m explorer jobs resume k3v9
  python -m explorer jobs delete k3v9 --yes

A run is named by its id or the first letters of it. One run at a time computes on a device, the others wait in order. What
a run leaves is in its folder below EXPLORER_RUNS (default: ./runs); the model of a finished one is in the zoo. Whoever may
write that folder may change its runs; the instructor's password is asked for by the app alone. Both write audit.jsonl.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

from explorer.cli._console import Console, percent, settings, whole
from explorer.core import InvalidValue
from explorer.jobs import LIVE, Run, Spec, State, Store
from explorer.jobs.slurm import Options
from explorer.jobs.spec import PRECISIONS
from explorer.jobs.store import KILL_AFTER_S

POLL_S = 0.5  # between two looks at a run that is followed
CANCEL_TIMEOUT_S = KILL_AFTER_S + 5  # to wait for a run to end


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=ACTIONS, nargs="?", default="list", help="what to do (default: %(default)s)")
    parser.add_argument("name", nargs="?", metavar="RECIPE|ID", help="submit: which recipe; else: which run")
    submit = parser.add_argument_group("submit")
    submit.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="change a hyper-parameter (repeatable)"
    )
    submit.add_argument("--model", metavar="NAME", help="what the zoo calls the model (default: DATASET/RECIPE-ID)")
    submit.add_argument("--title", help="what choosers call it (default: the recipe's title)")
    submit.add_argument("--summary", help="one line of what it is, for tables (default: the recipe's)")
    submit.add_argument(
        "--smoke", action="store_true", help="a run of a minute on few images that shows the recipe works"
    )
    submit.add_argument("--limit", metavar="N", help="use only so many training images")
    submit.add_argument("--precision", choices=PRECISIONS, default="auto", help="of the passes (default: %(default)s)")
    submit.add_argument(
        "--processes",
        metavar="N",
        help="train with so many, one GPU each (default: 1; with --slurm all GPUs of all nodes)",
    )
    submit.add_argument("--threads", metavar="N", help="CPU threads of each process (default: all cores)")
    submit.add_argument("--slurm", action="store_true", help="on the Slurm cluster that this computer submits to")
    cluster = parser.add_argument_group(
        "submit --slurm", "what to ask the cluster for; the run's folder must be seen by all nodes"
    )
    for p in Options.params():
        cluster.add_argument(
            f"--{p.name}", metavar="N" if p.kind is int else "WORD", help=f"{p.label}. {p.help}".rstrip(". ")
        )
    parser.add_argument("--follow", action="store_true", help="logs: go on until the run ends")
    parser.add_argument("--last", default="200", metavar="N", help="logs: how many lines (default: %(default)s)")
    parser.add_argument("--yes", action="store_true", help="delete: do not ask")


def run(options: argparse.Namespace, console: Console) -> Any:
    store = Store()
    if options.action == "list":
        if options.name is not None:
            raise InvalidValue(f"list takes no name; `jobs show {options.name}` shows one run.")
        return _list(store, console)
    if options.name is None:
        raise InvalidValue(f"{options.action} needs {'a recipe' if options.action == 'submit' else 'the id of a run'}.")
    if options.action == "submit":
        return _submit(store, options, console)
    return ON_A_RUN[options.action](store.run(options.name), options, console)


def _submit(store: Store, options: argparse.Namespace, console: Console) -> Any:
    cluster = {p.name: given for p in Options.params() if (given := getattr(options, p.name)) is not None}
    if cluster and not options.slurm:
        raise InvalidValue(f"--{next(iter(cluster))} is asked of a cluster: say --slurm, too.")
    asked = Options.from_dict(cluster)
    spec = Spec(
        recipe=options.name, hyper=settings(options.set), name=options.model, title=options.title, summary=options.summary,
        device=options.device, precision=options.precision, smoke=options.smoke,
        place="slurm" if options.slurm else "local", cluster=asked.to_dict() if options.slurm else {},
        processes=asked.nodes * max(asked.gpus, 1) if options.processes is None else whole("processes", options.processes, 1, 1024),
        threads=None if options.threads is None else whole("threads", options.threads, 1, 1024),
        limit=None if options.limit is None else whole("limit", options.limit, 1, 10**9),
    )  # fmt: skip
    made = store.submit(spec)
    console.say(f"Submitted run {made.id}; `python -m explorer jobs logs {made.id} --follow` shows how it goes.")
    return facts(made)


def _list(store: Store, console: Console) -> Any:
    runs = store.tend()
    if not runs:
        console.say(f"No runs in {store.root} yet: `python -m explorer jobs submit RECIPE` starts one.")
        return []
    rows = []
    for one in runs:
        state = one.state
        recipe = "-" if state.status == "unreadable" else one.spec.recipe
        note = state.message if state.status != "finished" else state.model or ""
        device = state.device or (f"job {state.job}" if state.job else "-")
        rows.append([one.id, state.status, recipe, done(state), left(state), device, note])
    console.table(["run", "status", "recipe", "done", "left", "device", ""], rows)
    return [facts(one) for one in runs]


def _show(one: Run, options: argparse.Namespace, console: Console) -> Any:
    found = facts(one)
    state = one.state
    console.say(f"{one.id}: {state.status}. {state.message}".rstrip())
    console.say(f"folder         {one.folder}")
    if state.progress:
        console.say(f"progress       {done(state)}, {left(state)} left")
    for part in ("spec", "environment"):
        for key, value in found[part].items():
            if value not in (None, {}, ""):
                console.say(f"{key:<14} {_plain(value)}")
    for entry in _epochs(one):
        scores = ", ".join(
            f"{key} {percent(entry[key])}" for key in ("clean", "robust", "noisy", "certified") if key in entry
        )
        console.say(f"epoch {entry.get('epoch')}  loss {entry.get('loss', 0):.3f}  held-out: {scores}")
    return found


def _logs(one: Run, options: argparse.Namespace, console: Console) -> Any:
    text = one.log(whole("last", options.last, 1, 10**6))
    if text:
        console.say(text)
    if options.follow:
        _follow(one, console)
    return {"id": one.id, "status": one.state.status, "log": one.log(10**6)}


def _follow(one: Run, console: Console) -> None:
    """New lines of the log as they come, until the run has ended."""
    path = one.folder / "log.txt"
    at = path.stat().st_size if path.is_file() else 0
    live = True
    while live:
        live = one.tend().status in LIVE
        if path.is_file() and path.stat().st_size > at:
            with open(path, "rb") as file:
                file.seek(at)
                data = file.read()
            whole_lines = data[: data.rfind(b"\n") + 1]
            at += len(whole_lines)
            if whole_lines:
                console.say(whole_lines.decode(errors="replace").rstrip("\n"))
        if live:
            time.sleep(POLL_S)


def _cancel(one: Run, options: argparse.Namespace, console: Console) -> Any:
    one.cancel()
    deadline = time.monotonic() + CANCEL_TIMEOUT_S
    while (state := one.tend()).status in LIVE and time.monotonic() < deadline:
        time.sleep(POLL_S)
    console.say(f"Run {one.id} is {state.status}. {state.message}".rstrip())
    return facts(one)


def _resume(one: Run, options: argparse.Namespace, console: Console) -> Any:
    one.resume()
    console.say(f"Run {one.id} goes on when its turn comes.")
    return facts(one)


def _delete(one: Run, options: argparse.Namespace, console: Console) -> Any:
    model = one.state.model if one.published() else None
    what = f"run {one.id}" + (f" and its model {model}, which the zoo then knows no more" if model else "")
    if not options.yes:
        if not sys.stdin.isatty():
            raise InvalidValue(f"This deletes {what}: say --yes.")
        if input(f"Delete {what}? [y/N] ").strip().lower() not in ("y", "yes"):
            console.say("Nothing was deleted.")
            return {"id": one.id, "deleted": []}
    removed = one.delete()
    console.say(f"Deleted {what}.")
    return {"id": one.id, "deleted": [str(path) for path in removed]}


ON_A_RUN: dict[str, Callable[[Run, argparse.Namespace, Console], Any]] = {
    "show": _show, "logs": _logs, "cancel": _cancel, "resume": _resume, "delete": _delete,
}  # fmt: skip
ACTIONS = ("submit", "list", *ON_A_RUN)


def facts(one: Run) -> dict[str, Any]:
    """Everything about a run that a program may want."""
    state = one.state
    spec = {} if state.status == "unreadable" else one.spec.to_dict()
    about = state.to_dict() | {"progress": state.progress}
    return {"id": one.id, "folder": str(one.folder), "spec": spec, "state": about, "environment": one.environment}


def done(state: State) -> str:
    """ "45 %", of all updates; "-" where that is not known."""
    update, updates = state.progress.get("update"), state.progress.get("updates")
    if state.status == "finished":
        return "100 %"
    return f"{100 * update / updates:.0f} %" if update and updates else "-"


def left(state: State) -> str:
    """ "3 min" of training, as it goes now."""
    seconds = state.progress.get("left")
    if not isinstance(seconds, (int, float)):
        return "-"
    return (
        f"{seconds:.0f} s"
        if seconds < 100
        else f"{seconds / 60:.0f} min"
        if seconds < 6000
        else f"{seconds / 3600:.1f} h"
    )


def _epochs(one: Run) -> list[dict[str, Any]]:
    """The newest record of every epoch."""
    found = {r["epoch"]: r for r in one.metrics()[0] if r.get("kind") == "epoch" and isinstance(r.get("epoch"), int)}
    return [found[epoch] for epoch in sorted(found)]


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={_plain(item)}" for key, item in value.items())
    return f"{value:.6g}" if isinstance(value, float) else str(value)
