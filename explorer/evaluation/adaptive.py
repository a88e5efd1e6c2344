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

from explorer.attacks.pgd import PGD
from explorer.attacks.square import Square
from explorer.core import USUAL_EPS, Ball, Classifier, InvalidValue
from explorer.core.ranks import ALONE, Ranks
from explorer.data import Images, how_chosen, load
from explorer.evaluation.batch_attack import ShouldStop
from explorer.evaluation.measure import Measure, count, packed, single_eps
from explorer.evaluation.robustness import BATCH, Progress, batches, clean_accuracy, robust_accuracy
from explorer.evaluation.standard import StageProgress
from explorer.evaluation.verdict import draw_logits, verdict_draws
from explorer.models import zoo
from explorer.models.variants import FixedDraw, has_winners, with_winners, without_noise

DRAWS = (1, 2, 4, 8, 16, 32, 64, 128)
STEPS, REL_STEP = 20, 0.125
SLOW_SHARE = 2  # Square sees every image `queries` x draws times: it gets n / SLOW_SHARE images
QUERIES = 500
QUERY_DRAWS = 20
LINF = Ball("linf", USUAL_EPS["linf"])


@dataclass(frozen=True, eq=False)
class Test:
    """One attack, in words, and what its images are made on."""

    label: str
    attack: Any
    options: dict[str, Any]
    judge: Any = None  # None: the model itself
    slow: bool = False


@dataclass(frozen=True, eq=False)
class AdaptiveBench:
    """A stochastic model, the images that most attacks see, and the few that slow ones do."""

    model: Classifier
    images: Images
    few: Images
    chosen: str = ""  # in words: which images
    seed: int = 0
    batch: int = BATCH
    precision: str = "float32"
    ranks: Ranks = ALONE
    should_stop: ShouldStop | None = None

    def __post_init__(self) -> None:
        if not self.model.stochastic:
            raise InvalidValue("model must be stochastic for these measures; this one answers the same at every look.")

    def clean(self) -> Measure:
        """On untouched images; its note says how often a single draw differs from the majority."""
        clean = clean_accuracy(
            self.model, self.images, seed=self.seed, batch=self.batch, chosen=self.chosen, ranks=self.ranks, should_stop=self.should_stop,
        )  # fmt: skip
        share = flip_rate(self.model, self.images, self.seed, self.batch, self.ranks)
        note = f"{clean.note}; {share:.1%} of single draws say otherwise"
        return replace(clean, variant="the images of these attacks", note=note)

    def ask(self, test: Test, progress: Progress | None = None) -> tuple[Measure, list[bool]]:
        """What this attack leaves, and of each image that it saw whether the model was right and stayed so."""
        part, each = self.few if test.slow else self.images, list[bool]()
        measure = robust_accuracy(
            test.judge or self.model,
            part,
            test.attack,
            LINF,
            seed=self.seed,
            batch=self.batch,
            precision=self.precision,
            chosen=self.chosen if part is self.images else f"{len(part):,} of these {self.chosen}",
            each=each,
            ranks=self.ranks,
            progress=progress,
            should_stop=self.should_stop,
            **test.options,
        )
        if test.judge is not None:  # it is another network
            measure = replace(measure, kind="fixed draw", variant=test.label)
        return measure, each


def adaptive_measures(
    name: str,
    *,
    device: torch.device | str = "cpu",
    n: int = 200,
    seed: int = 0,
    data_seed: int = 0,
    source: str = "auto",
    batch: int = BATCH,
    precision: str = "float32",
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
    images = load(about.dataset, "test", n, data_seed, source)
    bench = AdaptiveBench(
        model, images, load(about.dataset, "test", max(len(images) // SLOW_SHARE, 1), data_seed, source),
        how_chosen(len(images), n, data_seed), seed, batch, precision, ranks, should_stop,
    )  # fmt: skip
    clean = bench.clean()
    yield clean
    held = []
    for test in adaptive_tests(model, device, twins, draws, queries, seed):
        measure, each = bench.ask(test, None if progress is None else partial(progress, test.label))
        if test.judge is None:
            held.append(each)
        yield measure
    yield _against_all(clean, held)


def _against_all(clean: Measure, held: Sequence[Sequence[bool]]) -> Measure:
    """The share of the images that all attacks saw and none fooled the model on; `held` has one list an attack."""
    every = held_by_all(held)
    seen = len(every)
    return replace(
        clean,
        **count(sum(every), seen),
        verdicts=packed(every),
        margins=[],
        rows="",
        kind="adaptive",
        attack="all of the above",
        norm=LINF.norm,
        eps=single_eps(LINF),
        chosen=f"{seen:,} that all attacks saw",
        seconds=0.0,
        note=f"held against each of {len(held)} attacks; a low estimate, as every look at a draw may be the unlucky one",
    )


def held_by_all(held: Sequence[Sequence[bool]]) -> list[bool]:
    """Of each image that all attacks saw, whether the model held against every one; `held` has one list an attack."""
    return [all(each) for each in zip(*held, strict=False)]  # the shortest list ends it


def flip_rate(model: Classifier, images: Images, seed: int, batch: int, ranks: Ranks = ALONE) -> float:
    """Share of single draws on clean images whose class is not the one most draws give; 20 draws an image."""
    draws, differing = verdict_draws(model), []
    for x, _, rng, _ in batches(images, model, batch, seed, ranks):
        votes = torch.cat([logits.argmax(2) for logits in draw_logits(model, x, rng, draws)])  # (draws,n)
        differing.append(int((votes != votes.mode(0).values).sum()))
    return sum(ranks.gather(differing)) / (draws * len(images))


def adaptive_tests(
    model: Classifier,
    device: torch.device | str,
    twins: Sequence[str] = (),
    draws: Sequence[int] = DRAWS,
    queries: int = QUERIES,
    seed: int = 0,
) -> Iterator[Test]:
    """The attacks, the fixed draw first."""
    thorough = PGD(steps=50, rel_step=0.1)
    fixed = "one draw, fixed, and judged by it"
    yield Test(fixed, thorough, {}, FixedDraw(model, seed))
    for k in draws:
        yield Test(f"PGD-20 over {k} draws", PGD(steps=STEPS, rel_step=REL_STEP, draws=k), {})
    if has_winners(model):
        expected = "expected winners, no draw"
        yield Test(expected, thorough, {"variant": expected, "craft_on": with_winners(model, "expected")})
        relaxed = "the training's relaxed winners"
        options = {"variant": relaxed, "craft_on": with_winners(model, "relaxed")}
        yield Test(relaxed, PGD(steps=STEPS, rel_step=REL_STEP, draws=QUERY_DRAWS), options)
    else:
        quiet = "its noise switched off"
        yield Test(quiet, thorough, {"variant": quiet, "craft_on": without_noise(model)})
    for twin in twins:
        yield Test(f"made on {twin}", thorough, {"source_model": twin, "craft_on": zoo.load(twin, device)})
    blind = Square(queries=queries, draws=QUERY_DRAWS, early_stop=False)
    yield Test(f"Square, {QUERY_DRAWS} draws a query", blind, {}, slow=True)
