"""The log of a run: checkpoints, metrics, TensorBoard events and previews in its folder; a full disk is waited for."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from explorer.core import BadCheckpoint, ExplorerError
from explorer.training.checkpoint import Checkpoints
from explorer.training.metrics import METRICS, Metrics
from explorer.training.preview_file import PREVIEWS, EpochPreview, write_preview
from explorer.training.state import RunState
from explorer.training.tensorboard import TensorBoard
from explorer.training.watched import BoundarySlice, TapeColumn

CHECKPOINTS = "checkpoints"
EVENTS = "tensorboard"
FULL = (errno.ENOSPC, errno.EDQUOT)

T = TypeVar("T")


class RunLog:
    """The files of one run in `folder`. Only a process that `writes` writes; what must not be lost goes through `_durably`."""

    def __init__(
        self, folder: Path, on_full: Callable[[OSError], None] | None, say: Callable[[str], None], writes: bool = True
    ):
        self.folder, self.on_full, self.say, self.writes = folder, on_full, say if writes else _to_nobody, writes
        self.checkpoints = Checkpoints(folder / CHECKPOINTS)
        self.metrics: Metrics | None = None
        self.tensorboard = TensorBoard(folder / EVENTS, self.say)

    def sweep(self) -> None:
        """Make the folders, and remove what a killed process left half-written. Only while nobody else writes here."""
        self._durably(self._sweep)

    def restore(self, state: RunState, identity: dict[str, Any]) -> None:
        """Put `state` where the newest checkpoint left it; without one it stays as it is. Raises BadCheckpoint."""
        found = self.checkpoints.newest(self.say)
        if found is None:
            return
        tensors, facts = found
        kept = facts.get("identity")
        if not isinstance(kept, dict) or kept != identity:
            raise BadCheckpoint(
                f"The folder {self.folder} holds a run of another recipe or other values{_difference(kept, identity)}; "
                "choose another."
            )
        try:
            same = state.restore(tensors, facts["state"])
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise BadCheckpoint(
                f"The checkpoint in {self.folder} does not fit this version's models ({type(error).__name__}); "
                "delete the folder to start over."
            ) from error
        if not same:
            self.say("The run goes on on another kind of device than before: from here on its random draws are others.")

    def start(self, update: int, epoch: int, **planned: int) -> None:
        """From here on the run's records follow, whatever stands before; what is `planned` is told once, here."""
        if not self.writes:
            return
        self.metrics = self._durably(lambda: Metrics(self.folder / METRICS))
        self.tensorboard.start(update)
        self._add({"kind": "start", "update": update, "epoch": epoch, **planned})

    def update(
        self, update: int, epoch: int, loss: float, rate: float, speed: float, seconds: float, memory: int | None
    ) -> None:
        if not self.writes:
            return
        numbers = {"loss": loss, "learning_rate": rate, "images_per_second": round(speed, 2)}
        self._add(
            {
                "kind": "update",
                "update": update,
                "epoch": epoch,
                **numbers,
                "seconds": round(seconds, 3),
                "memory": memory,
            }
        )
        self.tensorboard.add(update, numbers)

    def slice(self, found: BoundarySlice, seconds: float) -> None:
        if self.writes:
            self._add(found.record() | {"seconds": round(seconds, 4)})

    def epoch(self, update: int, entry: dict[str, Any], tape: Mapping[str, Tensor]) -> None:
        """The scores, and of which images they are."""
        if not self.writes:
            return
        if tape:
            masks = {name: mask.cpu().numpy() for name, mask in tape.items()}
            self._add(TapeColumn(entry["epoch"], masks["clean"], masks.get("robust")).record(update))
        self._add({"kind": "epoch", "update": update, **entry})
        other = ("epoch", "loss", "seconds", "remark")
        scores = {f"held_out/{name}": value for name, value in entry.items() if name not in other}
        self.tensorboard.add(update, {"epoch_loss": entry["loss"], **scores})

    def preview(self, epoch: int, preview: EpochPreview) -> None:
        self._durably(lambda: write_preview(self.folder, epoch, preview))

    def checkpoint(self, state: RunState, update: int, identity: dict[str, Any]) -> None:
        """After the metrics of all it holds, so that none is lost with a kill in between."""
        if self.metrics is not None:
            self._durably(self.metrics.sync)
        self.tensorboard.flush()
        facts = {"identity": identity, "state": state.facts()}
        self._durably(lambda: self.checkpoints.save(state.epoch, update, state.tensors(), facts))

    def close(self) -> None:
        if self.metrics is not None:
            self.metrics.close()
        self.tensorboard.close()

    def _add(self, record: dict[str, Any]) -> None:
        if self.metrics is not None:
            self._durably(partial(self.metrics.add, record))

    def _sweep(self) -> None:
        for folder in (self.folder, self.folder / CHECKPOINTS, self.folder / PREVIEWS):
            folder.mkdir(parents=True, exist_ok=True)
            for leftover in folder.glob(".*.tmp"):
                leftover.unlink(missing_ok=True)

    def _durably(self, write: Callable[[], T]) -> T | None:
        """`write`, again and again while the disk is full and `on_full` has patience."""
        while self.writes:
            try:
                return write()
            except OSError as error:
                if error.errno in FULL and self.on_full is not None:
                    self.on_full(error)
                    continue
                reason = error.strerror or type(error).__name__
                raise ExplorerError(
                    f"{self.folder} cannot be written ({reason}); the run can go on from its last checkpoint."
                ) from error
        return None


def _to_nobody(sentence: str) -> None:
    """What the processes that do not write have to say."""


def _difference(kept: Any, asked: dict[str, Any]) -> str:
    if not isinstance(kept, dict):
        return ""
    words = [
        f"{name} {kept.get(name)!r} there, {value!r} here" for name, value in asked.items() if kept.get(name) != value
    ]
    return f" ({'; '.join(words[:3])})" if words else ""
