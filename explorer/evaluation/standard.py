"""The measures that every model's card gets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from explorer.attacks import ATTACKS
from explorer.core import USUAL_EPS, Ball, Classifier
from explorer.core.ranks import ALONE, Ranks
from explorer.data import Images, load
from explorer.evaluation.measure import Measure, merged
from explorer.evaluation.robustness import (
    BATCH,
    ShouldStop,
    accuracy_in_turn,
    clean_accuracy,
    noisy_accuracy,
    robust_accuracy,
)
from explorer.models import zoo

StageProgress = Callable[[str, int, int], None]  # what is being measured, images done, of how many

LINF, L2 = (Ball(norm, USUAL_EPS[norm]) for norm in ("linf", "l2"))
PGD = {"steps": 50, "rel_step": 0.1, "restarts": 3}
DRAWN = {"steps": 20, "rel_step": 0.125, "draws": 20}
PLAIN = (  # from cheap to dear; each gives a card one number
    ("FGSM, Linf 8/255", (("fgsm", {}),), LINF),
    ("PGD-50, Linf 8/255", (("pgd", PGD),), LINF),
    ("PGD-50, L2 0.5", (("pgd", PGD),), L2),
)
IN_TURN = (
    "APGD-CE, then APGD-T, Linf 8/255",
    (("apgd-ce", {"early_stop": True}), ("apgd-t", {"early_stop": True})),
    LINF,
)
DRAWN_PGD = ("PGD-20 over 20 draws, Linf 8/255", (("pgd", DRAWN),), LINF)
AVERAGED = (  # of a stochastic model, whose single answers are noise: nothing leaves early within an attack
    ("FGSM over 20 draws, Linf 8/255", (("fgsm", {"draws": 20}),), LINF),
    DRAWN_PGD,
    ("PGD-20 over 20 draws, L2 0.5", (("pgd", DRAWN),), L2),
    (
        "APGD-CE, then APGD-T, over 10 draws, Linf 8/255",
        (("apgd-ce", {"steps": 30, "draws": 10}), ("apgd-t", {"steps": 20, "target_classes": 3, "draws": 10})),
        LINF,
    ),
)
TRANSFER = ("PGD-50, Linf 8/255", (("pgd", PGD | {"restarts": 1}),), LINF)


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
    thorough: bool = True,
    ranks: Ranks = ALONE,
    progress: StageProgress | None = None,
    should_stop: ShouldStop | None = None,
) -> Iterator[Measure]:
    """Measure the zoo's model `name` on test images, one Measure after another.

    Every model: clean; FGSM and PGD-50 with 3 restarts at Linf 8/255, PGD-50 with 3 restarts at L2 0.5; a deterministic
    one also APGD-CE and then APGD-T on what that left, at Linf 8/255. The base of a smoothed classifier: under its noise,
    too; the attacks are on the network by itself, without noise, and its certificate is another measure. A stochastic one in
    addition: clean with one draw; the same attacks with less steps, averaged over draws; and images made on other models
    (None: all deterministic ones of its dataset). Within one number an image leaves as soon as it is fooled; each number is
    that of its own attacks.

    clean_n, n, averaged_n: test images for the clean measures, the attacks, and the averaged attack (None: all there
    are); a smaller number takes the first of a larger one's. Not `thorough`: PGD without further restarts, no APGD, and of
    the averaged attacks PGD in Linf alone. Raises UnknownName, BadCheckpoint, DataUnavailable,
    InvalidValue, Cancelled.
    """
    about, model = zoo.card(name), zoo.load(name, device)
    jobs = [("clean", clean_n, partial(clean_accuracy, model))]
    if model.stochastic:
        jobs.append(("clean, one draw", clean_n, partial(clean_accuracy, model, draws=1)))
    if about.sigma is not None:
        jobs.append((f"noise of sigma {about.sigma:g}", clean_n, partial(noisy_accuracy, model, sigma=about.sigma)))
    for label, attacks, ball in _plain(model.stochastic, thorough):
        jobs.append((label, n, partial(attacked, model, attacks, ball, bf16=bf16)))
    if model.stochastic:
        for label, attacks, ball in AVERAGED if thorough else (DRAWN_PGD,):
            jobs.append((label, averaged_n, partial(attacked, model, attacks, ball, bf16=bf16)))
        label, attacks, ball = TRANSFER
        for other in _sources(about) if transfer_from is None else transfer_from:
            made = {"craft_on": zoo.load(other, device), "source_model": other}
            jobs.append((f"{label}, made on {other}", n, partial(attacked, model, attacks, ball, bf16=bf16, **made)))
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


def _plain(stochastic: bool, thorough: bool) -> list[tuple[str, Any, Ball]]:
    if thorough:
        return list(PLAIN if stochastic else (*PLAIN, IN_TURN))
    once = {"restarts": 1}
    return [
        (label, [(k, h | once if "restarts" in h else h) for k, h in attacks], ball) for label, attacks, ball in PLAIN
    ]


def attacked(
    model: Classifier, attacks: Sequence[tuple[str, Mapping[str, Any]]], ball: Ball, *, images: Images, **asked: Any
) -> Measure:
    """Share of images that stay right under these attacks (keys and hyper-parameters), one after the other."""
    made = [ATTACKS[key](**hyper) for key, hyper in attacks]
    if len(made) == 1:
        return robust_accuracy(model, images, made[0], ball, **asked)
    return accuracy_in_turn(model, images, made, ball, **asked)


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
