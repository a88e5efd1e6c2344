"""All tests: one torch thread, no network beyond this computer, repeatable examples, caches in a temporary folder."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the servers and commands that tests start
os.environ.setdefault("EXPLORER_THREADS", "1")  # two on two busy cores wait for each other
torch.set_num_threads(1)
torch.get_num_threads()  # settles this thread's number: unasked, it would later take up what another thread has set
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

HERE = ("127.0.0.1", "localhost", "::1", "", None)


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What tests compute or download never mixes with the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("EXPLORER_CACHE", str(folder))
        patch.setenv("EXPLORER_RUNS", str(folder / "runs"))
        yield folder


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
