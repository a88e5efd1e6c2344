"""Background runs, `python -m explorer jobs`: submitted, they wait their turn for the device and outlive the terminal.

  python -m explorer jobs submit baseline --set epochs=5
  python -m explorer jobs submit pgd-linf --slurm --partition gpu --time 8:00:00 --nodes 2 --gpus 4
  python -m explorer jobs list
  python -m explorer jobs logs k3v9 --follow
  python -m explorer jobs cancel k3v9
  python -m explorer jobs resume k3v9
  python -m explorer jobs delete k3v9 --yes

`certify --background` and `evaluate --background` submit runs that measure; `show` prints their table, also before they
are done. A run is named by its id or the first letters of it. One run at a time computes on a device, the others wait in order. What
a run leaves is in its folder below EXPLORER_RUNS (default: ./runs); the model of a finished one is in the zoo. Whoever may
write that folder may change its runs; the instructor's password is asked for by the app alone. Both write audit.jsonl.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

from explorer.cli import _masking
from explorer.cli._background import cluster_arguments, facts, place_of
from explorer.cli._console import Console, percent, settings, whole
from explorer.cli._parser import Verb
from explorer.core import InvalidValue
from explorer.evaluation.tables import in_percent
from explorer.jobs import LIVE, Run, Spec, State, Store
from explorer.jobs.masking import of_cell
from explorer.jobs.measuring import result
from explorer.jobs.spec import PRECISIONS
from explorer.jobs.store import KILL_AFTER_S

POLL_S = 0.5  # between two looks at a run that is followed
CANCEL_TIMEOUT_S = KILL_AFTER_S + 5  # to wait for a run to end


def _run_name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID", help="the id of a run, or its first letters; `jobs list` shows them")


def _arguments_of_submit(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", metavar="RECIPE", help="what to train by; `train --list` shows the recipes")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="change a hyper-parameter (repeatable)"
    )
    parser.add_argument("--model", metavar="NAME", help="what the zoo calls the model (default: DATASET/RECIPE-ID)")
    parser.add_argument("--title", help="what choosers call it (default: the recipe's title)")
    parser.add_argument("--summary", help="one line of what it is, for tables (default: the recipe's)")
    parser.add_argument(
        "--smoke", action="store_true", help="a run of a minute on few images that shows the recipe works"
    )
    parser.add_argument("--limit", metavar="N", help="use only so many training images")
    parser.add_argument("--precision", choices=PRECISIONS, default="auto", help="of the passes (default: %(default)s)")
    parser.add_argument(
        "--processes",
        metavar="N",
        help="train with so many, one GPU each (default: 1; with --slurm all GPUs of all nodes)",
    )
    parser.add_argument(
        "--threads", metavar="N", help="CPU threads of each process (default: EXPLORER_THREADS, else all cores)"
    )
    cluster_arguments(parser)


def _arguments_of_logs(parser: argparse.ArgumentParser) -> None:
    _run_name(parser)
    parser.add_argument("--follow", action="store_true", help="go on until the run ends")
    parser.add_argument("--last", default="200", metavar="N", help="how many lines (default: %(default)s)")


def _arguments_of_delete(parser: argparse.ArgumentParser) -> None:
    _run_name(parser)
    parser.add_argument("--yes", action="store_true", help="do not ask")


def _submit(options: argparse.Namespace, console: Console) -> Any:
    store = Store()
    spec = Spec(
        recipe=options.recipe, hyper=settings(options.set), name=options.model, title=options.title, summary=options.summary,
        device=options.device, precision=options.precision, smoke=options.smoke, **place_of(options),
        threads=None if options.threads is None else whole("threads", options.threads, 1, 1024),
        limit=None if options.limit is None else whole("limit", options.limit, 1, 10**9),
    )  # fmt: skip
    made = store.submit(spec)
    console.say(f"Submitted run {made.id}; `python -m explorer jobs logs {made.id} --follow` shows how it goes.")
    return facts(made)


def _list(options: argparse.Namespace, console: Console) -> Any:
    store = Store()
    runs = store.tend()
    if not runs:
        console.say(f"No runs in {store.root} yet: `python -m explorer jobs submit RECIPE` starts one.")
        return []
    rows = []
    for one in runs:
        state = one.state
        kind, subject = ("-", "-") if state.status == "unreadable" else (one.spec.kind, one.spec.subject)
        note = state.message if state.status != "finished" else state.model or ""
        device = state.device or (f"job {state.job}" if state.job else "-")
        rows.append([one.id, state.status, kind, subject, done(state), left(state), device, note])
    console.table(["run", "status", "kind", "of", "done", "left", "device", ""], rows)
    return [facts(one) for one in runs]


def _show(options: argparse.Namespace, console: Console) -> Any:
    one = Store().run(options.id)
    found = facts(one)
    state = one.state
    console.say(f"{one.id}: {state.status}. {state.message}".rstrip())
    console.say(f"folder         {one.folder}")
    if state.progress:
        console.say(f"progress       {done(state)}, {left(state)} left")
    for part in ("spec", "environment"):
        for key, value in found[part].items():
            if value not in (None, {}, [], ""):
                console.say(f"{key:<14} {_plain(value)}")
    if state.status != "unreadable" and (table := result(one)) is not None:
        _table(table, console)
        return found | {"result": table}
    for entry in _epochs(one):
        scores = ", ".join(
            f"{key} {percent(entry[key])}" for key in ("clean", "robust", "noisy", "certified") if key in entry
        )
        console.say(f"epoch {entry.get('epoch')}  loss {entry.get('loss', 0):.3f}  held-out: {scores}")
    return found


def _table(table: dict[str, Any], console: Console) -> None:
    """Every share of a measurement, of the pictures that are finished."""
    for row in table["rows"]:
        for check in row.get("checks", []):
            console.say(_masking.line(_masking.TITLES[check["check"]], of_cell(check)))
        if "said" in row:
            console.say(row["said"])
    shares = [(row, share) for row in table["rows"] for share in row["shares"]]
    if not shares:
        if not table["rows"]:
            console.say("Nothing is measured yet.")
        return
    rows = [[row["title"], one["what"], in_percent(one), f"{row['done']:,} of {row['conditions']['images']:,}"]
            for row, one in shares]  # fmt: skip
    console.table(["", "", "share, 95 % interval", "pictures"], rows)


def _logs(options: argparse.Namespace, console: Console) -> Any:
    one = Store().run(options.id)
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


def _cancel(options: argparse.Namespace, console: Console) -> Any:
    one = Store().run(options.id)
    one.cancel()
    deadline = time.monotonic() + CANCEL_TIMEOUT_S
    while (state := one.tend()).status in LIVE and time.monotonic() < deadline:
        time.sleep(POLL_S)
    console.say(f"Run {one.id} is {state.status}. {state.message}".rstrip())
    return facts(one)


def _resume(options: argparse.Namespace, console: Console) -> Any:
    one = Store().run(options.id)
    one.resume()
    console.say(f"Run {one.id} goes on when its turn comes.")
    return facts(one)


def _delete(options: argparse.Namespace, console: Console) -> Any:
    one = Store().run(options.id)
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


VERBS = {
    "submit": Verb("train by a recipe, in the background", _submit, _arguments_of_submit),
    "list": Verb("all runs, and how they stand", _list),
    "show": Verb("everything about one run", _show, _run_name),
    "logs": Verb("what a run has said so far", _logs, _arguments_of_logs),
    "cancel": Verb("stop a run; it can go on later", _cancel, _run_name),
    "resume": Verb("have a run go on where it stopped", _resume, _run_name),
    "delete": Verb("remove a run, and its model from the zoo", _delete, _arguments_of_delete),
}
USUAL = "list"


def done(state: State) -> str:
    """ "45 %", of all updates, or "120 of 500 pictures"; "-" where that is not known."""
    if "pictures" in state.progress:
        return f"{state.progress['pictures']:,} of {state.progress.get('of', 0):,} pictures"
    update, updates = state.progress.get("update"), state.progress.get("updates")
    if state.status == "finished":
        return "100 %"
    return f"{100 * update / updates:.0f} %" if update and updates else "-"


def left(state: State) -> str:
    """ "3 min" of computing, as it goes now."""
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
    if isinstance(value, list):
        return "; ".join(map(_plain, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)
