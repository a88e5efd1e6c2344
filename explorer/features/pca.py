"""PCA: the plane (or space) that keeps most of a model's feature space, exact and linear.

By `torch.linalg.eigh` in float64: importing scikit-learn takes seconds, and a plane turned onto another is needed too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from explorer.core import InvalidValue
from explorer.features.neighbours import exact


@dataclass(frozen=True, eq=False)
class Plane:
    """The d = 2 or 3 leading principal axes of reference features (Pearson 1901), exact, in float64 on the CPU."""

    method: ClassVar[str] = "PCA"

    mean: Tensor  # (D,)
    basis: Tensor  # (D,d) orthonormal; the largest entry of each axis is positive, so that no sign is left to chance
    explained: Tensor  # (d,) share of the variance along each axis
    points: Tensor  # (M,d) float32, the reference images
    labels: Tensor  # (M,) int64
    centers: Tensor  # (K,D) mean features of each class
    centroids: Tensor  # (K,d) float32, the same in the plane
    classes: tuple[str, ...]
    is_turned: bool = False  # onto another model's plane: the axes are no longer the principal ones
    directions: bool = False  # as of `Reference`

    @classmethod
    def fit(cls, features: Tensor, labels: Tensor, classes: Sequence[str], axes: int = 2) -> Plane:
        """From features (M,D) and true classes (M,) int64, each class at least once.

        Raises InvalidValue for other than 2 or 3 axes, fewer points or dimensions than axes, values that are not
        finite, and a class without a point.
        """
        if axes not in (2, 3):
            raise InvalidValue(f"axes must be 2 or 3; got {axes!r}.")
        points = exact(features)
        if points.ndim != 2 or min(points.shape) < axes or len(points) != len(labels):
            raise InvalidValue(
                f"features must be (M,D) with M and D at least {axes} and one label per row; "
                f"got {tuple(points.shape)} and {len(labels)} labels."
            )
        labels = labels.detach().cpu()
        centers = class_means(points, labels, classes)
        mean = points.mean(0)
        values, vectors = torch.linalg.eigh((points - mean).T @ (points - mean))  # ascending, (D,) and (D,D)
        basis = vectors[:, -axes:].flip(1)
        basis = basis * basis.gather(0, basis.abs().argmax(0, keepdim=True)).sign()
        spread = values.clamp(min=0)
        total = spread.sum()
        explained = spread[-axes:].flip(0) / total if bool(total > 0) else torch.zeros(axes, dtype=torch.float64)
        placed, centroids = (((part - mean) @ basis).float() for part in (points, centers))
        return cls(mean, basis, explained, placed, labels, centers, centroids, tuple(classes))

    def place(self, features: Tensor | np.ndarray) -> Tensor:
        """(n,d) float32 of features (n,D). In float64: a point lands in the same place alone and in a batch."""
        return ((exact(features) - self.mean) @ self.basis).float()

    @property
    def axes(self) -> tuple[str, ...]:
        """Axis titles with the share of variance each keeps."""
        shares = (100 * self.explained).tolist()
        name = "Turned axis" if self.is_turned else "PC"
        return tuple(
            f"{name} {k} ({share:.0f} %{' of variance' if k == 1 else ''})" for k, share in enumerate(shares, 1)
        )

    def turned_onto(self, other: Plane) -> Plane:
        """The same plane, turned and perhaps mirrored so that the same images lie as near `other`'s as they can.

        Distances in the plane stay as they are, and so does the variance that its axes keep together; each axis keeps
        the share of its new direction.
        """
        turn = turning(self.points, other.points).double()
        moved = {name: (getattr(self, name).double() @ turn).float() for name in ("points", "centroids")}
        explained = (turn**2).T @ self.explained  # principal axes are uncorrelated
        return dataclasses.replace(self, basis=self.basis @ turn, explained=explained, is_turned=True, **moved)


def class_means(features: Tensor, labels: Tensor, classes: Sequence[str]) -> Tensor:
    """(K,D) mean features of each class; raises InvalidValue for a class without a point."""
    missing = [name for k, name in enumerate(classes) if not bool((labels == k).any())]
    if missing:
        raise InvalidValue(f"every class needs a reference image; got none of {', '.join(missing)}.")
    return torch.stack([features[labels == k].mean(0) for k in range(len(classes))])


def turning(points: Tensor, onto: Tensor) -> Tensor:
    """(d,d) float64 orthogonal R with (points - mean) @ R nearest to onto - mean, row by row (Schönemann 1966).

    Of clouds (M,d) of any size: scaling one changes nothing. Raises InvalidValue unless they show the same images.
    """
    if points.shape != onto.shape:
        raise InvalidValue(
            "maps of the same images and as many axes can be turned onto each other; "
            f"got {tuple(points.shape)} and {tuple(onto.shape)}."
        )
    a, b = (cloud.double() - cloud.double().mean(0) for cloud in (points, onto))
    u, _, v = torch.linalg.svd(a.T @ b)
    return u @ v
