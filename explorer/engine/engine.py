"""Engine: the scheduler of all work on one device, with the models in its memory."""

from __future__ import annotations

from torch import Tensor

from explorer.core import Classifier, InvalidValue
from explorer.core.device import answers, choose, cores, describe, free_memory
from explorer.engine.model_cache import MapsWork, ModelCache, UploadCache
from explorer.engine.scheduler import Scheduler
from explorer.engine.sharing import Sharing

DEADLINE_S = 120.0  # seconds of computing for one job; waiting for others does not count


class Engine(Scheduler):
    """The device's owner. `threads`: CPU threads of its worker, None for all cores; `deadline`: seconds of computing for
    work that names none."""

    def __init__(self, device: str = "auto", threads: int | None = None, deadline: float = DEADLINE_S) -> None:
        if threads is not None and not (isinstance(threads, int) and 1 <= threads <= 1024):
            raise InvalidValue(f"threads must be a whole number in [1, 1024]; got {threads!r}.")
        super().__init__(threads or cores(), deadline, lambda: answers(self.device))
        self.device = choose(device)
        self._models, self._uploads = ModelCache(self.device), UploadCache()
        self.sharing = Sharing()

    @property
    def description(self) -> str:
        """The device, for people."""
        return describe(self.device, self.threads)

    @property
    def free_memory(self) -> str | None:
        """ "130.5 of 139.8 GiB free", of a GPU's memory, whoever uses it; None for any other device."""
        found = free_memory(self.device)
        return None if found is None else f"{found[0] / 2**30:.1f} of {found[1] / 2**30:.1f} GiB free"

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
