"""Which device computes, and what it is called."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

import torch

from explorer.core import InvalidValue

DEVICES = ("auto", "cpu", "cuda", "mps")


def choose(name: str = "auto") -> torch.device:
    """The device of this name; "auto" takes CUDA, else MPS, else the CPU. Raises InvalidValue if it is not there.

    "cuda:1" is the second GPU.
    """
    kind, colon, index = str(name).partition(":")
    if kind not in DEVICES or (colon and (kind != "cuda" or not index.isdecimal())):
        raise InvalidValue(f"device must be one of {', '.join(DEVICES)}; got {name!r}.")
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = kind = next(kind for kind, there in present.items() if there)
    if not present[kind] or (index and int(index) >= torch.cuda.device_count()):
        others = " or ".join(kind for kind, there in present.items() if there)
        raise InvalidValue(f"device {name!r} is not there, as PyTorch sees this computer: choose auto or {others}.")
    return torch.device(name)


def computes_bfloat16(device: torch.device) -> bool:
    """Whether it multiplies in bfloat16 by itself. What only imitates it (many laptops' CPUs) is slower there than in float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        has = torch.cpu.get_capabilities()
        return bool(any(has.get(unit) for unit in ("avx512_bf16", "amx_bf16", "bf16")))  # the last is ARM's
    return False


def cores() -> int:
    """How many CPU cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def describe(device: torch.device, threads: int | None = None) -> str:
    """For people: "CPU, 2 threads" or "NVIDIA H200"."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "mps":
        return "Apple GPU (MPS)"
    threads = threads or torch.get_num_threads()
    return f"CPU, {threads} thread{'' if threads == 1 else 's'}"


def hardware_name(device: torch.device, processes: int = 1) -> str:
    """What a time measured here refers to: "NVIDIA ..., 1 GPU" or "<CPU model>, 2 cores"."""
    if processes > 1:
        return f"{processes} processes, each on {hardware_name(device)}"
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, 1 GPU"
    count = cores()
    chip = f"{_cpu_name()}, {count} core{'' if count == 1 else 's'}"
    return f"{chip}, GPU through {device.type}" if device.type != "cpu" else chip


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(errors="replace"), re.MULTILINE)
        if found:
            return found.group(1).strip()
    return platform.processor() or platform.machine()
