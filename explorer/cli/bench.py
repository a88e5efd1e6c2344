"""Measure what attacks cost on this computer: PGD-20 beside a bare loop of the passes it cannot do without.

  python -m explorer bench
  python -m explorer bench cifar10/pgd-linf --repeats 15

The times mean something only while nothing else computes; the load before and after stands beside them.
"""

from __future__ import annotations

import argparse
from typing import Any

from explorer.cli._console import Console, whole
from explorer.engine import choose
from explorer.evaluation import bench
from explorer.models import zoo


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help="which model (default: an untrained PreAct ResNet-18 of width 32)")
    parser.add_argument("--repeats", default="7", help="how often each is timed; the median counts (default: %(default)s)")


def run(options: argparse.Namespace, console: Console) -> Any:
    repeats = whole("repeats", options.repeats, 1, 1000)
    if options.name is not None:
        zoo.card(options.name)
    with console.bar(0, "repeats") as bar:

        def show(stage: str, done: int, total: int) -> None:
            bar.set_description_str(stage, refresh=False)
            bar.total = total
            bar.update(done - bar.n)

        rows = bench(options.name, device=choose(options.device), repeats=repeats, progress=show)
    first = rows[0]
    console.say(f"{first['model']} on {first['device']}, {first['threads']} threads, torch {first['torch']}, {repeats} repeats")
    for row in rows:
        console.say(f"{row['what']}, batch {row['batch']}: {_numbers(row)}; load {_load(row['load'])}")
    return rows


def _numbers(row: dict[str, Any]) -> str:
    if "ratio" not in row:
        return f"{row['walk_seconds']:.3f} s, the first step after {row['first_step_seconds']:.3f} s"
    low, high = row["ratio_range"]
    goal = "" if row["target"] is None else f", at most {row['target']:.2f} is wanted"
    times = f"{row['pgd_seconds']:.3f} s to {row['bare_seconds']:.3f} s"
    return f"{row['ratio']:.3f} times ({low:.3f} to {high:.3f}; {times}{goal})"


def _load(pair: list[float | None]) -> str:
    return "unknown" if None in pair else f"{pair[0]:g} before, {pair[1]:g} after"
