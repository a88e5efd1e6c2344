"""One-vs-rest ROC curves of a model's classes, with their areas (AUC): on untouched pictures, and on those of FGSM and of DeepFool.

For class k an image counts as positive if it is of class k, and its score is the model's probability of k, as the report on
Fashion-MNIST draws them (figures 3.7 to 3.9). Scores are kept as log-odds, which rank as probabilities do and do not saturate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from explorer.attacks import ATTACKS
from explorer.core import Ball, Goal, run
from explorer.defenses.deep_defense import to_boundary
from explorer.features.measures import Interval, auc_interval, roc

CLEAN, FGSM, DEEPFOOL = SETS = ("clean", "fgsm", "deepfool")  # which pictures are ranked
POINTS = 201  # of a curve that are kept, ends included; its area is that of all


@dataclass(frozen=True, eq=False)
class ClassCurve:
    """The ROC curve of one class: rates at falling thresholds, (P,) each, from (0,0) to (1,1)."""

    label: int
    false_positive: np.ndarray
    true_positive: np.ndarray
    auc: Interval  # Newcombe's 95 % interval
    positives: int  # images of the class


def ranked_pictures(key: str, source: nn.Module, x: Tensor, y: Tensor, eps: float, rng: torch.Generator) -> Tensor:
    """(N,C,H,W) the pictures of one of SETS, made on `source`.

    fgsm: one signed step of length eps (L-infinity, pixel units), pixels in [0,1], also of images that are wrong anyway.
    deepfool: as `boundary.class_auc`: from the class that the source gives, pixels may leave [0,1].
    """
    if key == FGSM:
        goal = Goal.untargeted(y)
        return run(ATTACKS["fgsm"]().walk(source, x, goal, Ball("linf", eps), rng), goal).x
    if key == DEEPFOOL:
        with torch.no_grad():
            predicted = source(x).argmax(1)
        return x + to_boundary(source, x, predicted)
    return x


def log_odds(model: nn.Module, x: Tensor) -> Tensor:
    """(N,K) float64: log p_k - log(1 - p_k), of the logits without rounding p."""
    with torch.no_grad():
        z = model(x).double()
    others = torch.eye(z.shape[1], dtype=torch.bool, device=z.device)
    return z - z[:, None, :].masked_fill(others, -torch.inf).logsumexp(2)


def class_curves(scores: np.ndarray, labels: np.ndarray) -> list[ClassCurve]:
    """Of scores (N,K) and labels (N,): one curve for each class that has images and is not the class of all."""
    found = []
    for k in range(scores.shape[1]):
        rest, own = scores[labels != k, k], scores[labels == k, k]
        if len(own) and len(rest):
            false, true = roc(rest, own)
            at = np.unique(np.linspace(0, len(false) - 1, POINTS).astype(int))
            found.append(ClassCurve(k, false[at], true[at], auc_interval(rest, own), len(own)))
    return found
