"""PREDICT of randomized smoothing over many images: the table of arXiv:1902.02918, section 4, as measures (the report's table 4).

Each image is one of five: PREDICT's class is the true one or not ("right"), and is the smoothed classifier's own or not
("accurate"), or it abstains. What the smoothed classifier says is known from far more draws of their own.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from explorer.certify import Prediction, PredictParams, Smoothed, TopClass
from explorer.certify.noise import IMAGES
from explorer.certify.params import Progress, ShouldStop, check_seed
from explorer.certify.smoothed import GOLD_DRAWS, GOLD_FIRST, GOLD_P_VALUE
from explorer.core import InvalidValue, wilson
from explorer.core.classifier import device_of
from explorer.core.device import hardware_name
from explorer.core.ranks import ALONE, Ranks
from explorer.core.rng import derived_seed
from explorer.data import Images
from explorer.evaluation.measure import Measure, count

OUTCOMES = {
    "right_accurate": "right, accurate",
    "right_inaccurate": "right, inaccurate",
    "wrong_accurate": "wrong, accurate",
    "wrong_inaccurate": "wrong, inaccurate",
    "abstained": "abstains",
}


def predict_measures(
    smoothed: Smoothed,
    images: Images,
    ns: Sequence[int],
    *,
    alpha: float = PredictParams.alpha,
    seed: int | None = None,
    chosen: str = "",
    max_draws: int = GOLD_DRAWS,
    ranks: Ranks = ALONE,
    progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
) -> list[Measure]:
    """One measure for each of the rising numbers of draws `ns`, all from one pass over the images.

    `max_draws`: of the class that counts as the smoothed classifier's own. `progress(done, total)` counts images. Errors as
    for `Smoothed.predict_each`, and InvalidValue without images.
    """
    if len(images) == 0:
        raise InvalidValue("PREDICT needs one image or more; got none.")
    began, seed = time.monotonic(), ranks.gather([check_seed(seed)] * len(ranks.shard(ranks.world)))[0]
    mine: list[tuple[list[Prediction], TopClass]] = []
    for row in ranks.shard(len(images)):
        x, own = images.x[row], derived_seed(seed, IMAGES, row)
        predictions = smoothed.predict_each(x, ns, alpha=alpha, seed=own, should_stop=should_stop)
        mine.append((predictions, smoothed.top_class(x, max_draws=max_draws, seed=own, should_stop=should_stop)))
        if progress is not None:
            progress(min(len(mine) * ranks.world, len(images)), len(images))
    found = ranks.gather(mine)
    gold, labels = [top for _, top in found], images.y.tolist()
    conditions: dict[str, Any] = {
        "seed": seed,
        "batch": smoothed.batch,
        "data": f"{images.name} {images.split}, {images.source}",
        "chosen": chosen,
        "precision": smoothed.precision,
        "device": hardware_name(device_of(smoothed), ranks.world),
        "seconds": round(time.monotonic() - began, 1),
        "sigma": float(smoothed.sigma),
        "alpha": float(alpha),
        "note": _note(gold, ns, max_draws, smoothed.sound),
    }
    return [
        _measure(
            [predictions[at] for predictions, _ in found], gold, labels, conditions | {"draws": n, "verdict_draws": n}
        )
        for at, n in enumerate(ns)
    ]


def outcome(predicted: int | None, top: int, label: int) -> str:
    """Which of OUTCOMES: PREDICT's class (None: it abstained), the smoothed classifier's class, the true one."""
    if predicted is None:
        return "abstained"
    return f"{'right' if predicted == label else 'wrong'}_{'accurate' if predicted == top else 'inaccurate'}"


def _measure(
    predictions: Sequence[Prediction], gold: Sequence[TopClass], labels: Sequence[int], conditions: dict[str, Any]
) -> Measure:
    """What one number of draws gives; its accuracy is the share that is right (to abstain is not)."""
    found = [outcome(p.label, top.label, label) for p, top, label in zip(predictions, gold, labels, strict=True)]
    shares = {}
    for name in OUTCOMES:
        hits = found.count(name)
        low, high = wilson(hits, len(found))
        shares[name] = {"images": hits, "share": hits / len(found), "low": low, "high": high}
    right = sum(one.startswith("right") for one in found)
    return Measure(kind="predict", outcomes=shares, **count(right, len(found)), **conditions)


def _note(gold: Sequence[TopClass], ns: Sequence[int], max_draws: int, sound: bool) -> str:
    """What was called accurate, and what the measures have in common."""
    early, unsure = sum(top.n_drawn < max_draws for top in gold), sum(top.p_value >= GOLD_P_VALUE for top in gold)
    shared = (
        f"the answers for {', '.join(f'{n:,}' for n in ns)} draws look at the first of the same draws; "
        if len(ns) > 1
        else ""
    )
    return (
        f"smoothed, PREDICT; {shared}accurate: the top class over {max_draws:,} fresh draws, or over fewer, from {GOLD_FIRST:,} on, "
        f"where a test that the top two are equally likely gives p below {GOLD_P_VALUE:g} ({early} of {len(gold)} images); of {unsure} "
        f"the top class is less sure than that; {'sound' if sound else 'not sound'} in floating point"
    )
