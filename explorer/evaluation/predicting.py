"""How often PREDICT answers, and how: the table of arXiv:1902.02918, section 4, as measures (the report's table 4).

Each image is one of five: PREDICT's class is the true one or not ("right"), and is the smoothed classifier's own or not
("accurate"), or it abstains. What the smoothed classifier says is known from far more draws of their own.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from explorer.certify import Precision, Prediction, PredictParams, TopClass, predict_each, top_class
from explorer.certify.noise import IMAGES
from explorer.certify.smoothing import CPU_BATCH, DOUBT, GOLD_DRAWS, GOLD_FIRST, Progress, ShouldStop, check_seed
from explorer.core import Classifier, InvalidValue, wilson
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
    model: Classifier,
    images: Images,
    sigma: float,
    ns: Sequence[int],
    *,
    alpha: float = PredictParams.alpha,
    seed: int | None = None,
    batch: int = CPU_BATCH,
    precision: Precision = "float32",
    sound: bool = False,
    chosen: str = "",
    most: int = GOLD_DRAWS,
    ranks: Ranks = ALONE,
    progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
) -> list[Measure]:
    """One measure for each of the rising numbers of draws `ns`, all from one pass over the images.

    `progress(done, total)` counts images. Errors as for `predict_each`, and InvalidValue without images.
    """
    if len(images) == 0:
        raise InvalidValue("PREDICT needs one image or more; got none.")
    began, seed = time.monotonic(), ranks.gather([check_seed(seed)] * len(ranks.shard(ranks.world)))[0]
    shared = {"batch": batch, "precision": precision, "sound": sound, "should_stop": should_stop}
    mine: list[tuple[list[Prediction], TopClass]] = []
    for row in ranks.shard(len(images)):
        own = shared | {"seed": derived_seed(seed, IMAGES, row)}
        said = predict_each(model, images.x[row], sigma, ns, alpha=alpha, **own)
        mine.append((said, top_class(model, images.x[row], sigma, most=most, **own)))
        if progress is not None:
            progress(min(len(mine) * ranks.world, len(images)), len(images))
    found = ranks.gather(mine)
    gold, labels = [top for _, top in found], images.y.tolist()
    conditions: dict[str, Any] = {
        "seed": seed,
        "batch": batch,
        "data": f"{images.name} {images.split}, {images.source}",
        "chosen": chosen,
        "precision": precision,
        "device": hardware_name(model.device, ranks.world),
        "seconds": round(time.monotonic() - began, 1),
        "sigma": float(sigma),
        "alpha": float(alpha),
        "note": _note(gold, ns, most, sound),
    }
    return [
        _measure([said[at] for said, _ in found], gold, labels, conditions | {"draws": n, "verdict_draws": n})
        for at, n in enumerate(ns)
    ]


def outcome(said: int | None, top: int, label: int) -> str:
    """Which of OUTCOMES: what PREDICT said (None: nothing), the smoothed classifier's class, the true one."""
    if said is None:
        return "abstained"
    return f"{'right' if said == label else 'wrong'}_{'accurate' if said == top else 'inaccurate'}"


def _measure(
    said: Sequence[Prediction], gold: Sequence[TopClass], labels: Sequence[int], conditions: dict[str, Any]
) -> Measure:
    """What one number of draws gives; its accuracy is the share that is right (to abstain is not)."""
    found = [outcome(p.label, top.label, label) for p, top, label in zip(said, gold, labels, strict=True)]
    shares = {}
    for name in OUTCOMES:
        hits = found.count(name)
        low, high = wilson(hits, len(found))
        shares[name] = {"images": hits, "share": hits / len(found), "low": low, "high": high}
    right = sum(one.startswith("right") for one in found)
    return Measure(kind="predict", outcomes=shares, **count(right, len(found)), **conditions)


def _note(gold: Sequence[TopClass], ns: Sequence[int], most: int, sound: bool) -> str:
    """What was called accurate, and what the measures have in common."""
    early, unsure = sum(top.drawn < most for top in gold), sum(top.p_value >= DOUBT for top in gold)
    shared = (
        f"the answers for {', '.join(f'{n:,}' for n in ns)} draws look at the first of the same draws; "
        if len(ns) > 1
        else ""
    )
    return (
        f"smoothed, PREDICT; {shared}accurate: the top class over {most:,} fresh draws, or over fewer, from {GOLD_FIRST:,} on, "
        f"where a test that the top two are equally likely gives p below {DOUBT:g} ({early} of {len(gold)} images); of {unsure} "
        f"the top class is less sure than that; {'sound' if sound else 'not sound'} in floating point"
    )
