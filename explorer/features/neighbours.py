"""k-nearest neighbours of a point in feature space, and how far it is from all of them: exact, Euclidean, in float64.

No library's: a point's answer must be the same alone and in a batch, and importing scikit-learn takes seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from explorer.core import InvalidValue

K = 15  # neighbours that place a point, vote on its class and say what a map keeps
OFF_MAP = 95.0  # percentile of the gauge above which a point is called off the map
CHUNK = 256  # points whose distances to all references are in memory together

Points = Tensor | np.ndarray


@dataclass(frozen=True, eq=False)
class Gauge:
    """How far points are from anything that the map is made of, in the full feature space."""

    distance: np.ndarray  # (n,) float64, to the nearest reference image's features
    relative: np.ndarray  # (n,) the same, in medians of the distances of reference images to their nearest other one
    percentile: np.ndarray  # (n,) 0 to 100: share of the reference images whose nearest other one is nearer than that

    @property
    def off(self) -> np.ndarray:
        """(n,) bool: farther from every reference image than OFF_MAP % of these are from each other."""
        return self.percentile > OFF_MAP


class Neighbours:
    """Reference features (M,D) with labels (M,), to be asked about other points.

    `rows` (n,) names, for points made of reference images, the row of each one's own image, which is then left out: an
    image is no neighbour of itself. -1 where there is none.
    """

    def __init__(self, features: Points, labels: Points):
        """Raises InvalidValue for features that are not finite, or not one row per label."""
        points = exact(features)
        self.labels = torch.as_tensor(labels).cpu()
        if points.ndim != 2 or len(points) != len(self.labels):
            raise InvalidValue(
                f"features must be (M,D), one row per label; got {tuple(points.shape)} and {len(self.labels)} labels."
            )
        self._shift = points.mean(0)  # distances lose fewer digits around the origin
        self._points = points - self._shift
        self._squares = (self._points**2).sum(1)

    def __len__(self) -> int:
        return len(self._points)

    @property
    def points(self) -> Tensor:
        """(M,D) float64."""
        return self._points + self._shift

    def nearest(self, features: Points, k: int, rows: Points | None = None) -> tuple[Tensor, Tensor]:
        """Distances (n,k) float64, ascending, and rows (n,k) of the k nearest references.

        Raises InvalidValue if there are fewer than k.
        """
        others = len(self) - (rows is not None)
        if not 1 <= k <= others:
            raise InvalidValue(f"neighbours must be between 1 and {others}, the number of other points; got {k!r}.")
        asked = exact(features) - self._shift
        left_out = torch.full((len(asked),), -1) if rows is None else torch.as_tensor(rows).cpu()
        parts = [self._some(one, own, k) for one, own in zip(asked.split(CHUNK), left_out.split(CHUNK), strict=True)]
        if not parts:
            return asked.new_empty(0, k), torch.empty(0, k, dtype=torch.int64)
        return torch.cat([d for d, _ in parts]), torch.cat([i for _, i in parts])

    def _some(self, asked: Tensor, left_out: Tensor, k: int) -> tuple[Tensor, Tensor]:
        rough = self._squares - 2 * asked @ self._points.T  # (n,M) squared, less |asked|^2: enough to choose by
        at = torch.nonzero(left_out >= 0).flatten()
        rough[at, left_out[at]] = torch.inf
        chosen = rough.topk(k, dim=1, largest=False, sorted=False).indices
        distances = (self._points[chosen] - asked[:, None]).norm(dim=2)  # exact: the same alone and in a batch
        distances, order = distances.sort(dim=1)
        return distances, chosen.gather(1, order)

    @cached_property
    def typical(self) -> Tensor:
        """(M,) float64, ascending: the distance of each reference image to its nearest other one."""
        return self.nearest(self.points, 1, torch.arange(len(self)))[0].flatten().sort().values

    def gauge(self, features: Points, rows: Points | None = None) -> Gauge:
        """How far each of the points (n,D) is from the map's own."""
        distance = self.nearest(features, 1, rows)[0].flatten()
        middle = self.typical.median()
        nearer = torch.searchsorted(self.typical, distance)
        relative = distance / middle if bool(middle > 0) else torch.where(distance > 0, torch.inf, 0.0)
        return Gauge(distance.numpy(), relative.numpy(), (100 * nearer.double() / len(self)).numpy())

    def classes(self, features: Points, rows: Points | None = None, k: int = K) -> np.ndarray:
        """(n,) the class of most of the k nearest references; of classes with equally many, the nearer one's."""
        return self._vote(*self.nearest(features, k, rows)).numpy()

    def others(self, features: Points, classes: Points, rows: Points | None = None, k: int = K) -> np.ndarray:
        """(n,) share of the k nearest references that are not of the given class (n,)."""
        _, near = self.nearest(features, k, rows)
        return (self.labels[near] != torch.as_tensor(classes)[:, None]).double().mean(1).numpy()

    def _vote(self, distances: Tensor, near: Tensor) -> Tensor:
        votes = self.labels[near]  # (n,k), the nearest first
        counts = (votes[:, :, None] == votes[:, None, :]).sum(2)  # how many are of each one's class
        return votes.gather(1, counts.argmax(1, keepdim=True)).flatten()  # the first of the largest: the nearest


def exact(features: Points) -> Tensor:
    """(n,D) float64 on the CPU; raises InvalidValue if a value is not finite."""
    points = torch.as_tensor(features).detach().cpu().double()
    if not bool(torch.isfinite(points).all()):
        raise InvalidValue("features must be finite; got NaN or infinity among them.")
    return points
