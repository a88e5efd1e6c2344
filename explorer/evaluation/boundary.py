"""How far a model's nearest boundary is (rho_2), how it ranks images at another's (AUC), and the eps of reference.

The three measures of the Deep Defense paper (arXiv:1803.00404) and of the report on Fashion-MNIST, as they define them:
DeepFool starts from the class that the model gives, also where that is wrong, and pixels may leave [0, 1].
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from explorer.attacks import ATTACKS
from explorer.core import Ball, Cancelled, Classifier, Goal, as_classifier, run
from explorer.core.ball import EPS_LIMIT
from explorer.core.device import hardware_name
from explorer.core.ranks import ALONE, Ranks
from explorer.data import Images, how_chosen, load
from explorer.defenses.deep_defense import OVERSHOOT, STEPS, relative_length, to_boundary
from explorer.evaluation.batch_attack import ShouldStop
from explorer.evaluation.measure import Measure
from explorer.evaluation.robustness import BATCH, FLOAT32, Progress, batches, clean_accuracy, robust_accuracy
from explorer.evaluation.standard import StageProgress
from explorer.features.measures import auc_interval, mean_interval
from explorer.models import zoo

VANILLA = "fashion_mnist/fashion-mlp"  # on whose DeepFool images the classes are ranked
REFERENCE = "fashion_mnist/deep-defense"  # whose accuracy under one signed step defines the eps of reference
SHARES = (0.2, 0.5, 1.0)  # of the eps of reference
HALF = 0.5  # the accuracy at the eps of reference
FREE = "pixels may leave [0, 1]"


@dataclass(frozen=True)
class BoundaryMeasure:
    """A number about DeepFool images that is no accuracy, with its conditions.

    rho_2: the mean over all n images of |change| / |x| in L2, with Student's 95 % interval. class AUC: how often an image
    of a class gets a higher probability of that class than an image of another class; value is the mean over the classes,
    `classes` has every class's own with Newcombe's 95 % interval, low and high are the lowest and the highest class.
    """

    kind: Literal["rho_2", "class AUC"]
    n: int
    value: float
    low: float
    high: float
    changed: float  # share of the n whose class (of the model that DeepFool attacked) did change
    hyper: dict[str, Any]
    batch: int
    data: str
    chosen: str
    device: str
    seconds: float
    classes: list[list[float]] | None = None  # AUC, low, high of each class
    source_model: str | None = None  # the model that DeepFool attacked, if it is another
    variant: str | None = None
    attack: str = "deepfool"
    norm: str = "l2"
    eps: float | None = None  # a change of any length
    seed: int = 0  # nothing is drawn, but where a gradient is exactly zero
    verdict_draws: int = 1
    precision: str = FLOAT32
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as a card stores them."""
        return asdict(self)


def rho_2(model: nn.Module, images: Images, *, bounded: bool = False, **asked: Any) -> BoundaryMeasure:
    """Mean relative length of DeepFool's change: 5 updates of its authors' algorithm, or (`bounded`) this project's attack.

    The latter keeps pixels in [0, 1] and draws images back to the boundary. `asked`: batch, chosen, ranks, progress,
    should_stop. Raises Cancelled.
    """
    began, model = time.monotonic(), as_classifier(model, like=images.x)
    attack = ATTACKS["deepfool"]()
    change = partial(_bounded, attack) if bounded else _free
    rows = []
    for x, _, rng, _ in _parts(model, images, **asked):
        predicted = _predicted(model, x)
        moved = change(model, x, predicted, rng)
        changed = _predicted(model, x + moved) != predicted
        rows.append(list(zip(relative_length(moved, x).tolist(), changed.tolist(), strict=True)))
    ratios, fooled = zip(*_gathered(rows, asked), strict=True)
    found = mean_interval(np.array(ratios))
    low, high = found.ends
    return BoundaryMeasure(
        kind="rho_2", value=found.value, low=low, high=high, changed=sum(fooled) / len(fooled),
        hyper=attack.to_dict() if bounded else {"steps": STEPS, "overshoot": OVERSHOOT},
        variant=None if bounded else FREE, **_conditions(model, images, began, **asked),
    )  # fmt: skip


def class_auc(
    model: nn.Module, images: Images, source: nn.Module, source_model: str | None, **asked: Any
) -> BoundaryMeasure:
    """Area under each class's ROC curve on the DeepFool images of `source`; its name is None if it is `model` itself."""
    began, rows = time.monotonic(), []
    model, source = as_classifier(model, like=images.x), as_classifier(source, like=images.x)
    for x, y, rng, _ in _parts(model, images, **asked):
        predicted = _predicted(source, x)
        moved = x + _free(source, x, predicted, rng)
        with torch.no_grad():
            p = model(moved).softmax(1)
        changed = _predicted(source, moved) != predicted
        rows.append(list(zip(p.tolist(), y.tolist(), changed.tolist(), strict=True)))
    chances, labels, fooled = map(np.array, zip(*_gathered(rows, asked), strict=True))
    found = (auc_interval(chances[labels != k, k], chances[labels == k, k]) for k in range(chances.shape[1]))
    each = [[one.value, *one.ends] for one in found]
    values = [value for value, _, _ in each]
    return BoundaryMeasure(
        kind="class AUC", value=sum(values) / len(values), low=min(values), high=max(values),
        changed=float(fooled.mean()), classes=each,
        hyper={"steps": STEPS, "overshoot": OVERSHOOT}, variant=FREE, source_model=source_model,
        **_conditions(model, images, began, **asked),
    )  # fmt: skip


def eps_of_reference(model: nn.Module, images: Images, **asked: Any) -> float:
    """The smallest Linf eps (to 1e-4) at which one signed gradient step leaves at most half of the images right."""
    low, high = 0.0, 1.0
    while high - low > 1e-4:
        middle = (low + high) / 2
        held = robust_accuracy(model, images, ATTACKS["fgsm"](), Ball("linf", middle), **asked).accuracy
        low, high = (low, middle) if held <= HALF else (middle, high)
    return high


def boundary_measures(
    name: str,
    *,
    device: torch.device | str = "cpu",
    n: int | None = None,
    seed: int = 0,
    data_seed: int = 0,
    source: str = "auto",
    batch: int = BATCH,
    ranks: Ranks = ALONE,
    progress: StageProgress | None = None,
    should_stop: ShouldStop | None = None,
) -> Iterator[Measure | BoundaryMeasure]:
    """What the report on Fashion-MNIST measures, for the model `name`, on n test images (None: all).

    Clean accuracy; rho_2 as there and with pixels in [0, 1]; the classes' AUC on the vanilla network's DeepFool images;
    accuracy under one signed step of 0.2, 0.5 and 1 eps of reference, which the Deep Defense network defines on the same
    images. Raises UnknownName where one of these is not in the zoo, and what `standard_measures` raises.
    """
    about, model = zoo.card(name), zoo.load(name, device)
    reference, vanilla = zoo.load(REFERENCE, device), zoo.load(VANILLA, device)
    images = load(about.dataset, "test", n, data_seed, source)
    shared = {
        "chosen": how_chosen(len(images), n, data_seed),
        "batch": batch,
        "ranks": ranks,
        "should_stop": should_stop,
    }

    def told(label: str) -> dict[str, Any]:
        return shared | {"progress": None if progress is None else partial(progress, label)}

    yield clean_accuracy(model, images, seed=seed, **told("clean"))
    yield rho_2(model, images, **told("rho_2"))
    yield rho_2(model, images, bounded=True, **told("rho_2, pixels in [0, 1]"))
    own = name == VANILLA
    yield class_auc(model, images, vanilla, None if own else VANILLA, **told("AUC of the classes"))
    eps = eps_of_reference(reference, images, seed=seed, **told("eps of reference"))
    for share in SHARES:
        step = partial(robust_accuracy, model, images, ATTACKS["fgsm"](), Ball("linf", share * eps), seed=seed)
        note = f"{share:g} of the eps of reference, {eps:.4f}: there {REFERENCE} is right on half of the images"
        yield replace(step(**told(f"FGSM, {share:g} eps of reference")), eps_share=share, note=note)


def _predicted(model: Classifier, x: Tensor) -> Tensor:
    with torch.no_grad():
        return model(x).argmax(1)


def _free(model: Classifier, x: Tensor, predicted: Tensor, rng: torch.Generator) -> Tensor:
    return to_boundary(model, x, predicted)


def _bounded(attack: Any, model: Classifier, x: Tensor, predicted: Tensor, rng: torch.Generator) -> Tensor:
    goal = Goal.untargeted(predicted)
    return run(attack.walk(model, x, goal, Ball("l2", EPS_LIMIT["l2"]), rng), goal, minimal=True).x - x


def _parts(
    model: Classifier,
    images: Images,
    *,
    batch: int = BATCH,
    ranks: Ranks = ALONE,
    progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
    chosen: str = "",
) -> Iterator[tuple[Tensor, Tensor, torch.Generator, int]]:
    for part in batches(images, model, batch, 0, ranks):
        if should_stop is not None and should_stop():
            raise Cancelled("The evaluation was stopped before its end, so there is no number.")
        yield part
        if progress is not None:
            progress(part[3], len(images))


def _gathered(rows: list[list[Any]], asked: dict[str, Any]) -> list[Any]:
    """One row an image, from one list a batch of this process."""
    return [row for batch in asked.get("ranks", ALONE).gather(rows) for row in batch]


def _conditions(
    model: Classifier,
    images: Images,
    began: float,
    *,
    batch: int = BATCH,
    ranks: Ranks = ALONE,
    chosen: str = "",
    **_: Any,
) -> dict[str, Any]:
    return {
        "n": len(images),
        "batch": batch,
        "data": f"{images.name} {images.split}, {images.source}",
        "chosen": chosen or f"{len(images):,} images as given",
        "device": hardware_name(model.device, ranks.world),
        "seconds": round(time.monotonic() - began, 2),
    }
