"""Checkpoints, a run's state on disk: durable safetensors files, the last two kept, believed only if the checksum holds."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from explorer.core import BadCheckpoint
from explorer.core.files import write_atomically

KEPT = 2  # the newest, and the one before in case the newest is damaged
NAME = re.compile(r"(\d+)-(\d+)\.safetensors")

State = tuple[dict[str, Tensor], dict[str, Any]]


class Checkpoints:
    """The checkpoints of one run: `<finished epochs>-<updates>.safetensors` in one folder."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._good: list[Path] = []  # written or read by this process, newest last

    def save(self, epoch: int, update: int, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> Path:
        """Write one, then remove all but the last two good ones. Raises OSError; the old ones are then untouched."""
        path = self.folder / f"{epoch:04d}-{update:07d}.safetensors"
        save_state(path, tensors, facts)
        self._good = [*(one for one in self._good if one != path), path][-KEPT:]
        for other in self._found():
            if other not in self._good:
                other.unlink(missing_ok=True)
        return path

    def newest(self, say: Callable[[str], None]) -> State | None:
        """The newest one that is whole, or None if there is none; `say` is told of each damaged one that is passed over.

        Raises BadCheckpoint if all are damaged.
        """
        found = sorted(self._found(), key=_order)
        for path in reversed(found):
            try:
                state = load_state(path)
            except BadCheckpoint:
                say(f"The checkpoint {path.name} is damaged; looking for the one before it.")
                continue
            self._good = [path]
            if path != found[-1]:
                say(f"Going on from {path.name}.")
            return state
        if found:
            names = " and ".join(path.name for path in found)
            raise BadCheckpoint(
                f"No checkpoint in {self.folder} can be read: {names} {'is' if len(found) == 1 else 'are'} damaged; "
                "delete the folder to start over."
            )
        return None

    def _found(self) -> list[Path]:
        return [path for path in self.folder.glob("*.safetensors") if NAME.fullmatch(path.name)]


def save_state(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Tensors, JSON facts and a checksum of both in one safetensors file, durably. Raises OSError."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(facts)
    write_atomically(path, save(plain, metadata={"facts": text, "sha256": _digest(plain, text)}))


def load_state(path: Path) -> State:
    """What `save_state` wrote. Raises BadCheckpoint when the file is missing, truncated, changed or not one of ours."""
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            text, digest = about["facts"], about["sha256"]
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        facts = json.loads(text)
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise BadCheckpoint(f"The checkpoint {path} cannot be read ({type(error).__name__}).") from error
    if _digest(tensors, text) != digest:
        raise BadCheckpoint(f"The checkpoint {path} cannot be read (its checksum is wrong).")
    return tensors, facts


def _digest(tensors: Mapping[str, Tensor], text: str) -> str:
    """sha256 of the facts and of every tensor's name, type, shape and bytes."""
    total = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        total.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        total.update(tensor.reshape(-1).numpy().data)
    return total.hexdigest()


def _order(path: Path) -> tuple[int, int]:
    epoch, update = NAME.fullmatch(path.name).groups()  # type: ignore[union-attr]  # _found took only these
    return int(epoch), int(update)
