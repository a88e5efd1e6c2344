"""Train a model by a recipe, then export it with its card.

  python -m explorer train --list
  python -m explorer train baseline
  python -m explorer train pgd-linf --set epochs=40 --set width=48 --name cifar10/my-model
  python -m explorer train lwta --smoke
  python -m explorer train nfgsm --dataset flowers

The run waits its turn for the device, is listed by `jobs list` and on the Training page, and when it ends its model is
measured and joins the zoo. The same command goes on where it was stopped (Ctrl-C saves a checkpoint first). With --out it
lives in a folder of your own instead: nothing lists it, and the model stays there. The weights exported are the averaged
ones of the epoch with the best score on held-out training images.
"""

from __future__ import annotations

import argparse
import os
import shlex
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from explorer.cli._console import Console, hyper_table, percent, settings
from explorer.core import Cancelled, InvalidValue, paths
from explorer.core.device import choose
from explorer.core.ranks import current
from explorer.defenses import RECIPES
from explorer.jobs import Process, Run, Spec, Store
from explorer.jobs.run_process import RunProcess
from explorer.jobs.spec import PRECISIONS
from explorer.jobs.store import open_unmanaged
from explorer.jobs.train import train
from explorer.models import zoo
from explorer.training import Progress, Result
from explorer.training.export import check_place, command_of

JOINING = 60.0  # seconds that further processes wait for the first one to begin the run


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", nargs="?", help="which recipe; --list shows them")
    parser.add_argument("--list", action="store_true", help="show the recipes; with a recipe, its hyper-parameters")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="change a hyper-parameter (repeatable)"
    )
    parser.add_argument(
        "--dataset",
        metavar="NAME",
        help="whose pictures to train on, one added by `data add` say (default: the recipe's own)",
    )
    parser.add_argument(
        "--out", metavar="FOLDER", help="where the run lives (default: among all runs, in EXPLORER_RUNS or ./runs)"
    )
    parser.add_argument("--name", help="what the zoo calls the model (default: DATASET/RECIPE, and the run's id)")
    parser.add_argument("--title", help="what choosers call it (default: the recipe's title)")
    parser.add_argument("--summary", help="one line of what it is, for tables (default: the recipe's)")
    parser.add_argument(
        "--export", metavar="FOLDER", help="where weights and card go (default: export/DATASET in the run's)"
    )
    parser.add_argument(
        "--smoke", action="store_true", help="a run of a minute on few images that shows the recipe works"
    )
    parser.add_argument(
        "--precision", choices=PRECISIONS, default="auto",
        help="of the passes; auto: bfloat16 where the device computes in it, else float32 (default: %(default)s)",
    )  # fmt: skip


def run(options: argparse.Namespace, console: Console) -> Any:
    if options.list or options.recipe is None:
        return _list(options.recipe, console)
    words = {"name": options.name, "title": options.title, "summary": options.summary}
    spec = Spec(
        options.recipe,
        settings(options.set),
        device=options.device,
        precision=options.precision,
        smoke=options.smoke,
        dataset=options.dataset,
        **words,
    ).checked()
    recipe = spec.build()
    name, target = options.name, Path(options.export) if options.export else None
    if options.out and name is None:
        name = f"{recipe.dataset}/{options.recipe}{'-smoke' if options.smoke else ''}"
    check_place(name or f"{recipe.dataset}/x", recipe, target or Path(recipe.dataset))
    for folder in (options.out or paths.runs(), target):
        if folder is not None:
            check_folder(Path(folder))
    choose(options.device)
    held = _held(options.out, spec)
    command = command_of(options.recipe, recipe)
    command += "".join(f" --{option} {shlex.quote(text)}" for option, text in words.items() if text)
    if options.smoke:
        elsewhere = f" --dataset {options.dataset}" if options.dataset else ""
        command = f"python -m explorer train {options.recipe}{elsewhere} --smoke"
    try:
        with RunProcess(held, console.say) as process, process.recording_outcome():
            process.wait_for_turn(attached=True)
            card, result = _work(process, target, name, command, console)
    except Cancelled as stop:
        raise Cancelled(f"{stop} The same command goes on.") from stop
    if card is None:  # of several processes the first one exports, and says so
        return None
    best = result.history[result.best_epoch - 1]
    scores = ", ".join(
        f"{key} {percent(best[key])}" for key in ("clean", "robust", "noisy", "certified") if key in best
    )
    kept = f"kept epoch {result.best_epoch} of {recipe.epochs}: {scores} of {result.held_out} held-out images"
    target = target or held.folder / "export" / recipe.dataset
    console.say(f"Trained {card.name} in {result.seconds:.0f} s; {kept}.")
    if result.warning:
        console.say(result.warning)
    console.say(f"Exported {target / card.file} ({card.bytes / 2**20:.1f} MiB, {card.precision}) and its card.")
    return {
        "card": asdict(card),
        "folder": str(held.folder),
        "export": str(target),
        "run": held.id if held.store else None,
    }


def _held(out: str | None, spec: Spec) -> Run:
    """The run that this command is about; of several processes the first one makes it, the others join."""
    if current().world == 1:
        return open_unmanaged(Path(out), spec) if out else Store().resume_or_create(spec)
    if not out:
        raise InvalidValue("several processes need --out FOLDER (or: jobs submit RECIPE --processes N).")
    if current().is_first:
        return open_unmanaged(Path(out), spec)
    run, agent, until = Run(Path(out).absolute()), Process.of(os.getppid()), time.monotonic() + JOINING
    while time.monotonic() < until:
        if agent.same(run.state.process):
            return run
        time.sleep(0.1)
    raise InvalidValue(f"The first process has not begun the run in {out} within {JOINING:.0f} s.")


def check_folder(folder: Path) -> None:
    """Refuse a folder that cannot be made or written before the training, not after it."""
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise InvalidValue(f"{folder} cannot be used: {there} is not a folder that can be written.")


def _work(
    process: RunProcess, target: Path | None, name: str | None, command: str, console: Console
) -> tuple[zoo.Card | None, Result]:
    with console.bar(0, "updates") as bar:

        def show(now: Progress) -> None:
            if now.held_out is not None:
                scores = ", ".join(f"{key} {percent(value)}" for key, value in now.held_out.items() if key != "score")
                bar.clear()
                console.say(f"epoch {now.epoch + 1}/{now.epochs}  loss {now.loss:.3f}  held-out: {scores}")
                return
            if bar.total != now.updates:  # the first update since the start, or since going on
                bar.total, bar.initial, bar.n = now.updates, now.update - 1, now.update - 1
            bar.set_postfix_str(f"epoch {now.epoch + 1}/{now.epochs}, loss {now.loss:.3f}", refresh=False)
            bar.update()

        return train(process, target, name, show, command)


def _list(key: str | None, console: Console) -> Any:
    if key is not None:
        entry = RECIPES.entry(key)
        console.say(f"{entry.key}: {entry.title}. {entry.summary}\n")
        hyper_table(entry.cls, console)
        return {"key": entry.key, "title": entry.title, "summary": entry.summary, "hyper": entry.cls().to_dict()}
    rows = [[e.key, e.title, e.paper or "-", e.cls().epochs, e.summary] for e in RECIPES]
    console.table(["recipe", "title", "papers", "epochs", "what for"], rows)
    return [{"key": e.key, "title": e.title, "paper": e.paper, "summary": e.summary} for e in RECIPES]
