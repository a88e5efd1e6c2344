"""Feature maps (PCA, UMAP) of one model's reference images, behind one protocol."""

from __future__ import annotations

import dataclasses
import threading
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, Self

import numpy as np
import torch
from torch import Tensor

from explorer.core import InvalidValue
from explorer.features.measures import Clusters, clusters, trustworthiness
from explorer.features.neighbours import K, Neighbours
from explorer.features.pca import Plane
from explorer.features.reference import Reference
from explorer.features.umap_map import Embedding, find

METHODS = {"pca": "PCA", "umap": "UMAP"}


class FeatureMap(Protocol):
    """Reference images on a map of d axes, and a place for any other features."""

    @property
    def method(self) -> str:
        """As people read it."""

    @property
    def points(self) -> Tensor:
        """(M,d) float32, the reference images."""

    @property
    def labels(self) -> Tensor:
        """(M,) int64."""

    @property
    def classes(self) -> tuple[str, ...]: ...

    @property
    def directions(self) -> bool:
        """As of `Reference`."""

    @property
    def centers(self) -> Tensor:
        """(K,D) float64, mean features of each class."""

    @property
    def centroids(self) -> Tensor:
        """(K,d) float32, each class's centre on the map."""

    @property
    def axes(self) -> tuple[str, ...]:
        """(d,) axis titles."""

    def place(self, features: Tensor | np.ndarray) -> Tensor:
        """(n,d) float32 of features (n,D): the same alone and in a batch. Raises InvalidValue if not finite."""

    def turned_onto(self, other: Self) -> Self:
        """The same map turned to lie as `other` does, which shows the same images."""


class Maps:
    """The maps of one model, each made when it is first asked for. Safe to use from any thread."""

    def __init__(self, reference: Reference, name: str = "", weights: str = ""):
        """`name` and `weights` (sha256) find the model's UMAP; without them there is none."""
        self.reference, self.name, self.weights = reference, name, weights
        self._lock = threading.Lock()
        self._made: dict[Any, Any] = {}

    def pca(self, axes: int = 2) -> Plane:
        """Two or three principal axes; raises InvalidValue."""
        return self._once(("pca", axes), lambda: self._fit(axes))

    def _fit(self, axes: int) -> Plane:
        found = self.reference
        plane = Plane.fit(found.features, found.labels, found.classes, axes)
        return dataclasses.replace(plane, directions=found.directions)

    def umap(self) -> Embedding:
        """The UMAP that was computed ahead; raises NoMap, with one sentence that says what to do, if there is none.

        It is looked for anew until it is there: another process may be computing it.
        """
        return self._once("umap", lambda: find(self.name, self.weights, self.reference, self.neighbours))

    def of(self, method: str, axes: int = 2) -> FeatureMap:
        """By name ("pca", "umap"); raises InvalidValue for another one, and for a UMAP with other than two axes."""
        if method not in METHODS:
            raise InvalidValue(f"map must be one of {', '.join(METHODS)}; got {method!r}.")
        if method == "pca":
            return self.pca(axes)
        if axes != 2:
            raise InvalidValue(f"a UMAP map has 2 axes; got {axes!r}.")
        return self.umap()

    @cached_property
    def neighbours(self) -> Neighbours:
        return Neighbours(self.reference.features, self.reference.labels)

    @property
    def centers(self) -> Tensor:
        """(K,D) float64, mean features of each class."""
        return self.pca().centers

    def kept(self, method: str = "pca", axes: int = 2, k: int = K) -> float:
        """Trustworthiness of a map: how far each image's k neighbours on it are neighbours in feature space, too.

        1 if all are, about 0.5 for a map drawn at random. PCA's takes about a second for 2,000 points, once.
        """
        if method == "umap" and k == K:
            return self.umap().trustworthiness
        points = self.of(method, axes).points
        return self._once(("kept", method, axes, k), lambda: trustworthiness(self.reference.features, points, k))

    def clusters(self) -> Clusters:
        """How well the classes hold together, in the full feature space. Takes about a second, once."""
        found = self.reference
        return self._once("clusters", lambda: clusters(found.features, found.labels, self.neighbours))

    def _once(self, key: Any, make: Any) -> Any:
        if key not in self._made:
            made = make()
            with self._lock:
                self._made.setdefault(key, made)
        return self._made[key]


@dataclass(frozen=True, eq=False)
class Regions:
    """Which class has the say where on a map of two axes."""

    x: np.ndarray  # (S,) float64
    y: np.ndarray  # (S,)
    classes: np.ndarray  # (S,S) class of most of the K reference images nearest on the map; row y, column x


def regions(ground: FeatureMap, size: int = 80, margin: float = 0.05) -> Regions:
    """A grid of size x size points over the reference images and a margin, in parts of the map's width and height.

    By the map's own distances: it says what the picture shows, not where the model decides.
    """
    points = ground.points.double()
    low, high = points.min(0).values, points.max(0).values
    edge = margin * (high - low)
    x, y = (torch.linspace(float(low[k] - edge[k]), float(high[k] + edge[k]), size).double() for k in (0, 1))
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).view(-1, 2)
    votes = Neighbours(points, ground.labels).classes(grid, k=min(K, len(points)))
    return Regions(x.numpy(), y.numpy(), votes.reshape(size, size))
