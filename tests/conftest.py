"""All tests: on the CPU, by one torch thread, no network beyond this computer, repeatable examples, caches in a temporary
folder, and no process left behind. (What happens on a GPU is asked of an impersonated one: tests/fakecuda.)

The whole suite is shared by a process for each core; tests that are named (`pytest tests/core`) run in this one. A file's
tests stay together, and so do all those that are `ALONE`.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

from explorer.core.device import cores
from tests.leaks import kept_processes, no_process_left  # noqa: F401  # the fixtures

os.environ["CUDA_VISIBLE_DEVICES"] = ""  # where there is a GPU the same tests compute on the CPU, too
os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the servers and commands that tests start
os.environ.setdefault("EXPLORER_THREADS", "1")  # two on two busy cores wait for each other
torch.set_num_threads(1)
torch.get_num_threads()  # settles this thread's number: unasked, it would later take up what another thread has set
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

MOST_PROCESSES = 4  # what is ALONE, one after the other, takes longer than a fourth of the suite
# What times something, or starts several processes: never beside another such test.
ALONE = (
    "tests/browser/",
    "tests/durability/",
    "tests/jobs/",
    "tests/engine/test_certifying.py",
    "tests/engine/test_engine.py",
    "tests/engine/test_mapmaking.py",
    "tests/engine/test_stopping.py",
    "tests/certify/test_sharded.py",
    "tests/cli/test_together.py",
    "tests/core/test_ranks.py",
    "tests/evaluation/test_sharded.py",
    "tests/training/test_ddp.py",
)

HERE = ("127.0.0.1", "localhost", "::1", "", None)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """How many processes share the tests; 0: this one runs them itself."""
    everything = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    return min(cores(), MOST_PROCESSES) if everything else 0


class Shares(LoadFileScheduling):
    """Which tests one process takes in a row."""

    def _split_scope(self, nodeid: str) -> str:
        return "alone" if nodeid.startswith(ALONE) else super()._split_scope(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Shares:
    return Shares(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is alone comes first, as it takes longest."""
    items.sort(key=lambda item: not item.nodeid.startswith(ALONE))


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What tests compute or download never mixes with the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("EXPLORER_CACHE", str(folder))
        patch.setenv("EXPLORER_RUNS", str(folder / "runs"))
        yield folder


@pytest.fixture(autouse=True)
def own_priority() -> Iterator[None]:
    """A test that lowers this process's priority would slow down all after it: back up only root may go."""
    before = priority()
    yield
    assert priority() == before, "the test has changed the priority of the process that runs the tests"


def priority() -> int | None:
    return os.getpriority(os.PRIO_PROCESS, 0) if hasattr(os, "getpriority") else None


@pytest.fixture(autouse=True, scope="session")
def no_network() -> Iterator[None]:
    """A connection to another computer fails at once, with this reason."""
    connect, resolve = socket.socket.connect, socket.getaddrinfo

    def checked_connect(self: socket.socket, address: object) -> None:
        if isinstance(address, tuple) and address[0] not in HERE:
            raise OSError(f"tests may not use the network; asked for {address[0]}")
        connect(self, address)

    def checked_resolve(host: object, *rest: object, **options: object) -> list:
        if host not in HERE:
            raise OSError(f"tests may not use the network; asked for {host}")
        return resolve(host, *rest, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", checked_connect)
        patch.setattr(socket, "getaddrinfo", checked_resolve)
        yield
