"""kill -9 at random moments of a run that measures: no finished cell is measured twice, and the table is that of a run left alone.

A certification, or with `prove_evaluation` an evaluation (clean, and PGD at two values of eps), by the real runner, of a few
pictures, is killed with its whole process group `count` times and resumed after each. After every kill: the run is there, reads
as interrupted and never as finished, and what it has noted can be read. At the end: every cell was noted once, and the
table is bit for bit that of a run that nobody stopped.

Runs are forked from this process, as in `kills.py`. Planted: "amnesia" (a run that goes on does not look at what is there).
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch

from explorer.jobs import LIVE, Run, Spec, Store, measuring
from explorer.jobs.measuring import result
from tests.durability.common import Findings, command, end_all, wait_for
from tests.durability.kills import Forked

MODEL, CELLS = "cifar10/lenet", 12  # both kinds have so many cells
CERTIFY = {"model": MODEL, "images": CELLS, "n0": 20, "n": 1000, "seed": 1}
PGD = [{"name": "pgd", "hyper": {"steps": 40}}]
EVALUATE = {"model": MODEL, "attacks": PGD, "eps": ["4/255", "8/255"], "images": 100, "batch": 25, "seed": 1}
SETTINGS = {"certify": CERTIFY, "evaluate": EVALUATE}
MOMENTS = ("any time", "after some cells")


def prove(root: Path, count: int = 50, seed: int = 0, plant: str | None = None, kind: str = "certify") -> Findings:
    found, rng, cells = Findings(), random.Random(seed), measuring._cells
    forked, spec = Forked(), Spec(kind=kind, settings=SETTINGS[kind], device="cpu", threads=1).checked()
    whole_store, store = Store(root / "whole", local=forked), Store(root / "killed", local=forked)
    try:
        whole = _ended(whole_store.begin(spec), forked)
        found.check(whole.state.status == "finished", f"the whole run is {whole.state.status}: {whole.state.message}")
        if plant == "amnesia":
            measuring._cells = lambda folder, number: ({}, {})
        kills, runs = 0, 0
        while kills < count:
            run = store.begin(spec)
            runs += 1
            kills += _kill(run, count - kills, rng, forked, found)
            _ended(run, forked)
            _look_at_the_end(run, whole, cells, found)
            run.delete()  # or the next one would take over what it has measured
        found.facts |= {"kills": kills, "runs killed and finished": runs, "cells": CELLS, "kind": kind}
    finally:
        end_all([*store.runs(), *whole_store.runs()])
        wait_for(lambda: forked.reap() == 0)
        measuring._cells = cells
    return found


prove_evaluation = partial(prove, kind="evaluate")


def _kill(run: Run, count: int, rng: random.Random, forked: Forked, found: Findings) -> int:
    """Kill it at most so often, each time after it has noted some cells more, or at any moment; how often it was."""
    kills = 0
    while kills < count and run.tend().status in LIVE:
        more, at = len(_noted(run)) + rng.randint(2, 4), time.monotonic() + rng.uniform(0.2, 1.5)
        if rng.choice(MOMENTS) == MOMENTS[0]:
            wait_for(lambda at=at: forked.reap() == 0 or time.monotonic() > at, every=0.001)
        else:
            wait_for(lambda more=more: forked.reap() == 0 or len(_noted(run)) >= more, every=0.001)
        process = run.stored_state().process
        if forked.reap() == 0 or process is None:
            break
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:  # it ended in this very instant
            break
        wait_for(lambda: forked.reap() == 0)
        kills += 1
        state = run.refresh()
        found.check(state.status != "finished" or len(_noted(run)) >= CELLS, "a run reads as finished before its end")
        found.check(state.status in ("interrupted", "queued", "finished"), f"a killed run is {state.status}")
        result(run)  # raises where it cannot be read
        if state.status == "interrupted":
            run.resume()
    return kills


def _ended(run: Run, forked: Forked) -> Run:
    wait_for(lambda: forked.reap() == 0 and run.tend().status not in LIVE, every=0.02)
    return run


def _look_at_the_end(run: Run, whole: Run, cells: Any, found: Findings) -> None:
    found.check(run.state.status == "finished", f"run {run.id} is {run.state.status}: {run.state.message}")
    noted = _noted(run)
    twice = len(noted) - len({*noted})
    found.check(twice == 0, f"{twice} finished cells were measured twice")
    found.check(len({*noted}) == CELLS, f"{len({*noted})} of {CELLS} cells were measured")
    questions = range(len([*(whole.folder / "cells").iterdir()]))
    same = all(cells(run.folder, number) == cells(whole.folder, number) for number in questions)
    found.check(same, f"the table of run {run.id} is not that of the run that nobody stopped")


def _noted(run: Run) -> list[tuple[str, int]]:
    """Each cell that is noted, as the file of its question and its index."""
    found = []
    for path in sorted((run.folder / "cells").glob("*.jsonl")):
        found += [(path.name, json.loads(line)["index"]) for line in path.read_bytes().split(b"\n")[1:-1]]
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    both = [command(each, __doc__, 50, ["amnesia"]) for each in (prove, prove_evaluation)]
    sys.exit(max(both))
