"""Several processes of one run, as torchrun would start them.

They are forked from one that has imported torch and nothing else has happened in, so that each costs little.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

LIMIT = 120.0  # seconds until a run counts as hanging; far above what a slow machine needs

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["torch", "explorer.evaluation"])


@dataclass(frozen=True)
class Ended:
    code: int  # the process's exit code; 0 where the function returned
    answer: Any  # what it returned
    after: float  # seconds after the first process of the run ended


def torchrun_environment(world: int = 2) -> list[dict[str, str]]:
    """What each rank would find in its environment, with a port that was free a moment ago."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(world), "GLOO_SOCKET_IFNAME": "lo"}
    return [shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(world)]


def together(function: Callable[..., Any], *given: Any, world: int = 2, **environment: str) -> list[Ended]:
    """Calls a module's function in `world` processes, each told its rank; how each ended, in the order of ranks."""
    runs, answers = [], []
    for place in torchrun_environment(world):
        receiver, sender = _context.Pipe(duplex=False)
        run = _context.Process(
            target=_call, args=(sender, os.environ | place | environment, function, given), daemon=True
        )
        run.start()
        sender.close()
        runs.append(run)
        answers.append(receiver)
    try:
        began, ends = time.monotonic(), {}
        found: dict[int, Any] = {}
        while len(ends) < world and time.monotonic() - began < LIMIT:
            for rank, receiver in enumerate(answers):  # read before the end: a pipe holds little
                if rank not in found and receiver.poll():
                    found[rank] = _received(receiver)
            for rank, run in enumerate(runs):
                if rank not in ends and run.exitcode is not None:
                    ends[rank] = time.monotonic()
            wait([run.sentinel for rank, run in enumerate(runs) if rank not in ends], timeout=0.05)
        assert len(ends) == world, f"of {world} ranks only {sorted(ends)} ended within {LIMIT:.0f} s"
        first = min(ends.values())
        return [
            Ended(run.exitcode, found[rank] if rank in found else _received(answers[rank]), ends[rank] - first)
            for rank, run in enumerate(runs)
        ]
    finally:
        for run in runs:
            run.kill()
            run.join()


def _received(receiver: Connection) -> Any:
    try:
        return receiver.recv()
    except EOFError:  # it ended without an answer
        return None


def _call(sender: Connection, environment: dict[str, str], function: Callable[..., Any], given: tuple) -> None:
    import torch

    os.environ.clear()  # it is that of the first run
    os.environ.update(environment)
    torch.set_num_threads(1)
    sender.send(function(*given))
