"""Pytest plugin: a test that leaves a process behind fails, and the process is ended.

A process belongs to the tests if it descends from the one that runs them, or, having lost its parents, carries the mark
in its environment. Whatever belongs to the session (a server, a browser: `kept_processes`) may stay until its end, with
what it has started.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

import psutil
import pytest

MARK = "EXPLORER_TEST_PROCESS"  # in the environment of all that tests start: the number of the process that runs them
LEAVE_S = 5.0  # seconds for what is ending already
HELPERS = ("resource_tracker import main", "multiprocessing.forkserver import main")  # Python's own, one for all tests


@pytest.fixture(autouse=True, scope="session")
def kept_processes() -> Iterator[set[int]]:
    """Numbers of processes that outlive the test which started them; by the end of the session they are gone, too."""
    before = set(psutil.pids())
    kept: set[int] = set()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(MARK, str(os.getpid()))
        yield kept
    refuse(left_since(before))


@pytest.fixture(autouse=True)
def no_process_left(kept_processes: set[int]) -> Iterator[None]:
    before = set(psutil.pids())
    yield
    refuse(left_since(before, kept_processes))


def left_since(before: set[int], kept: Iterable[int] = ()) -> list[psutil.Process]:
    """The tests' own processes that were not there before, and live on after a moment."""
    new = [process for pid in set(psutil.pids()) - before if (process := _ours(pid, set(kept))) is not None]
    return psutil.wait_procs(new, LEAVE_S)[1]


def _ours(pid: int, kept: set[int]) -> psutil.Process | None:
    """The process, unless it has ended, is Python's own helper, or is (or descends from) one that is kept."""
    me = os.getpid()
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        line = [pid, *(parent.pid for parent in process.parents())]
        if me not in line:
            return process if process.environ().get(MARK) == str(me) else None
        helper = line[1] == me and any(name in " ".join(process.cmdline()) for name in HELPERS)
        return None if helper or kept.intersection(line[: line.index(me)]) else process
    except psutil.Error:  # it has ended, or is somebody else's
        return None


def refuse(left: list[psutil.Process]) -> None:
    """End them, and fail."""
    said = [f"{process.pid}: {' '.join(process.cmdline())[:200]}" for process in left if process.is_running()]
    for process in left:
        if process.is_running():
            process.kill()
    if said:
        pytest.fail("left behind: " + "; ".join(said), pytrace=False)
