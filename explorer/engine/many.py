"""Attack on a batch of pictures, as work for the scheduler: which model, which pictures, how far each has got."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator, Iterator
from typing import Any

import numpy as np
import torch

from explorer.core import seeded
from explorer.core.precision import climbing_precision
from explorer.core.rng import derived_seed
from explorer.engine.batch import BatchWalk, choose_pictures, last_word_rng, mean_logits, pixels_of
from explorer.engine.batch_request import ManyRequest
from explorer.engine.batch_result import BatchResult, Predictions
from explorer.engine.clock import Clock, timed
from explorer.engine.engine import Engine
from explorer.engine.labels import settled_rows, true_labels
from explorer.engine.tracing import FIRST_LOOK


def many_work(engine: Engine, request: ManyRequest) -> Callable[[], Iterator[BatchResult | None]]:
    """What to give to `engine.submit`. Raises InvalidValue at once if the request asks for more than a page may."""
    asked = request.checked().within()
    return lambda: timed(lambda clock: _work(engine, asked, clock))


def _work(engine: Engine, request: ManyRequest, clock: Clock) -> Generator[BatchResult | None]:
    model = engine.model(request.model)
    rows, (clean,) = yield from choose_pictures(request, {request.model: model})
    x0 = pixels_of(request.dataset, rows).to(engine.device)
    labels = settled_rows(model, request.dataset, rows, x0, request.seed)
    logits = yield from mean_logits(model, x0, seeded(derived_seed(request.seed, FIRST_LOOK)))
    batch = BatchWalk(model, request, climbing_precision(request.precision, request.one.method, request.count, model))
    batch.begin(x0, torch.from_numpy(labels), true_labels(request.dataset, rows), clean)
    before = Predictions.of(logits, labels, batch.before)
    originals = x0.cpu().numpy()
    now = BatchResult(
        request=request,
        rows=np.array(rows),
        labels=labels,
        originals=originals,
        before=before,
        right=batch.right,
        images=originals,
        after=before,
        fooled=np.zeros(len(rows), bool),
        distance=np.zeros(len(rows)),
        curve={},
        planned=request.one.frames - 1,
        seconds=clock.seconds,
    )
    yield now
    if not len(batch.attacked):
        yield dataclasses.replace(now, conditions=_conditions(now, batch, engine, clock), seconds=clock.seconds)
        return
    for step in batch.walk():
        now = _grown(now, batch, step.total, clock)
        yield now
    yield from _judged(now, batch, engine, clock)


def _grown(now: BatchResult, batch: BatchWalk, total: int, clock: Clock) -> BatchResult:
    """The result with what the walk of `total` steps has found so far."""
    best, origin = batch.best, np.zeros(len(now.rows))
    return dataclasses.replace(
        now,
        images=batch.merged(now.originals, best.x.float().cpu().numpy()),
        after=_after(now, batch, batch.logits.float().cpu().numpy()),
        fooled=batch.merged(origin.astype(bool), best.success.cpu().numpy()),
        distance=batch.merged(origin, best.distance.cpu().numpy()),
        shared=None if best.shared is None else best.shared[0].float().cpu().numpy(),
        curve=batch.curve.arrays(),
        planned=total + 1,
        seconds=clock.seconds,
    )


def _after(now: BatchResult, batch: BatchWalk, logits: np.ndarray, predicted: np.ndarray | None = None) -> Predictions:
    """The predictions before, but of the attacked pictures those of their mean logits (A,K)."""
    own, before = Predictions.of(logits, now.labels[batch.attacked], predicted), now.before
    return Predictions(
        predicted=batch.merged(before.predicted, own.predicted),
        sure=batch.merged(before.sure, own.sure),
        margin=batch.merged(before.margin, own.margin),
    )


def _judged(now: BatchResult, batch: BatchWalk, engine: Engine, clock: Clock) -> Iterator[BatchResult | None]:
    """The last word on every best image, on fresh draws."""
    rng = last_word_rng(now.request)
    verdict, fooled = yield from batch.judge(rng)
    logits = yield from mean_logits(batch.model, batch.best.x, rng)
    yield dataclasses.replace(
        now,
        fooled=batch.merged(now.fooled, fooled),
        after=_after(now, batch, logits, verdict.predicted.numpy()),
        distance=batch.merged(now.distance, verdict.distance.numpy()),
        planned=len(batch.curve),
        verdict=verdict,
        conditions=_conditions(now, batch, engine, clock) | {"verdict_draws": verdict.draws},
        seconds=clock.seconds,
    )


def _conditions(now: BatchResult, batch: BatchWalk, engine: Engine, clock: Clock) -> dict[str, Any]:
    return batch.conditions(now.request.chosen_words(), engine.description) | {
        "pictures": now.rows.tolist(),
        "attacked": now.rows[now.right].tolist(),
        "seconds": round(clock.seconds, 3),
    }
