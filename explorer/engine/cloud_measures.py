"""Measures of a feature cloud under attack: shift, nearest neighbours, silhouette, scatter ratio and detectors."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from explorer.features.measures import (
    DETECTORS,
    Detection,
    Distances,
    Interval,
    Shift,
    detect,
    false_classes,
    mean_interval,
    scatter_ratio,
    shift,
    silhouettes,
    to_centres,
)

if TYPE_CHECKING:
    from explorer.engine.featurespace import ModelCloud


@dataclass(frozen=True, eq=False)
class Measured:
    """The finished cloud of one model in numbers. `n` of them are the images attacked: those classified right before."""

    toward: np.ndarray  # (N,) the class each image is taken to move toward, see `false_classes`; -1 if not attacked
    distances: tuple[Distances | None, ...]  # (N,) of (T,): along each attacked image's path
    shift: Shift | None  # toward the false classes, over the n attacked images
    neighbours_before: np.ndarray  # (N,) class of most of the K nearest reference images, its own left out
    neighbours_after: np.ndarray  # (N,)
    silhouette: dict[str, Interval]  # "before", "after": mean over the attacked images, each among all reference images
    scatter: dict[
        str, float
    ]  # "before", "after": within/between, of all reference images, the attacked in their new place
    among: dict[str, float] | None  # the same of the attacked images alone; None if they are of one class
    off_map: np.ndarray  # (N,) percentile of the gauge at the end, see `explorer.features.Gauge`
    detections: dict[
        str, Detection | None
    ]  # by DETECTORS: the images that fell against themselves before; None if none fell


def measure(
    lane: ModelCloud, labels: np.ndarray, rows: np.ndarray, target: int | None
) -> Generator[None, None, Measured]:
    """All measures of a lane that has ended; rows (N,) of the images among the reference images, -1 for others."""
    maps, at = lane.maps, np.flatnonzero(lane.right)
    reference, ground = maps.reference, maps.neighbours
    clean, attacked = lane.features[0], lane.features[-1]
    toward = np.full(len(labels), -1)
    toward[at] = false_classes(attacked[at], labels[at], lane.after[at], maps.centers, target)
    ways = tuple(
        to_centres(lane.features[:, k], maps.centers, int(labels[k]), int(toward[k])) if lane.right[k] else None
        for k in range(len(labels))
    )
    moved = shift(clean[at], attacked[at], labels[at], toward[at], maps.centers)
    yield None
    before, after = (ground.classes(points, rows) for points in (clean, attacked))
    off = ground.gauge(attacked, rows).percentile
    yield None
    silhouette, scatter = {}, {}
    for name, points in (("before", clean), ("after", attacked)):
        cloud, classes, mine = _among(
            reference.features.numpy(), reference.labels.numpy(), rows[at], points[at], labels[at]
        )
        silhouette[name] = mean_interval(silhouettes(cloud, classes)[mine])
        scatter[name] = scatter_ratio(cloud, classes)
        yield None
    among = None
    if 2 <= len(np.unique(labels[at])) < len(at):
        among = {"before": scatter_ratio(clean[at], labels[at]), "after": scatter_ratio(attacked[at], labels[at])}
    fell = np.flatnonzero(lane.fooled)
    detections: dict[str, Detection | None] = dict.fromkeys(DETECTORS)
    for key in DETECTORS if len(fell) else ():
        one, two = (clean[fell], lane.before[fell]), (attacked[fell], lane.after[fell])
        detections[key] = detect(key, ground, *one, *two, rows[fell], rows[fell])
        yield None
    return Measured(toward, ways, moved, before, after, silhouette, scatter, among, off, detections)


def _among(
    features: np.ndarray, labels: np.ndarray, rows: np.ndarray, points: np.ndarray, own: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Reference features (M,D) with these points (n,D) in the places of their own images, or behind them where there are
    none; labels; and where each point stands."""
    cloud, classes = features.copy(), labels
    inside = rows >= 0
    cloud[rows[inside]] = points[inside]
    where = rows.copy()
    where[~inside] = len(cloud) + np.arange((~inside).sum())
    return np.concatenate([cloud, points[~inside]]), np.concatenate([classes, own[~inside]]), where
