"""One image's recorded walk: what the trace player plays, what a link names, what an export saves. Arrays only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class Trace:
    """Frame 0 is the untouched image; frame 1 the attack's start (it may be a random point), then one per update.

    T frames, K classes, D features. `planned` frames are what the finished walk will have: while an attack runs,
    T grows up to it. All numbers are those of the model itself, none is interpolated.
    """

    frames: np.ndarray  # (T,C,H,W) float32 pixels in [0,1]
    logits: np.ndarray  # (T,K) float32; the mean over the draws for a stochastic model
    features: np.ndarray  # (T,D) float32, penultimate layer, same draws
    loss: np.ndarray  # (T,) float32, what the attack ascends
    linf: np.ndarray  # (T,) float64, largest change of any pixel
    l2: np.ndarray  # (T,) float64, Euclidean length of the change
    reached: np.ndarray  # (T,) bool, the goal holds at this frame
    degenerate: np.ndarray  # (T,) bool, the gradient was zero or not finite here
    label: int  # the true class
    target: int | None  # the class asked for, None if any wrong class will do
    classes: tuple[str, ...]
    planned: int
    minimal: bool = False  # the attack looked for the smallest change: the nearest frame that reaches the goal counts
    conditions: dict[str, Any] = field(
        default_factory=dict
    )  # model, attack, hyper-parameters, norm, eps, seed, image ...
    passes: np.ndarray | None = (
        None  # (T,) int64, forward and backward passes spent on the walk up to here; 0 at frame 0
    )
    certified: np.ndarray | None = (
        None  # (T,) float64, L2 radius within which the answer at each frame is proven, if it is
    )
    notes: tuple[str, ...] = ()  # (T,) a sentence more on each frame, if the attack has one to add
    theta: np.ndarray | None = None  # (T,P) float32, under a transformation: the parameters that make each frame
    moved: np.ndarray | None = None  # (T,) float64, then how far they go, in the unit of eps

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def perturbation(self) -> np.ndarray:
        """(T,C,H,W) float32, signed: frame minus original."""
        change: np.ndarray = self.frames - self.frames[:1]
        return change

    @property
    def probabilities(self) -> np.ndarray:
        """(T,K) softmax of the logits."""
        z = self.logits - self.logits.max(axis=1, keepdims=True)
        e = np.exp(z)
        shares: np.ndarray = e / e.sum(axis=1, keepdims=True)
        return shares

    @property
    def predicted(self) -> np.ndarray:
        """(T,) the class with the largest logit."""
        best: np.ndarray = self.logits.argmax(axis=1)
        return best

    @property
    def margin(self) -> np.ndarray:
        """(T,) logit of the true class (of two the likelier) minus the largest other one: below zero the image is misclassified."""
        own = [self.label, self.also]
        margin: np.ndarray = self.logits[:, own].max(axis=1) - np.delete(self.logits, own, axis=1).max(axis=1)
        return margin

    @property
    def also(self) -> int:
        """A second class that is right, too (`Goal.also`); `label` where there is none."""
        return int(self.conditions.get("true_label", self.label))

    @property
    def distance(self) -> np.ndarray:
        """(T,) float64, how far from the original, in the norm of the conditions (Linf where none is named), or as parameters."""
        if self.moved is not None:
            return self.moved
        norm = self.conditions.get("norm")
        if norm in ("l1", "l0"):
            change = np.abs(self.frames.astype(np.float64) - self.frames[:1])
            counted = change if norm == "l1" else change.max(axis=1) > 0
            sums: np.ndarray = counted.reshape(len(self), -1).sum(axis=1).astype(np.float64)
            return sums
        return self.l2 if norm == "l2" else self.linf

    @property
    def best(self) -> int:
        """The attacked frame that counts as the result, by the rule of `explorer.core.run`: reached first, then loss,
        then the latest; for a search for the smallest change reached first, then the least distance, then the latest."""
        if len(self) == 1:
            return 0
        if self.minimal:
            return int(np.lexsort((-self.distance[1:], self.reached[1:]))[-1]) + 1
        return int(np.lexsort((self.loss[1:], self.reached[1:]))[-1]) + 1  # stable: of equals the last

    @property
    def wrong_before(self) -> bool:
        """Whether the model has the untouched image wrong, so that no attack fools it: of a random model in most draws."""
        return bool(self.conditions.get("wrong_before", self.predicted[0] != self.label))

    @property
    def proven(self) -> int | None:
        """The last frame that, as all before it, is nearer to the untouched image than its certified radius; None without one.

        Up to there the class cannot have changed.
        """
        if self.certified is None:
            return None
        outside = np.flatnonzero(self.l2 >= self.certified[0])
        return (int(outside[0]) if len(outside) else len(self)) - 1

    @property
    def first_reached(self) -> int | None:
        """Index of the first attacked frame at which the goal holds; None if it never does, or was `wrong_before`."""
        if self.wrong_before:
            return None
        hits = np.flatnonzero(self.reached[1:])
        return int(hits[0]) + 1 if len(hits) else None


@dataclass(frozen=True, eq=False)
class FeaturePath:
    """The map a trace is drawn into: reference images and a trace's path in one plane of the model's features."""

    points: np.ndarray  # (M,2) float32 reference images
    point_classes: np.ndarray  # (M,) uint8
    centroids: np.ndarray  # (K,2) float32 mean of each class in the plane
    path: np.ndarray  # (T,2) float32
    progress: np.ndarray  # (T,) share of the way from the own class's centre to `toward`'s, in full feature space
    toward: np.ndarray  # (T,) int, the class the point is heading for at each frame (target, or nearest wrong centre)
    axes: tuple[str, str]  # e.g. "PC 1 (34 % of variance)"
    method: str = "PCA"
    directions: bool = False  # the points are no images but the classes' directions in the last layer
