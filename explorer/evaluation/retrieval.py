"""Recall at 1 of an embedding under attack: is the nearest picture of a gallery of the same class (Panum et al., arXiv:2102.07265)?

Two attacks move a query's features: the paper's, away from the nearest picture of its class, and a stronger one, toward
the nearest of another class as well. A query counts as retrieved if it stands both. The gallery stays as it is.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from explorer.core import USUAL_EPS, Ball, Cancelled, Classifier, InvalidValue, seeded
from explorer.core.device import hardware_name
from explorer.data import Images, load
from explorer.defenses.contrastive import distances_between
from explorer.defenses.inner_attacks import projected_ascent
from explorer.defenses.metric import feature_gradient, left_out
from explorer.evaluation.batch_attack import ShouldStop
from explorer.evaluation.measure import Measure, count, single_eps
from explorer.evaluation.robustness import BATCH, FLOAT32, subset
from explorer.evaluation.standard import StageProgress
from explorer.models import zoo

GALLERY = 1000  # pictures that are searched at most, other ones than the queries
STEPS, REL_STEP = 20, 0.125
OBJECTIVES = ("away", "away and toward")  # the paper's attack, the stronger one
LINF = Ball("linf", USUAL_EPS["linf"])


def retrieval_measures(
    name: str,
    *,
    device: torch.device | str = "cpu",
    n: int = 500,
    ball: Ball = LINF,
    steps: int = STEPS,
    seed: int = 0,
    source: str = "auto",
    batch: int = BATCH,
    progress: StageProgress | None = None,
    should_stop: ShouldStop | None = None,
) -> Iterator[Measure]:
    """Recall at 1 of n queries: untouched, under each of OBJECTIVES, and under the worse of the two.

    Queries and gallery are test images of the classes that the card's recipe left out of the metric, all classes where it
    left out none. Raises InvalidValue for n or batch below 1, UnknownName, BadCheckpoint, DataUnavailable, Cancelled.
    """
    if n < 1 or batch < 1:
        raise InvalidValue(f"n and batch must be whole numbers of at least 1; got {n!r} and {batch!r}.")
    about, model = zoo.card(name), zoo.load(name, device)
    queries, gallery, which = _pictures(about, n, source)
    known = torch.cat([_features(model, part) for part in gallery.x.split(batch)])
    held: dict[str, list[Tensor]] = {key: [] for key in ("", *OBJECTIVES)}
    began = time.monotonic()
    rng = seeded(seed)
    for at in range(0, len(queries), batch):
        x, y = (part[at : at + batch].to(model.device) for part in (queries.x, queries.y))
        held[""].append(found(_features(model, x), y, known, gallery.y))
        for key in OBJECTIVES:
            moved = attacked(model, x, y, known, gallery.y, ball, steps, key == OBJECTIVES[1], rng, should_stop)
            held[key].append(held[""][-1] & found(_features(model, moved), y, known, gallery.y))
        if progress is not None:
            progress("retrieval", min(at + batch, len(queries)), len(queries))
    seconds = time.monotonic() - began
    told = partial(_measure, model, queries, which, seed, batch, seconds)
    yield told(torch.cat(held[""]), {}, "retrieval: the nearest picture of the gallery is of its class")
    for key in OBJECTIVES:
        yield told(torch.cat(held[key]), {"objective": key, "steps": steps, "rel_step": REL_STEP}, "", ball)
    worst = torch.cat(held[OBJECTIVES[0]]) & torch.cat(held[OBJECTIVES[1]])
    yield told(worst, {"objective": "worst", "steps": steps, "rel_step": REL_STEP}, "of both attacks", ball)


def found(features: Tensor, y: Tensor, known: Tensor, labels: Tensor) -> Tensor:
    """(N,) bool: the gallery picture nearest to features (N,D) is of class y (N,). `known` (G,D), `labels` (G,)."""
    return labels.to(y.device)[distances_between(features, known).argmin(1)] == y


def attacked(
    model: Classifier,
    x0: Tensor,
    y: Tensor,
    known: Tensor,
    labels: Tensor,
    ball: Ball,
    steps: int,
    toward: bool,
    rng: torch.Generator,
    should_stop: ShouldStop | None = None,
) -> Tensor:
    """(N,C,H,W) the last of `steps` of PGD that ascends the distance to the nearest picture of class y (N,).

    Less, if `toward`, the distance to the nearest of another class; both pictures are chosen anew in each step.
    """
    own = labels.to(y.device)[None] == y[:, None]  # (N, G)

    def objective(features: Tensor) -> Tensor:
        apart = distances_between(features, known)  # (N, G)
        away = apart.masked_fill(~own, torch.inf).amin(1)
        return away - apart.masked_fill(own, torch.inf).amin(1) if toward else away

    def gradient(at: Tensor) -> Tensor:
        if should_stop is not None and should_stop():
            raise Cancelled("The evaluation was stopped before its end, so there is no number.")
        return feature_gradient(model, at, objective, rng)

    region = ball.around(x0)
    return projected_ascent(region.sample(rng), region, ball, steps, REL_STEP, gradient)


def _pictures(about: zoo.Card, n: int, source: str) -> tuple[Images, Images, str]:
    """Queries, gallery, and which classes they are of in words."""
    everything = load(about.dataset, "test", source=source)
    unseen = left_out(str(about.hyper.get("unseen", "")))
    rows = (
        torch.isin(everything.y, torch.tensor(unseen)).nonzero().flatten() if unseen else torch.arange(len(everything))
    )
    rows = rows[torch.randperm(len(rows), generator=seeded(0))]
    if len(rows) < 2 * n:
        raise InvalidValue(
            f"{n:,} queries need a gallery as large, of those classes; there are {len(rows):,} test images."
        )
    gallery = rows[n : n + GALLERY]
    which = f"classes {', '.join(map(str, unseen))}, unseen by the metric" if unseen else "all classes"
    return (
        subset(everything, rows[:n]),
        subset(everything, gallery),
        f"{which}; gallery of {len(gallery):,}, drawn with seed 0",
    )


@torch.no_grad()
def _features(model: Classifier, x: Tensor) -> Tensor:
    return model.features(x.to(model.device)).float()


def _measure(
    model: Classifier,
    queries: Images,
    which: str,
    seed: int,
    batch: int,
    seconds: float,
    kept: Tensor,
    hyper: dict[str, Any],
    note: str,
    ball: Ball | None = None,
) -> Measure:
    return Measure(
        kind="retrieval",
        **count(int(kept.sum()), len(kept)),
        seed=seed,
        batch=batch,
        data=f"{queries.name} {queries.split}, {queries.source}",
        chosen=which,
        precision=FLOAT32,
        device=hardware_name(model.device),
        seconds=round(seconds, 2),
        verdict_draws=1,
        attack=None if ball is None else "pgd",
        hyper=hyper,
        norm=None if ball is None else ball.norm,
        eps=None if ball is None else single_eps(ball),
        note=note,
    )
