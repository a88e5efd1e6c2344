"""Unrolled inference under attack: what a pursuit network's steps at test time are worth, number by number.

An architecture that is said to be robust without adversarial training may only hide its gradients, so it is attacked in several ways,
always through all steps: PGD on the cross-entropy and on the margin, Square, which needs no gradient, and pictures of other models.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from explorer.attacks.pgd import PGD
from explorer.attacks.square import Square
from explorer.core import USUAL_EPS, Attack, Ball
from explorer.data import how_chosen, load
from explorer.evaluation.batch_attack import ShouldStop
from explorer.evaluation.measure import Measure
from explorer.evaluation.robustness import BATCH, clean_accuracy, robust_accuracy
from explorer.evaluation.standard import StageProgress
from explorer.models import zoo
from explorer.models.pursuit import with_iterations

QUERIES = 500  # of Square, on every second picture
LINF = Ball("linf", USUAL_EPS["linf"])


def inference_measures(
    name: str,
    iterations: Sequence[int],
    *,
    device: torch.device | str = "cpu",
    n: int = 200,
    ball: Ball = LINF,
    seed: int = 0,
    data_seed: int = 0,
    source: str = "auto",
    batch: int = BATCH,
    twins: Sequence[str] = (),
    progress: StageProgress | None = None,
    should_stop: ShouldStop | None = None,
) -> Iterator[Measure]:
    """Of the zoo's pursuit network `name` with so many steps each: clean accuracy on all test images, and on `n` of them PGD-20 on both
    losses, Square (on half of them) and transfer from `twins`.

    A measure of another number of steps than the network was trained with says so in `variant`.
    Raises InvalidValue for another network or number, UnknownName, BadCheckpoint, DataUnavailable, Cancelled.
    """
    about, trained = zoo.card(name), zoo.load(name, device)
    models = [with_iterations(trained, steps) for steps in iterations]
    everything = load(about.dataset, "test", None, data_seed, source)
    images = load(about.dataset, "test", n, data_seed, source)
    few = load(about.dataset, "test", max(len(images) // 2, 1), data_seed, source)
    asked: dict[str, Any] = {"seed": seed, "batch": batch, "should_stop": should_stop}
    tests: list[tuple[str, Attack, dict[str, Any]]] = [
        ("PGD-20", PGD(steps=20, rel_step=0.125), {}),
        ("PGD-20, margin", PGD(steps=20, rel_step=0.125, loss="margin"), {}),
        ("Square", Square(queries=QUERIES), {}),
    ]
    for twin in twins:
        made: dict[str, Any] = {"source_model": twin, "craft_on": zoo.load(twin, device)}
        tests.append((f"made on {twin}", PGD(steps=20, rel_step=0.125), made))
    for model in models:
        own = model.iterations == about.arguments["iterations"]
        variant = None if own else f"{model.iterations} inference steps"
        chosen = how_chosen(len(images), n, data_seed)
        yield replace(clean_accuracy(model, everything, **asked), variant=variant)
        for label, attack, options in tests:
            part = few if isinstance(attack, Square) else images
            told = None if progress is None else partial(progress, f"{model.iterations} steps, {label}")
            told_of = chosen if part is images else f"{len(part):,} of these {chosen}"
            measure = robust_accuracy(model, part, attack, ball, chosen=told_of, progress=told, **options, **asked)
            yield replace(measure, variant=variant)
