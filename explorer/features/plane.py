"""The plane that keeps most of a model's feature space (PCA), and a walk drawn into it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from explorer.core import InvalidValue, Walkway


@dataclass(frozen=True, eq=False)
class Plane:
    """The two leading principal axes of reference features (Pearson 1901), exact, in float64 on the CPU."""

    mean: Tensor  # (D,)
    basis: Tensor  # (D,2) orthonormal; the largest entry of each axis is positive, so that no sign is left to chance
    explained: Tensor  # (2,) share of the variance along each axis
    points: Tensor  # (M,2) float32, the reference images
    labels: Tensor  # (M,) int64
    centers: Tensor  # (K,D) mean features of each class
    centroids: Tensor  # (K,2) float32, the same in the plane
    classes: tuple[str, ...]

    @classmethod
    def fit(cls, features: Tensor, labels: Tensor, classes: Sequence[str]) -> Plane:
        """From features (M,D) and true classes (M,) int64, each class at least once.

        Raises InvalidValue for fewer than two points or dimensions, for values that are not finite, and for a class
        without a point.
        """
        points = _exact(features)
        if points.ndim != 2 or min(points.shape) < 2 or len(points) != len(labels):
            raise InvalidValue(
                "features must be (M,D) with M and D at least 2 and one label per row; "
                f"got {tuple(points.shape)} and {len(labels)} labels."
            )
        if not bool(torch.isfinite(points).all()):
            raise InvalidValue("features must be finite; got NaN or infinity among them.")
        labels = labels.detach().cpu()
        missing = [name for k, name in enumerate(classes) if not bool((labels == k).any())]
        if missing:
            raise InvalidValue(f"every class needs a reference image; got none of {', '.join(missing)}.")
        mean = points.mean(0)
        values, vectors = torch.linalg.eigh((points - mean).T @ (points - mean))  # ascending, (D,) and (D,D)
        basis = vectors[:, -2:].flip(1)
        basis = basis * basis.gather(0, basis.abs().argmax(0, keepdim=True)).sign()
        spread = values.clamp(min=0)
        total = spread.sum()
        explained = spread[-2:].flip(0) / total if bool(total > 0) else torch.zeros(2, dtype=torch.float64)
        centers = torch.stack([points[labels == k].mean(0) for k in range(len(classes))])
        placed, centroids = (((part - mean) @ basis).float() for part in (points, centers))
        return cls(mean, basis, explained, placed, labels, centers, centroids, tuple(classes))

    def project(self, features: Tensor | np.ndarray) -> Tensor:
        """(n,2) float32 of features (n,D). In float64: a point lands in the same place alone and in a batch."""
        return ((_exact(features) - self.mean) @ self.basis).float()

    @property
    def axes(self) -> tuple[str, str]:
        """Axis titles with the share of variance each keeps."""
        first, second = (100 * self.explained).tolist()
        return f"PC 1 ({first:.0f} % of variance)", f"PC 2 ({second:.0f} %)"


def walkway(
    plane: Plane,
    features: Tensor | np.ndarray,
    own: int,
    target: int | None = None,
    predicted: int | None = None,
    at: int = -1,
) -> Walkway:
    """A walk's features (T,D) as a path through the plane, and how far each frame has gone.

    `progress` is measured in the full feature space: 0 at the centre of class `own`, 1 at the centre of the class
    the walk heads for, (f_t - c_own).(c_toward - c_own) / |c_toward - c_own|^2. That class is one for the whole walk,
    so that the numbers compare: the target if there is one; else `predicted`, the class predicted at the frame that
    counts, if that is wrong; else the wrong class whose centre is nearest at that frame, row `at`.
    """
    visited = _exact(features)  # (T,D)
    toward = _heading(plane, visited[at], own, target, predicted)
    way = plane.centers[toward] - plane.centers[own]
    length = way @ way
    progress = (visited - plane.centers[own]) @ way / length if bool(length > 0) else torch.zeros(len(visited))
    return Walkway(
        points=plane.points.numpy(),
        point_classes=plane.labels.numpy().astype(np.uint8),
        centroids=plane.centroids.numpy(),
        path=plane.project(visited).numpy(),
        progress=progress.double().numpy(),
        toward=np.full(len(visited), toward),
        axes=plane.axes,
    )


def _heading(plane: Plane, here: Tensor, own: int, target: int | None, predicted: int | None) -> int:
    if target is not None:
        return target
    if predicted is not None and predicted != own:
        return predicted
    gap = (plane.centers - here).norm(dim=1)
    gap[own] = torch.inf
    return int(gap.argmin())


def _exact(features: Tensor | np.ndarray) -> Tensor:
    return torch.as_tensor(features).detach().cpu().double()
