"""Devices: which one computes (CPU, CUDA, MPS), what it is called, its memory, and float32 that is float32 (no TF32)."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

import torch

from explorer.core import InvalidValue

DEVICES = ("auto", "cpu", "cuda", "mps")  # and cuda:1 for the second GPU


def choose(name: str = "auto") -> torch.device:
    """The device of this name; "auto" takes CUDA, else MPS, else the CPU. Raises InvalidValue if it is not there.

    "cuda:1" is the second GPU. On CUDA, float32 then is float32, and repeatable, in this process (`exact_float32`).
    """
    kind, colon, index = str(name).partition(":")
    if kind not in DEVICES or (colon and (kind != "cuda" or not index.isdecimal())):
        raise InvalidValue(f"device must be one of {', '.join(DEVICES)}, or cuda:1 for the second GPU; got {name!r}.")
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = kind = next(kind for kind, there in present.items() if there)
    if not present[kind] or (index and int(index) >= torch.cuda.device_count()):
        others = " or ".join(kind for kind, there in present.items() if there)
        raise InvalidValue(f"device {name!r} is not there, as PyTorch sees this computer: choose auto or {others}.")
    if kind == "cuda":
        exact_float32()
    return torch.device(name)


def exact_float32() -> None:
    """CUDA computes float32 in float32, not in TF32 with its 10 bits of mantissa, and by kernels that repeat their bits.

    PyTorch's default is TF32 in convolutions: what a card or a certificate calls float32 would not be. For this process.
    """
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False


def free_memory(device: torch.device) -> tuple[int, int] | None:
    """Bytes of a GPU's memory that are free, for all processes, and that there are; None for any other device."""
    return torch.cuda.mem_get_info(device) if device.type == "cuda" else None


def release_memory() -> None:
    """Give back to the GPU what PyTorch has kept of freed tensors, so that other processes may have it."""
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()


def answers(device: torch.device) -> bool:
    """Whether the device still computes: after an illegal access, say, every call to CUDA fails until the process ends."""
    try:
        return int(torch.ones(1, device=device).sum()) == 1
    except RuntimeError:
        return False


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


def hardware_name(device: torch.device, processes: int = 1, threads: int | None = None) -> str:
    """What a time measured here refers to: "NVIDIA ..., 1 GPU" or "<CPU model>, 2 cores"; "1 of 2 cores" where the CPU
    computes with fewer threads (None: torch's number now)."""
    used = threads or torch.get_num_threads()
    return _named(device, processes, f"{used} of " if used < cores() and device.type == "cpu" else "")


def computer_name(device: torch.device, processes: int = 1) -> str:
    """As `hardware_name`, however many threads compute."""
    return _named(device, processes, "")


def _named(device: torch.device, processes: int, share: str) -> str:
    if processes > 1:
        return f"{processes} processes, each on {_named(device, 1, share)}"
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, 1 GPU"
    count = cores()
    chip = f"{_cpu_name()}, {share}{count} core{'' if count == 1 else 's'}"
    return f"{chip}, GPU through {device.type}" if device.type != "cpu" else chip


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(errors="replace"), re.MULTILINE)
        if found:
            return found.group(1).strip()
    return platform.processor() or platform.machine()
