"""Freed memory stays with the process, in any of its threads; who has settings of their own keeps them."""

import os
import platform
import subprocess
import sys

import pytest

from explorer.core import memory

GLIBC = platform.libc_ver()[0] == "glibc"
TAKEN = 10 * 92 * 2**20  # bytes, by PASSES
# Pages that the system had to map anew while 92 MiB were taken and given back ten times, by a thread begun before the call.
PASSES = """
import resource, sys, threading
import torch
from explorer.core.memory import keep_freed_memory

def work():
    go.wait()
    for _ in range(3): held = [torch.ones(2**k) for k in (20, 21, 22, 23, 23)]; del held
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10): held = [torch.ones(2**k) for k in (20, 21, 22, 23, 23)]; del held
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

go = threading.Event()
thread = threading.Thread(target=work)
thread.start()
print(keep_freed_memory() if sys.argv[1] == "kept" else None)
go.set()
thread.join()
"""


def passes(how, **env):
    """What the call said, and the pages that were mapped anew."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_") and k != "GLIBC_TUNABLES"}
    done = subprocess.run(
        [sys.executable, "-c", PASSES, how], env=clean | env, capture_output=True, text=True, check=True
    )
    said, pages = done.stdout.split()
    return said, int(pages)


@pytest.mark.skipif(not GLIBC, reason="this computer's C library is another one")
def test_what_was_freed_is_taken_again_without_asking_the_system():
    pages = TAKEN // os.sysconf("SC_PAGE_SIZE")
    assert passes("default")[1] > pages / 4
    said, again = passes("kept")
    assert said == "True"
    assert again < pages / 20


@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"])
def test_settings_of_the_environment_stand(name, monkeypatch):
    monkeypatch.setenv(name, "1")
    assert memory.keep_freed_memory() is False


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    for name in [name for name in os.environ if name.startswith("MALLOC_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: object())
    assert memory.keep_freed_memory() is False
