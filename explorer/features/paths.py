"""Feature-space paths: a walk's features as a path through a map, and how far each frame has gone towards a class."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from explorer.core import FeaturePath
from explorer.features.maps import FeatureMap
from explorer.features.measures import false_class, progress
from explorer.features.neighbours import exact


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
    toward = false_class(ground.centers, visited[at], own, target, predicted)
    return FeaturePath(
        points=ground.points.numpy(),
        point_classes=ground.labels.numpy().astype(np.uint16),
        centroids=ground.centroids.numpy(),
        path=ground.place(visited).numpy(),
        progress=progress(visited, ground.centers, own, toward).numpy(),
        toward=np.full(len(visited), toward),
        axes=(ground.axes[0], ground.axes[1]),
        method=ground.method,
        directions=ground.directions,
    )
