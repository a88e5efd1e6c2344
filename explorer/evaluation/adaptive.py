"""A stochastic network under attacks that know what it is: is it robust, or do its draws only hide the gradient?

What a claim of robustness by randomness must stand (Athalye et al., arXiv:1802.00420; Carlini et al.,
arXiv:1902.06705): one fixed draw; gradients averaged over more and more draws until nothing changes; networks without
the random choice but with the same weights; an attack without gradients; images made on a deterministic twin. The
verdict is always the majority of fresh draws, except for the fixed draw, which is judged by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from explorer.attacks import ATTACKS
from explorer.core import USUAL_EPS, Ball, Classifier, InvalidValue
from explorer.core.ranks import ALONE, Ranks
from explorer.data import Images, load
from explorer.evaluation.measure import Measure, count
from explorer.evaluation.robustness import BATCH, ShouldStop, batches, clean_accuracy, robust_accuracy
from explorer.evaluation.standard import StageProgress
from explorer.evaluation.verdict import draw_logits, verdict_draws
from explorer.models import zoo
from explorer.models.variants import FixedDraw, has_winners, with_winners, without_noise

DRAWS = (1, 2, 4, 8, 16, 32, 64, 128)
STEPS = {"steps": 20, "rel_step": 0.125}
SLOW_SHARE = 2  # Square sees every image `queries` x draws times: it gets n / SLOW_SHARE images
QUERIES = 500
QUERY_DRAWS = 20
LINF = Ball("linf", USUAL_EPS["linf"])


@dataclass(frozen=True, eq=False)
class _Test:
    label: str
    attack: Any
    options: dict[str, Any]
    judge: Any = None  # None: the model itself
    slow: bool = False


def adaptive_measures(
    name: str,
    *,
    device: torch.device | str = "cpu",
    n: int = 200,
    seed: int = 0,
    data_seed: int = 0,
    source: str = "auto",
    batch: int = BATCH,
    bf16: bool = False,
    twins: Sequence[str] = (),
    draws: Sequence[int] = DRAWS,
    queries: int = QUERIES,
    ranks: Ranks = ALONE,
    progress: StageProgress | None = None,
    should_stop: ShouldStop | None = None,
) -> Iterator[Measure]:
    """All attacks at Linf 8/255 on the zoo's stochastic model `name` (LWTA, or noise on the input), one Measure after another, clean first.

    The last says on how many images the model held against every one of them (the strongest attack of each image;
    chance verdicts that differ between looks count against it, so it is a low estimate); it covers the images that all
    attacks saw. `twins`: deterministic models to make images on. `draws`: of PGD-20, each power on its own line.
    Raises InvalidValue for a deterministic model, UnknownName, BadCheckpoint, DataUnavailable, Cancelled.
    """
    about, model = zoo.card(name), zoo.load(name, device)
    if not model.stochastic:
        raise InvalidValue(f"model must be stochastic for these measures; {name} is not.")
    images = load(about.dataset, "test", n, data_seed, source)
    chosen = f"{len(images):,}, evenly from all classes, drawn with seed {data_seed}"
    clean = clean_accuracy(model, images, seed=seed, batch=batch, chosen=chosen, ranks=ranks, should_stop=should_stop)
    share = flip_rate(model, images, seed, batch, ranks)
    yield replace(
        clean, variant="the images of these attacks", note=f"{clean.note}; {share:.1%} of single draws say otherwise"
    )
    held = []
    few = load(about.dataset, "test", max(len(images) // SLOW_SHARE, 1), data_seed, source)
    for test in _tests(model, device, twins, draws, queries, seed):
        part = few if test.slow else images
        each: list[bool] = []
        measure = robust_accuracy(
            test.judge or model,
            part,
            test.attack,
            LINF,
            seed=seed,
            batch=batch,
            bf16=bf16,
            chosen=chosen if part is images else f"{len(part):,} of these {chosen}",
            each=each,
            ranks=ranks,
            progress=None if progress is None else partial(progress, test.label),
            should_stop=should_stop,
            **test.options,
        )
        if test.judge is None:
            held.append(each)
        else:  # it is another network
            measure = replace(measure, kind="fixed draw", variant=test.label)
        yield measure
    seen = min(map(len, held))
    every = [all(each[i] for each in held) for i in range(seen)]
    yield replace(
        clean,
        **count(sum(every), seen),
        kind="adaptive",
        attack="all of the above",
        norm=LINF.norm,
        eps=LINF.eps,
        chosen=f"{seen:,} that all attacks saw",
        seconds=0.0,
        note=f"held against each of {len(held)} attacks; a low estimate, as every look at a draw may be the unlucky one",
    )


def flip_rate(model: Classifier, images: Images, seed: int, batch: int, ranks: Ranks = ALONE) -> float:
    """Share of single draws on clean images whose class is not the one most draws give; 20 draws an image."""
    draws, differing = verdict_draws(model), []
    for x, _, rng, _ in batches(images, model, batch, seed, ranks):
        votes = torch.cat([logits.argmax(2) for logits in draw_logits(model, x, rng, draws)])  # (draws,n)
        differing.append(int((votes != votes.mode(0).values).sum()))
    return sum(ranks.gather(differing)) / (draws * len(images))


def _tests(
    model: Classifier,
    device: torch.device | str,
    twins: Sequence[str],
    draws: Sequence[int],
    queries: int,
    seed: int,
) -> Iterator[_Test]:
    pgd, square = ATTACKS["pgd"], ATTACKS["square"]
    thorough = pgd(steps=50, rel_step=0.1)
    fixed = "one draw, fixed, and judged by it"
    yield _Test(fixed, thorough, {}, FixedDraw(model, seed))
    for k in draws:
        yield _Test(f"PGD-20 over {k} draws", pgd(**STEPS, draws=k), {})
    if has_winners(model):
        expected = "expected winners, no draw"
        yield _Test(expected, thorough, {"variant": expected, "craft_on": with_winners(model, "expected")})
        relaxed = "the training's relaxed winners"
        options = {"variant": relaxed, "craft_on": with_winners(model, "relaxed")}
        yield _Test(relaxed, pgd(**STEPS, draws=QUERY_DRAWS), options)
    else:
        quiet = "its noise switched off"
        yield _Test(quiet, thorough, {"variant": quiet, "craft_on": without_noise(model)})
    for twin in twins:
        yield _Test(f"made on {twin}", thorough, {"source_model": twin, "craft_on": zoo.load(twin, device)})
    blind = square(queries=queries, draws=QUERY_DRAWS, early_stop=False)
    yield _Test(f"Square, {QUERY_DRAWS} draws a query", blind, {}, slow=True)
