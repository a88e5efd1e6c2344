"""Labels that attacks are to leave: the true class, or the model's own first answer where that counts as right (top 5)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from explorer.core import Classifier, Goal, seeded, use_generator
from explorer.data import dataset
from explorer.engine.batch_request import labels_of
from explorer.engine.request import AttackRequest
from explorer.evaluation.outcome import accepted


def settled(request: AttackRequest, mean: Tensor) -> int:
    """Of one image, by the model's mean logits (1,K) for it; what the model takes it for where nobody said what it shows."""
    if request.label is None:
        return int(mean.argmax())
    if dataset(request.dataset).top == 1:
        return request.label
    return int(accepted(mean, torch.tensor([request.label], device=mean.device), dataset(request.dataset).top))


def leaving(labels: Tensor, true: Tensor | None) -> Goal:
    """Any class but `labels` (N,), as settled, and the true ones (N,) of the same pictures: None where nobody said them."""
    other = true is not None and not bool((labels == true.to(labels.device)).all())
    return Goal.untargeted(labels, true.to(labels.device) if other and true is not None else None)


def goal_of(settled: int, true: int | None, target: int | None, device: torch.device, n: int = 1) -> Goal:
    """What an attack on one picture wants of each of n images: the target, or any class but the settled and the true one."""
    aim = torch.full((n,), settled if target is None else target, device=device)
    if target is not None:
        return Goal.targeted(aim)
    return leaving(aim, None if true is None else torch.full_like(aim, true))


def true_labels(name: str, rows: list[int]) -> Tensor:
    """(N,) int64 of the sample's pictures in these rows."""
    return torch.from_numpy(labels_of(name)[rows])


def settled_rows(model: Classifier, name: str, rows: list[int], x: Tensor, seed: int) -> np.ndarray:
    """(N,) of the sample's pictures x (N,C,H,W) in these rows. One pass more where the dataset counts top 5."""
    labels, top = labels_of(name)[rows], dataset(name).top
    if top == 1:
        return labels
    with torch.no_grad(), use_generator(seeded(seed, model.device)):
        logits = model(x.to(model.device)).cpu()
    return accepted(logits, torch.from_numpy(labels), top).numpy()
