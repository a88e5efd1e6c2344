"""Converting weights: a checkpoint in any usual form (.pth, .pt, .bin, .ckpt, safetensors) as tensors by their names.

It reads pickles (`weights_only=True`, which has had holes), so it runs in a confined process only: `confined.convert`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

NESTS = (
    "state_dict",
    "model_state_dict",
    "model",
    "net",
    "network",
    "ema",
    "ema_state_dict",
    "module",
    "params",
    "weights",
)
PREFIXES = ("module.", "model.", "net.", "_orig_mod.", "network.", "backbone.")
DEEPEST = 4


class Unreadable(Exception):
    """Why not, as the end of a sentence that begins with the file's name."""


def read(path: Path, wanted: Collection[str] | None = None) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors of a file, and in words what was done to them. Raises Unreadable.

    `wanted`: the names of the state_dict that they are for; counters it has and the file lacks are filled, and a prefix is stripped only
    where the names fit without it.
    """
    found = _unpickled(path)
    notes: list[str] = []
    for _ in range(DEEPEST):
        if not isinstance(found, Mapping):
            raise Unreadable(f"holds {type(found).__name__}, not tensors by their names.")
        inner = next((name for name in NESTS if isinstance(found.get(name), Mapping)), None)
        if inner is None:
            break
        left_out = [str(name) for name in found if name != inner]
        notes.append(f"unpacked {inner!r}" + (f", left out {', '.join(left_out[:6])}" if left_out else ""))
        found = found[inner]
    tensors = {str(name): value.detach() for name, value in found.items() if isinstance(value, Tensor)}
    if extras := [str(name) for name in found if str(name) not in tensors]:
        notes.append(f"left out {', '.join(extras[:6])}")
    if not tensors:
        raise Unreadable("holds no tensors by their names.")
    return _fitted(_plain(tensors, notes), wanted, notes), notes


def _unpickled(path: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load

    data = path.read_bytes()
    try:
        return load(data)
    except (SafetensorError, KeyError):
        start = data[:512].lstrip().lower()
    if not data:
        raise Unreadable("is empty.")
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise Unreadable("is a web page, not weights: download the file itself.")
    if start.startswith(b"version https://git-lfs"):
        raise Unreadable("is a pointer of Git LFS, not weights: run `git lfs pull`.")
    if not data.startswith((b"PK\x03\x04", b"\x80")):  # a zip archive, as torch.save writes it; a bare pickle
        raise Unreadable("is damaged or no file of weights.")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # on damaged or hostile files torch raises nearly anything
        if "weights_only" in str(error).lower() or "unsupported" in str(error).lower():
            raise Unreadable(
                "holds more than tensors (whole objects, whose reading would run code): save its state_dict."
            ) from error
        raise Unreadable("is damaged or no file of weights.") from error


def _plain(tensors: Mapping[str, Tensor], notes: list[str]) -> dict[str, Tensor]:
    """Dense tensors of types that arrays have."""
    found = {}
    for name, tensor in tensors.items():
        if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_complex():
            raise Unreadable(f"holds {name!r}, which is sparse, quantized or complex.")
        found[name] = tensor.float() if tensor.dtype is torch.bfloat16 else tensor
    if any(tensor.dtype is torch.bfloat16 for tensor in tensors.values()):
        notes.append("bfloat16 became float32")
    return found


def _fitted(tensors: dict[str, Tensor], wanted: Collection[str] | None, notes: list[str]) -> dict[str, Tensor]:
    for _ in range(DEEPEST):
        prefix = next((p for p in PREFIXES if all(name.startswith(p) for name in tensors)), None)
        if prefix is None or (wanted is not None and tensors.keys() & set(wanted)):
            break
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
        notes.append(f"stripped the prefix {prefix!r}")
    counters = [name for name in wanted or () if name.endswith("num_batches_tracked") and name not in tensors]
    if wanted is None:  # beside each running mean
        means = [name.removesuffix("running_mean") for name in tensors if name.endswith("running_mean")]
        counters = [f"{stem}num_batches_tracked" for stem in means if f"{stem}num_batches_tracked" not in tensors]
    if counters:
        notes.append(f"filled {len(counters)} counter{'s' * (len(counters) > 1)} (num_batches_tracked) with 0")
    tensors |= {name: torch.zeros((), dtype=torch.int64) for name in counters}
    if wanted is not None and (extra := sorted(tensors.keys() - set(wanted))):
        spare = [name for name in extra if name.rpartition(".")[2] in ("total_ops", "total_params")]
        if spare:
            notes.append(f"left out {', '.join(spare[:6])}")
        tensors = {name: tensor for name, tensor in tensors.items() if name not in spare}
    return tensors
