"""Engine: the device's owner, that is the models in memory and the scheduler of all work on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import torch
from torch import Tensor

from explorer.core import Classifier, InvalidValue
from explorer.core.device import choose, cores, describe
from explorer.engine.model_cache import MapsWork, ModelCache, UploadCache
from explorer.engine.scheduler import Future, Scheduler

T = TypeVar("T")

DEADLINE_S = 120.0  # seconds of computing for one job; waiting for others does not count


class Engine:
    """The device's owner. `threads`: CPU threads of its worker, None for all cores."""

    def __init__(self, device: str = "auto", threads: int | None = None, deadline: float = DEADLINE_S) -> None:
        if threads is not None and not (isinstance(threads, int) and 1 <= threads <= 1024):
            raise InvalidValue(f"threads must be a whole number in [1, 1024]; got {threads!r}.")
        self.device = choose(device)
        self._scheduler = Scheduler(threads or cores(), deadline)
        self._models, self._uploads = ModelCache(self.device), UploadCache()
        if self.device.type == "cuda":  # the same request gives the same bits, and full float32
            torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
            torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False

    @property
    def threads(self) -> int:
        """CPU threads of the worker."""
        return self._scheduler.threads

    @property
    def deadline(self) -> float:
        """Seconds of computing for a job that names none."""
        return self._scheduler.deadline

    @property
    def description(self) -> str:
        """The device, for people."""
        return describe(self.device, self.threads)

    def model(self, name: str) -> Classifier:
        """The model of this name, loaded once, frozen; shared by everybody, so never change it.

        Loaded anew if its card names other weights than before. Raises UnknownName or BadCheckpoint.
        """
        return self._models.model(name)

    def plane(self, name: str) -> MapsWork:
        """The maps of this model's features, to be advanced until they are there."""
        return self._models.maps_work(name)

    def keep_upload(self, key: str, pixels: Tensor) -> None:
        """Keep an uploaded picture (C,H,W) for the requests that name it; the oldest of many are forgotten."""
        self._uploads.keep(key, pixels)

    def upload(self, key: str) -> Tensor:
        """The picture kept under this key (C,H,W); raises InvalidValue if it is gone."""
        return self._uploads.get(key)

    def submit(
        self,
        session: str,
        work: Callable[[], Iterable[T | None]],
        alive: Callable[[], bool] | None = None,
        deadline: float | None = None,
    ) -> Future[T]:
        """Queue work for a session, see `Scheduler.submit`. Raises Busy."""
        return self._scheduler.submit(session, work, alive, deadline)

    @property
    def sessions(self) -> int:
        """How many sessions have work here now."""
        return self._scheduler.sessions

    def close(self) -> None:
        """Cancel everything and stop the worker; nothing can be submitted afterwards."""
        self._scheduler.close()
