"""Builds and installs guard.cpp, once per computer and torch (some seconds; needs g++)."""

from __future__ import annotations

import ctypes
import hashlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch


@cache
def library() -> ctypes.CDLL:
    """Compiled where that has not been done yet."""
    source, home = Path(__file__).with_name("guard.cpp"), Path(torch.__file__).parent
    key = hashlib.sha256(source.read_bytes() + torch.__version__.encode()).hexdigest()[:16]
    built = Path(tempfile.gettempdir()) / f"fakecuda-{os.getuid()}-{key}.so"
    if not built.exists():
        half = built.with_suffix(f".{os.getpid()}")
        abi = f"-D_GLIBCXX_USE_CXX11_ABI={int(torch._C._GLIBCXX_USE_CXX11_ABI)}"
        flags = ["-std=c++20", "-shared", "-fPIC", abi, f"-I{home}/include", f"-L{home}/lib", f"-Wl,-rpath,{home}/lib"]
        subprocess.run(["g++", *flags, str(source), "-o", str(half), "-lc10", "-ltorch_cpu"], check=True)
        half.replace(built)
    return ctypes.CDLL(str(built))


@contextmanager
def installed() -> Iterator[None]:
    """Inside, operators and backward passes on "cuda" ask no driver."""
    library().fakecuda_exchange_hooks()
    try:
        yield
    finally:
        library().fakecuda_exchange_hooks()


def current_device() -> int:
    """Of this thread, as `torch.cuda.set_device` and the guards around operators have set it."""
    return library().fakecuda_current_device()


def set_device(index: int) -> None:
    library().fakecuda_set_device(index)


def index_of(device: object = None) -> int:
    """The number of a CUDA device named in any of torch's ways; None: the current one."""
    where = (
        None if device is None else torch.device("cuda", device) if isinstance(device, int) else torch.device(device)
    )
    return current_device() if where is None or where.index is None else where.index
