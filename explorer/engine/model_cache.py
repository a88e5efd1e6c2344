"""Least recently used cache of models in memory, each with the maps of its features; and of uploaded pictures."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from explorer.core import Classifier, InvalidValue
from explorer.core.device import free_memory
from explorer.engine.stopping import stops_between_layers
from explorer.features import Gathering, Maps, Plane, Reference
from explorer.models import zoo

MAX_MODELS = 16  # kept in memory
GPU_SHARE = 0.25  # of a GPU's memory that they may take together
MAX_UPLOADS = 64  # pictures kept for the requests that name them


class MapsWork:
    """One model's maps, whose reference images go through it once, by whoever's time slice it is."""

    def __init__(self, start: Callable[[], Gathering], make: Callable[[Reference], Maps] = Maps) -> None:
        self._start, self._make, self._lock = start, make, threading.Lock()
        self._gathering: Gathering | None = None
        self.maps: Maps | None = None

    @property
    def plane(self) -> Plane | None:
        """The PCA plane, once the reference images are there."""
        return self.maps.pca() if self.maps is not None else None

    @property
    def progress(self) -> tuple[int, int] | None:
        """Reference images that have been through the model and how many there are; None before the first."""
        gathering = self._gathering
        return gathering.progress if gathering is not None else None

    def advance(self) -> Maps | None:
        """One more batch of reference images; the maps, with the PCA plane, once all are there."""
        with self._lock:
            if self.maps is None:
                self._gathering = self._gathering or self._start()
                try:
                    found = self._gathering.advance()
                except BaseException:  # stopped or failed within a batch: the next one begins anew
                    self._gathering = None
                    raise
                if found is not None:
                    maps = self._make(found)
                    maps.pca()
                    self.maps, self._gathering = maps, None
            return self.maps


@dataclass(frozen=True, eq=False)
class _Loaded:
    identity: str
    model: Classifier
    maps_work: MapsWork


class ModelCache:
    """The models in use, on one device, loaded once and shared by all threads."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._lock = threading.Lock()
        self._models: OrderedDict[str, _Loaded] = OrderedDict()  # least recently used first

    def model(self, name: str) -> Classifier:
        """The model of this name, frozen; loaded anew if its card names other weights or code than before."""
        return self._loaded(name).model

    def maps_work(self, name: str) -> MapsWork:
        """The maps of this model's features, to be advanced until they are there."""
        return self._loaded(name).maps_work

    def _loaded(self, name: str) -> _Loaded:
        card = zoo.card(name)
        with self._lock:
            found = self._models.get(name)
            if found is None or found.identity != card.identity:
                model, shipped = stops_between_layers(zoo.load(name, self.device)), zoo.features_file(name)
                work = MapsWork(
                    lambda: Gathering(model, card.dataset, key=card.identity, shipped=shipped),
                    lambda reference: Maps(reference, name, card.identity),
                )
                found = self._models[name] = _Loaded(card.identity, model, work)
            _keep_newest(self._models, name, MAX_MODELS)
            memory = free_memory(self.device)
            while memory is not None and len(self._models) > 1 and self._nbytes > GPU_SHARE * memory[1]:
                self._models.popitem(last=False)
            return found

    @property
    def _nbytes(self) -> int:
        return sum(t.nbytes for kept in self._models.values() for t in kept.model.state_dict().values())


class UploadCache:
    """Uploaded pictures (C,H,W) for the requests that name them; the oldest of many are forgotten."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pictures: OrderedDict[str, Tensor] = OrderedDict()

    def keep(self, key: str, pixels: Tensor) -> None:
        with self._lock:
            self._pictures[key] = pixels.detach().cpu().clone()
            _keep_newest(self._pictures, key, MAX_UPLOADS)

    def get(self, key: str) -> Tensor:
        """Raises InvalidValue if it is gone."""
        with self._lock:
            if key not in self._pictures:
                raise InvalidValue("The uploaded picture is not here any more: upload it again.")
            return self._pictures[key]


def _keep_newest(kept: OrderedDict[str, _Loaded] | OrderedDict[str, Tensor], key: str, most: int) -> None:
    """Make `key` the newest, and forget the oldest beyond `most`."""
    kept.move_to_end(key)
    while len(kept) > most:
        kept.popitem(last=False)
