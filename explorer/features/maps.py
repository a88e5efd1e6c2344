"""All maps of one model's reference images behind one protocol, and a walk drawn into one of them."""

from __future__ import annotations

import threading
from functools import cached_property
from typing import Any, Protocol, Self

import numpy as np
import torch
from torch import Tensor

from explorer.core import InvalidValue, Walkway
from explorer.features.embedding import Embedding, find
from explorer.features.neighbours import K, Neighbours, exact
from explorer.features.plane import Plane
from explorer.features.reference import Reference

METHODS = {"pca": "PCA", "umap": "UMAP"}


class FeatureMap(Protocol):
    """Reference images on a map of d axes, and a place for any other features."""

    method: str  # as people read it
    points: Tensor  # (M,d) float32, the reference images
    labels: Tensor  # (M,) int64
    classes: tuple[str, ...]
    centers: Tensor  # (K,D) float64, mean features of each class
    centroids: Tensor  # (K,d) float32, each class's centre on the map

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
        found = self.reference
        return self._once(("pca", axes), lambda: Plane.fit(found.features, found.labels, found.classes, axes))

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

        1 if all are, about 0.5 for a map drawn at random. Takes about a second for 2,000 points, once.
        """
        if method == "umap" and k == K:
            return self.umap().trustworthiness
        points = self.of(method, axes).points
        return self._once(("kept", method, axes, k), lambda: trustworthiness(self.reference.features, points, k))

    def _once(self, key: Any, make: Any) -> Any:
        if key not in self._made:
            made = make()
            with self._lock:
                self._made.setdefault(key, made)
        return self._made[key]


def walkway(
    ground: FeatureMap,
    features: Tensor | np.ndarray,
    own: int,
    target: int | None = None,
    predicted: int | None = None,
    at: int = -1,
) -> Walkway:
    """A walk's features (T,D) as a path through a map of two axes, and how far each frame has gone.

    `progress` is measured in the full feature space: 0 at the centre of class `own`, 1 at the centre of the class
    the walk heads for, (f_t - c_own).(c_toward - c_own) / |c_toward - c_own|^2. That class is one for the whole walk,
    so that the numbers compare: the target if there is one; else `predicted`, the class predicted at the frame that
    counts, if that is wrong; else the wrong class whose centre is nearest at that frame, row `at`.
    """
    visited = exact(features)  # (T,D)
    toward = heading(ground.centers, visited[at], own, target, predicted)
    return Walkway(
        points=ground.points.numpy(),
        point_classes=ground.labels.numpy().astype(np.uint8),
        centroids=ground.centroids.numpy(),
        path=ground.place(visited).numpy(),
        progress=progress(visited, ground.centers, own, toward).numpy(),
        toward=np.full(len(visited), toward),
        axes=ground.axes,
        method=ground.method,
    )


def progress(features: Tensor, centers: Tensor, own: int, toward: int) -> Tensor:
    """(...) float64: 0 at the centre of class `own`, 1 at that of `toward`, of features (...,D) float64."""
    way = centers[toward] - centers[own]
    length = way @ way
    return (features - centers[own]) @ way / length if bool(length > 0) else features.new_zeros(features.shape[:-1])


def heading(centers: Tensor, here: Tensor, own: int, target: int | None, predicted: int | None) -> int:
    """The wrong class that a walk heads for, by the rule of `walkway`; here (D,) is where it counts."""
    if target is not None:
        return target
    if predicted is not None and predicted != own:
        return predicted
    gap = (centers - here).norm(dim=1)
    gap[own] = torch.inf
    return int(gap.argmin())


def trustworthiness(features: Tensor | np.ndarray, points: Tensor | np.ndarray, k: int = K) -> float:
    """Venna and Kaski's (2001) score of a map (M,d) of features (M,D), in [0,1]; about 0.5 by chance.

    Raises InvalidValue unless 1 <= k < M/2.
    """
    from sklearn import manifold  # takes a second to import: only who asks waits

    high, low = exact(features).numpy(), exact(points).numpy()
    if not 1 <= k < len(high) / 2:
        raise InvalidValue(f"neighbours must be between 1 and half of the {len(high)} points; got {k!r}.")
    return float(manifold.trustworthiness(high, low, n_neighbors=k))
