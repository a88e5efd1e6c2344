"""Measures in feature space (distances, shifts, silhouettes, ROC and AUC of detectors): of the full features, not of a map.

Arrays in, plain numbers and arrays out. Features are (n,D), one image a row; `own` (n,) are the images' true classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from explorer.core import InvalidValue, wilson
from explorer.features.neighbours import K, Neighbours, Points, exact

Z = 1.959964  # of a 95 % interval


@dataclass(frozen=True)
class Interval:
    """A number with its 95 % interval; `method` says by which rule. Of too few images there is no interval."""

    value: float
    low: float | None
    high: float | None
    n: int  # images behind it
    method: str

    @property
    def ends(self) -> tuple[float, float]:
        """low and high; the value itself where there is no interval."""
        return self.value if self.low is None else self.low, self.value if self.high is None else self.high


def mean_interval(values: np.ndarray) -> Interval:
    """The mean of n numbers, with Student's t interval; raises InvalidValue for none."""
    from scipy.special import stdtrit  # takes a moment to import: only who asks waits

    values = np.asarray(values, float)
    n = len(values)
    if n < 1:
        raise InvalidValue("a mean needs at least one image; got none.")
    mean = float(values.mean())
    if n == 1:
        return Interval(mean, None, None, n, "one image has no interval")
    half = float(stdtrit(n - 1, 0.975) * values.std(ddof=1) / math.sqrt(n))
    return Interval(mean, mean - half, mean + half, n, "Student's t, 95 %")


# Distances along a walk


@dataclass(frozen=True, eq=False)
class Distances:
    """Euclidean distances of features to two class centres."""

    own: np.ndarray
    toward: np.ndarray


def to_centres(features: Points, centers: Tensor, own: int, toward: int) -> Distances:
    """Of features (T,D), a walk say: (T,) to the centre of class `own` and to that of `toward`; centers (K,D)."""
    visited = exact(features)
    return Distances(*((visited - centers[k]).norm(dim=1).numpy() for k in (own, toward)))


# Toward which class


@dataclass(frozen=True, eq=False)
class Shift:
    """How far n images moved toward their false classes; 0 is not at all, 1 the whole way between the two centres."""

    toward: np.ndarray  # (n,) int, each image's false class
    each: np.ndarray  # (n,) float64
    mean: Interval  # of `each`
    others: (
        Interval | None
    )  # control: of each image's mean shift toward the remaining wrong classes; None if none remain


def shift(clean: Points, attacked: Points, own: np.ndarray, toward: np.ndarray, centers: Tensor) -> Shift:
    """The shift (f' - f).(c_false - c_own) / |c_false - c_own|^2 of each image; centers (K,D) are the classes' means.

    An untargeted attack's false class is known only afterwards, so part of the shift is in the choice; the control is
    the shift toward the classes that were not chosen, which an image that merely leaves its own class shows as well.
    """
    before, after = exact(clean), exact(attacked)

    def moved(k: int, to: int) -> float:
        here, there = (progress(f[k], centers, int(own[k]), to) for f in (before, after))
        return float(there - here)

    n, classes = len(before), range(len(centers))
    each = np.array([moved(k, int(toward[k])) for k in range(n)])
    rest = [[moved(k, j) for j in classes if j not in (own[k], toward[k])] for k in range(n)]
    others = mean_interval(np.array([np.mean(row) for row in rest])) if all(rest) else None
    return Shift(np.asarray(toward), each, mean_interval(each), others)


def progress(features: Tensor, centers: Tensor, own: int, toward: int) -> Tensor:
    """(...) float64: 0 at the centre of class `own`, 1 at that of `toward`, of features (...,D) float64."""
    way = centers[toward] - centers[own]
    length = way @ way
    return (features - centers[own]) @ way / length if bool(length > 0) else features.new_zeros(features.shape[:-1])


def false_class(centers: Tensor, features: Tensor, own: int, target: int | None, predicted: int | None) -> int:
    """The class that an image with features (D,) is taken to move toward: the target; else the predicted class if that
    is wrong; else the wrong class whose centre is nearest."""
    if target is not None:
        return target
    if predicted is not None and predicted != own:
        return predicted
    gap = (centers - features).norm(dim=1)
    gap[own] = torch.inf
    return int(gap.argmin())


def false_classes(
    features: Points, own: np.ndarray, predicted: np.ndarray, centers: Tensor, target: int | None = None
) -> np.ndarray:
    """(n,) `false_class` of each image."""
    points = exact(features)
    found = [false_class(centers, f, int(y), target, int(p)) for f, y, p in zip(points, own, predicted, strict=True)]
    return np.array(found)


# How well the classes hold together


def silhouettes(features: Points, labels: Points) -> np.ndarray:
    """(n,) silhouette of each image (Rousseeuw 1987), in [-1,1]: 1 deep inside its class, below 0 nearer another one.

    Raises InvalidValue for one class only, and where each image is a class of its own.
    """
    from sklearn.metrics import silhouette_samples  # takes a second to import: only who asks waits

    points, classes = exact(features).numpy(), np.asarray(labels)
    _several("silhouettes", classes)
    return silhouette_samples(points, classes)


def scatter_ratio(features: Points, labels: Points) -> float:
    """Scatter within the classes over scatter between them, tr(S_w) / tr(S_b): small where classes are tight and apart.

    S_w sums the squared distances of the images to their class's mean, S_b those of the class means to the mean of all,
    once for each image. Infinite if all classes have the same mean. Raises InvalidValue as `silhouettes` does.
    """
    points, classes = exact(features), torch.as_tensor(labels)
    _several("the scatter ratio", classes.numpy())
    middle = points.mean(0)
    within = between = 0.0
    for k in classes.unique():
        own = points[classes == k]
        within += float(((own - own.mean(0)) ** 2).sum())
        between += len(own) * float(((own.mean(0) - middle) ** 2).sum())
    return within / between if between > 0 else math.inf


@dataclass(frozen=True)
class Clusters:
    """How well the classes of reference images hold together, in the full feature space."""

    silhouette: Interval  # mean over the images
    scatter: float  # see `scatter_ratio`
    neighbours: Interval  # share of the images whose class is that of most of their K nearest others


def clusters(features: Points, labels: Points, ground: Neighbours) -> Clusters:
    """Of features (M,D), labels (M,) and the same as `Neighbours`; raises InvalidValue as `silhouettes` does."""
    classes = np.asarray(labels)
    right = int((ground.classes(features, np.arange(len(classes))) == classes).sum())
    n = len(classes)
    share = Interval(right / n, *wilson(right, n), n, "Wilson's score interval, 95 %")
    return Clusters(mean_interval(silhouettes(features, labels)), scatter_ratio(features, labels), share)


def trustworthiness(features: Tensor | np.ndarray, points: Tensor | np.ndarray, k: int = K) -> float:
    """Venna and Kaski's (2001) score of a map (M,d) of features (M,D), in [0,1]; about 0.5 by chance.

    Raises InvalidValue unless 1 <= k < M/2.
    """
    from sklearn import manifold  # takes a second to import: only who asks waits

    high, low = exact(features).numpy(), exact(points).numpy()
    if not 1 <= k < len(high) / 2:
        raise InvalidValue(f"neighbours must be between 1 and half of the {len(high)} points; got {k!r}.")
    return float(manifold.trustworthiness(high, low, n_neighbors=k))


def _several(name: str, classes: np.ndarray) -> None:
    found = len(np.unique(classes))
    if not 2 <= found < len(classes):
        raise InvalidValue(
            f"{name} need images of at least two classes, and a class with two; got {len(classes)} of {found}."
        )


# A detector of adversarial examples


@dataclass(frozen=True, eq=False)
class Detection:
    """How a score of suspicion tells attacked images from clean ones: no threshold is chosen."""

    detector: str  # one of DETECTORS
    clean: np.ndarray  # (m,) scores of clean images
    attacked: np.ndarray  # (n,)
    false_alarms: np.ndarray  # (P,) ROC curve: share of clean images above each threshold,
    caught: np.ndarray  # (P,) and of attacked ones
    auc: Interval  # below 0.5: attacked images look less suspicious than clean ones


@dataclass(frozen=True)
class Detector:
    """A score from the features and the predicted class alone: what a defender sees. Higher is more suspicious."""

    title: str
    explanation: str
    score: Callable[[Neighbours, Points, np.ndarray, np.ndarray | None], np.ndarray]


def centre_and_size(ground: Neighbours, k: int) -> tuple[Tensor, float]:
    """(D,) float64 mean of class k's reference features, and the root mean square of their distances to it (1 if all coincide).

    Raises InvalidValue if there is no reference image of that class.
    """
    own = ground.points[ground.labels == k]
    if not len(own):
        raise InvalidValue(f"every predicted class needs a reference image; got none of class {k}.")
    center = own.mean(0)
    size = float(((own - center) ** 2).sum(1).mean().sqrt())
    return center, size if size > 0 else 1.0


def _from_centre(ground: Neighbours, features: Points, predicted: np.ndarray, rows: np.ndarray | None) -> np.ndarray:
    """(n,) distance to the centre of the predicted class, in root mean squares of that class's own images."""
    points = exact(features)
    score = np.empty(len(points))
    for k in np.unique(predicted):
        center, size = centre_and_size(ground, int(k))
        here = predicted == k
        score[here] = (points[torch.from_numpy(here)] - center).norm(dim=1).numpy() / size
    return score


def _among_others(ground: Neighbours, features: Points, predicted: np.ndarray, rows: np.ndarray | None) -> np.ndarray:
    """(n,) share of the K nearest reference images that are not of the predicted class."""
    return ground.others(features, predicted, rows)


DETECTORS = {
    "centre": Detector(
        "Far from its class's centre",
        "The distance from the features to the centre of the class that the model predicts, relative to how far that "
        "class's own reference images lie from it.",
        _from_centre,
    ),
    "neighbours": Detector(
        "Among images of other classes",
        f"The share of the {K} nearest reference images whose true class is not the one that the model predicts.",
        _among_others,
    ),
}


def detect(
    key: str,
    ground: Neighbours,
    clean: Points,
    clean_predicted: np.ndarray,
    attacked: Points,
    attacked_predicted: np.ndarray,
    clean_rows: np.ndarray | None = None,
    attacked_rows: np.ndarray | None = None,
) -> Detection:
    """How detector `key` tells attacked images from clean ones, with the classes that the model predicts for them.

    `rows` are those of `Neighbours`: an image's own clean features are not among its neighbours. Nothing is fitted, so
    nothing is overfitted; an attack that knows of the detector would do better. Raises InvalidValue for an unknown
    detector, or where there is no image on one of the two sides.
    """
    if key not in DETECTORS:
        raise InvalidValue(f"detector must be one of {', '.join(DETECTORS)}; got {key!r}.")
    score = DETECTORS[key].score
    negatives = score(ground, clean, np.asarray(clean_predicted), clean_rows)
    positives = score(ground, attacked, np.asarray(attacked_predicted), attacked_rows)
    return Detection(key, negatives, positives, *roc(negatives, positives), auc_interval(negatives, positives))


def roc(negatives: np.ndarray, positives: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The curve (P,), (P,) from (0,0) to (1,1): shares of both at or above each score that occurs, the highest first."""
    _both(negatives, positives)
    cuts = np.unique(np.concatenate([negatives, positives]))[::-1]

    def shares(scores: np.ndarray) -> np.ndarray:
        return np.concatenate(
            [[0.0], (len(scores) - np.searchsorted(np.sort(scores), cuts, side="left")) / len(scores)]
        )

    return shares(negatives), shares(positives)


def auc_interval(negatives: np.ndarray, positives: np.ndarray) -> Interval:
    """The probability that a positive scores above a negative, ties half, with a 95 % interval.

    The interval is Newcombe's score interval (Statistics in Medicine 2006, method 5): it keeps a width at 0 and 1. It
    takes all m + n images as drawn independently, which is a little wide where the same image stands on both sides.
    """
    _both(negatives, positives)
    m, n = len(negatives), len(positives)
    ordered = np.sort(negatives)
    below = np.searchsorted(ordered, positives, side="left")
    ties = np.searchsorted(ordered, positives, side="right") - below
    area = float((below + ties / 2).mean() / m)
    half = (m + n) / 2 - 1

    def gap(theta: float) -> float:
        spread = 1 + half * ((1 - theta) / (2 - theta) + theta / (1 + theta))
        return abs(theta - area) - Z * math.sqrt(theta * (1 - theta) * spread / (m * n))

    low, high = (_root(gap, area, end) for end in (0.0, 1.0))
    return Interval(area, low, high, min(m, n), "Newcombe's score interval, 95 %")


def _root(gap: Callable[[float], float], inside: float, end: float) -> float:
    """Where `gap` turns positive between a point where it is not and an end; the end if it is 0 there."""
    if abs(end - inside) < 1e-12:
        return end
    within, outside = inside, end
    for _ in range(60):
        middle = (within + outside) / 2
        if gap(middle) <= 0:
            within = middle
        else:
            outside = middle
    return within


def _both(negatives: np.ndarray, positives: np.ndarray) -> None:
    if not (len(negatives) and len(positives)):
        raise InvalidValue(
            f"a curve needs clean and attacked images; got {len(negatives)} clean and {len(positives)} attacked ones."
        )
