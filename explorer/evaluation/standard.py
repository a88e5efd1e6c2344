"""The measures that every model's card gets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import torch

from explorer.attacks import ATTACKS
from explorer.core import USUAL_EPS, Ball
from explorer.core.ranks import ALONE, Ranks
from explorer.data import load
from explorer.evaluation.measure import Measure, merged
from explorer.evaluation.robustness import BATCH, ShouldStop, clean_accuracy, noisy_accuracy, robust_accuracy
from explorer.models import zoo

StageProgress = Callable[[str, int, int], None]  # what is being measured, images done, of how many

LINF, L2 = (Ball(norm, USUAL_EPS[norm]) for norm in ("linf", "l2"))
PLAIN = (
    ("FGSM, Linf 8/255", "fgsm", {}, LINF),
    ("PGD-50, Linf 8/255", "pgd", {"steps": 50, "rel_step": 0.1}, LINF),
    ("PGD-50, L2 0.5", "pgd", {"steps": 50, "rel_step": 0.1}, L2),
)
AVERAGED = ("PGD-20 over 20 draws, Linf 8/255", "pgd", {"steps": 20, "rel_step": 0.125, "draws": 20}, LINF)
TRANSFER = ("PGD-50, Linf 8/255", "pgd", {"steps": 50, "rel_step": 0.1}, LINF)


def standard_measures(
    name: str,
    *,
    device: torch.device | str = "cpu",
    clean_n: int | None = None,
    n: int | None = 1000,
    averaged_n: int | None = 500,
    seed: int = 0,
    data_seed: int = 0,
    source: str = "auto",
    batch: int = BATCH,
    bf16: bool = False,
    transfer_from: Sequence[str] | None = None,
    ranks: Ranks = ALONE,
    progress: StageProgress | None = None,
    should_stop: ShouldStop | None = None,
) -> Iterator[Measure]:
    """Measure the zoo's model `name` on test images, one Measure after another.

    Every model: clean. The base of a smoothed classifier: under its noise (its certificate is another measure).
    Any other: FGSM and PGD-50 at Linf 8/255, PGD-50 at L2 0.5. A stochastic one in addition: clean with one draw,
    PGD-20 averaged over 20 draws, and images made on other models (None: all deterministic ones of its dataset).

    clean_n, n, averaged_n: test images for the clean measures, the attacks, and the averaged attack (None: all there
    are); a smaller number takes the first of a larger one's. Raises UnknownName, BadCheckpoint, DataUnavailable,
    InvalidValue, Cancelled.
    """
    about, model = zoo.card(name), zoo.load(name, device)
    jobs = [("clean", clean_n, partial(clean_accuracy, model))]
    if model.stochastic:
        jobs.append(("clean, one draw", clean_n, partial(clean_accuracy, model, draws=1)))
    if about.sigma is not None:
        jobs.append((f"noise of sigma {about.sigma:g}", clean_n, partial(noisy_accuracy, model, sigma=about.sigma)))
    else:
        for label, key, hyper, ball in PLAIN:
            jobs.append((label, n, partial(robust_accuracy, model, attack=ATTACKS[key](**hyper), ball=ball, bf16=bf16)))
        if model.stochastic:
            label, key, hyper, ball = AVERAGED
            work = partial(robust_accuracy, model, attack=ATTACKS[key](**hyper), ball=ball, bf16=bf16)
            jobs.append((label, averaged_n, work))
            label, key, hyper, ball = TRANSFER
            for other in _sources(about) if transfer_from is None else transfer_from:
                made = {"craft_on": zoo.load(other, device), "source_model": other}
                work = partial(robust_accuracy, model, attack=ATTACKS[key](**hyper), ball=ball, bf16=bf16, **made)
                jobs.append((f"{label}, made on {other}", n, work))
    for label, size, work in jobs:
        images = load(about.dataset, "test", size, data_seed, source)
        drawn = f"evenly from all classes, drawn with seed {data_seed}"
        yield work(
            images=images,
            seed=seed,
            batch=batch,
            chosen=f"all {len(images):,}" if size is None else f"{size:,}, {drawn}",
            ranks=ranks,
            progress=None if progress is None else partial(progress, label),
            should_stop=should_stop,
        )


def write_measures(name: str, measures: Sequence[Measure]) -> zoo.Card:
    """Put the measures into the model's card; each replaces the one made under the same conditions."""
    about = zoo.card(name)
    done = replace(about, measures=merged(about.measures, [m.to_dict() for m in measures]))
    zoo.write_card(zoo.card_path(name).parent, done)
    return done


def _sources(about: zoo.Card) -> list[str]:
    """Deterministic models of the same dataset: what somebody without access to this one could attack instead."""
    return [
        card.name
        for card in zoo.cards()
        if card.dataset == about.dataset and not card.stochastic and card.sigma is None and card.name != about.name
    ]
