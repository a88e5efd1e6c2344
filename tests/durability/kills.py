"""kill -9 at random moments of a training, some while a checkpoint is being written: what is lost, and what comes of it.

A run of the real runner and the real loop, on a tiny network and the bundled sample, is killed with its whole process group
`count` times and resumed after each. After every kill: the run is there once, reads as interrupted and never as finished,
every checkpoint can be read, and the last one is at most one interval (and the updates around it) behind the last update.
At the end: every loss ever recorded, and the final weights, are bit for bit those of a run that nobody stopped.

To make hundreds of kills affordable, runs are forked from this process, which has imported torch already; from there on they
are as if `python -m explorer.jobs.runner` had been started. Planted: "writer" (a checkpoint is written in place).
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from explorer.core.errors import BadCheckpoint
from explorer.data import load, loading
from explorer.jobs import LIVE, Process, Run, Spec, State, Store
from explorer.jobs.launch import Local
from explorer.jobs.runner import main
from explorer.training import METRICS, checkpoint, export, newest, read_metrics
from explorer.training.checkpoint import load_state
from tests.durability.common import Findings, command, end_all, wait_for

EVERY = 0.02  # seconds between checkpoints: of a few updates each
UPDATES, BATCH, EPOCHS = 10, 4, 3
SPEC = Spec(
    "baseline", {"epochs": EPOCHS, "width": 4, "batch": BATCH}, device="cpu", threads=1, precision="float32", every=EVERY,
    limit=UPDATES * BATCH, smoke=True,
)  # fmt: skip
MOMENTS = ("any time", "after some updates", "while a checkpoint is written")


class Forked(Local):
    """Starts a run's process as a fork of this one."""

    children: set[int] = set()

    def start(self, folder: Path, spec: Spec) -> dict[str, Any]:
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                os.setsid()
                log = os.open(folder / "log.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
                os.dup2(log, 1)
                os.dup2(log, 2)
                code = main([str(folder)])
            finally:
                os._exit(code)
        self.children.add(pid)
        return {"process": Process.of(pid)}

    def reap(self) -> int:
        """How many of the processes still live."""
        for pid in list(self.children):
            if os.waitpid(pid, os.WNOHANG)[0] == pid:
                self.children.remove(pid)
        return len(self.children)


def prove(root: Path, count: int = 200, seed: int = 0, plant: str | None = None) -> Findings:
    found, rng = Findings(), random.Random(seed)
    undo = [*make_small(), (export, "write_features", export.write_features)]
    export.write_features = lambda *_: None  # what the Features page needs; seconds for nothing that is proved here
    if plant == "writer":
        undo.append((checkpoint, "write_atomically", checkpoint.write_atomically))
        checkpoint.write_atomically = _write_in_place
    forked = Forked()
    store = Store(root, local=forked)
    try:
        spec = SPEC.checked()
        whole = _to_the_end(store.begin(spec), forked)
        if found.check(
            whole.state.status == "finished", f"the whole run is {whole.state.status}: {whole.state.message}"
        ):
            _kill(store, spec, whole, count, rng, forked, found)
    finally:
        end_all(store.runs())
        wait_for(lambda: forked.reap() == 0)
        for place, name, value in undo:
            setattr(place, name, value)
    return found


def make_small() -> list[tuple[Any, str, Any]]:
    """The bundled test sample stands in for the training set: this proves durability, not accuracy."""
    find = loading._find
    undo = [(loading, "_find", find), (export, "CAST_IMAGES", export.CAST_IMAGES)]
    loading._find = lambda spec, split, source: find(spec, "test", "sample")
    export.CAST_IMAGES = 20
    load("cifar10", n=1)  # read once, for all forks
    return undo


def _kill(
    store: Store, spec: Spec, whole: Run, count: int, rng: random.Random, forked: Forked, found: Findings
) -> None:
    losses, weights = _losses(whole), _weights(whole)
    moments: Counter[str] = Counter()
    lost: list[float] = []
    kills, finished, runs = 0, 0, 1
    while kills < count:
        run = store.begin(spec)
        runs += 1
        while kills < count and run.tend().status in LIVE:
            moment = rng.choice(MOMENTS)
            if not _wait_for_moment(run, moment, rng, forked):
                continue  # it finished first
            try:
                os.killpg(run.stored_state().process.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue  # it ended in this very instant
            wait_for(lambda: forked.reap() == 0)
            kills += 1
            moments[moment if run.stored_state().status != "queued" else "in the queue"] += 1
            _look(store, run, runs, lost, losses, found)
            if run.state.status == "interrupted":
                run.resume()
        _to_the_end(run, forked)
        finished += 1
        found.check(run.state.status == "finished", f"run {run.id} is {run.state.status}: {run.state.message}")
        found.check(_losses(run) == losses, f"the loss curve of run {run.id} is not the uninterrupted run's")
        try:
            same = _same(_weights(run), weights)
        except BadCheckpoint as error:
            found.check(False, str(error))
        else:
            found.check(same, f"the weights of run {run.id} are not the uninterrupted run's")
        found.check(bool(run.published()), f"the model of run {run.id} is not in the zoo")
    found.facts |= {"kills": kills, **moments, "runs killed and finished": finished, "updates of a run": len(losses)}
    found.facts |= {
        "seconds between checkpoints": EVERY,
        "most seconds of training lost": round(max(lost, default=0.0), 3),
    }


def _wait_for_moment(run: Run, moment: str, rng: random.Random, forked: Forked) -> bool:
    """Wait for the moment; whether there is still something to kill."""
    pid = wait_for(lambda: run.stored_state().process or run.tend().status not in LIVE)
    if not isinstance(pid, Process):
        return False
    records, at = len(_records(run)), time.monotonic() + rng.uniform(0, 1.0)
    left = set(_half_made(run))  # by a process that was killed
    more = rng.randint(1, UPDATES)

    def come() -> bool:
        if moment == MOMENTS[0]:
            return time.monotonic() >= at
        if moment == MOMENTS[1]:
            return len(_records(run)) >= records + more
        return bool(set(_half_made(run)) - left) or _half_written(run)

    wait_for(lambda: forked.reap() == 0 or come(), every=0.001)
    return forked.reap() == 1


def _half_made(run: Run) -> list[Path]:
    """What a checkpoint is written into before it gets its name."""
    return list((run.folder / "checkpoints").glob(".*.tmp"))


def _half_written(run: Run) -> bool:
    """Whether a checkpoint is being written in place (the planted fault)."""
    return checkpoint.write_atomically is _write_in_place and any(
        (run.folder / "checkpoints").glob("*.safetensors.now")
    )


def _write_in_place(path: Path, data: bytes) -> None:
    """The planted fault: what a naive `torch.save(path)` does, slowly enough to be seen."""
    sign = path.with_name(f"{path.name}.now")
    with open(path, "wb") as file:
        file.write(data[: len(data) // 2])
        file.flush()
        sign.touch()
        time.sleep(0.1)
        file.write(data[len(data) // 2 :])
    sign.unlink()


def _look(store: Store, run: Run, runs: int, lost: list[float], losses: dict[int, float], found: Findings) -> None:
    """After a kill: what must be true whenever it came."""
    waited = run.stored_state().status == "queued"  # then it is started again at once
    there = store.tend()
    state: State = run.state
    found.check(len(there) == runs, f"{runs} runs were begun, {len(there)} are there")
    whole = state.status == "finished"
    allowed = ("queued", "running") if waited else ("interrupted", "finished")
    found.check(state.status in allowed, f"a killed run is {state.status}: {state.message}")
    good = []
    for path in sorted((run.folder / "checkpoints").glob("*.safetensors")):
        try:
            good.append(load_state(path)[1]["state"])
        except BadCheckpoint as error:
            found.check(False, str(error))
    records = [record for record in _records(run) if record.get("kind") == "update"]
    for record in records:
        ok = record["loss"] == losses.get(record["update"])
        found.check(
            ok, f"update {record['update']} has the loss {record['loss']}, without kills {losses.get(record['update'])}"
        )
    current = [record for record in newest(_records(run)) if record["kind"] == "update"]
    if current:
        saved = max((state["seconds"] for state in good), default=0.0)
        durations = [b["seconds"] - a["seconds"] for a, b in zip([{"seconds": 0.0}, *current], current, strict=False)]
        loss = current[-1]["seconds"] - saved
        lost.append(loss)
        limit = EVERY + 3 * max(durations) + 0.01  # the updates around the interval, and the records' rounding
        found.check(loss <= limit, f"{loss:.3f} s of training were lost, more than {limit:.3f} s")
    if whole:
        found.check(len(newest(_records(run))) >= len(losses), "a run reads as finished before its last update")


def _to_the_end(run: Run, forked: Forked) -> Run:
    wait_for(lambda: forked.reap() == 0 and run.tend().status not in LIVE, every=0.05)
    if run.state.status == "interrupted":
        run.resume()
        wait_for(lambda: forked.reap() == 0 and run.tend().status not in LIVE, every=0.05)
    return run


def _records(run: Run) -> list[dict[str, Any]]:
    return read_metrics(run.folder / METRICS)[0]


def _losses(run: Run) -> dict[int, float]:
    """Update to loss; JSON keeps every bit of a float."""
    return {record["update"]: record["loss"] for record in newest(_records(run)) if record["kind"] == "update"}


def _weights(run: Run) -> dict[str, torch.Tensor]:
    """All of the last checkpoint: model, average, momentum, generator."""
    return load_state(max((run.folder / "checkpoints").glob("*.safetensors")))[0]


def _same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(command(prove, __doc__, 200, ["writer"]))
