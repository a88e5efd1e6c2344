"""A walk through feature space: where it heads, how far it has come, and its path on a map."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from explorer.core import FeaturePath
from explorer.features.neighbours import exact

if TYPE_CHECKING:
    from explorer.features.maps import FeatureMap


def feature_path(
    ground: FeatureMap,
    features: Tensor | np.ndarray,
    own: int,
    target: int | None = None,
    predicted: int | None = None,
    at: int = -1,
) -> FeaturePath:
    """A walk's features (T,D) as a path through a map of two axes, and how far each frame has gone.

    `progress` is measured in the full feature space: 0 at the centre of class `own`, 1 at the centre of the class
    the walk heads for, (f_t - c_own).(c_toward - c_own) / |c_toward - c_own|^2. That class is one for the whole walk,
    so that the numbers compare: the target if there is one; else `predicted`, the class predicted at the frame that
    counts, if that is wrong; else the wrong class whose centre is nearest at that frame, row `at`.
    """
    visited = exact(features)  # (T,D)
    toward = heading(ground.centers, visited[at], own, target, predicted)
    return FeaturePath(
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
    """The wrong class that a walk heads for, by the rule of `feature_path`; here (D,) is where it counts."""
    if target is not None:
        return target
    if predicted is not None and predicted != own:
        return predicted
    gap = (centers - here).norm(dim=1)
    gap[own] = torch.inf
    return int(gap.argmin())
