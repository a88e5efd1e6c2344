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
from explorer.data import Images, dataset, how_chosen, load
from explorer.evaluation.batch_attack import ShouldStop
from explorer.evaluation.measure import Measure, OfCard, merged
from explorer.evaluation.robustness import BATCH, accuracy_in_turn, clean_accuracy, noisy_accuracy, robust_accuracy
from explorer.models import zoo

StageProgress = Callable[[str, int, int], None]  # what is being measured, images done, of how many

Attacks = tuple[tuple[str, Mapping[str, Any]], ...]  # keys and hyper-parameters, one after the other
Stage = tuple[str, Attacks, Ball]  # with what it is called

LINF, L2 = (Ball(norm, USUAL_EPS[norm]) for norm in ("linf", "l2"))
PGD = {"steps": 50, "rel_step": 0.1, "restarts": 3}
DRAWN = {"steps": 20, "rel_step": 0.125, "draws": 20}
PLAIN: tuple[Stage, ...] = (  # from cheap to dear; each gives a card one number
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
    precision: str = "float32",
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
    for label, attacks, ball in _fit(_plain(model.stochastic, thorough), about):
        jobs.append((label, n, partial(attacked, model, attacks, ball, precision=precision)))
    if model.stochastic:
        for label, attacks, ball in _fit(AVERAGED if thorough else (DRAWN_PGD,), about):
            jobs.append((label, averaged_n, partial(attacked, model, attacks, ball, precision=precision)))
        label, attacks, ball = TRANSFER
        for other in _sources(about) if transfer_from is None else transfer_from:
            made: dict[str, Any] = {"craft_on": zoo.load(other, device), "source_model": other}
            jobs.append(
                (f"{label}, made on {other}", n, partial(attacked, model, attacks, ball, precision=precision, **made))
            )
    there = dataset(about.dataset).rows["test"]
    for label, asked, work in jobs:
        size = None if asked is None or asked >= there else asked  # a small set has fewer
        images = load(about.dataset, "test", size, data_seed, source)
        yield work(
            images=images,
            seed=seed,
            batch=batch,
            chosen=how_chosen(len(images), size, data_seed),
            ranks=ranks,
            progress=None if progress is None else partial(progress, label),
            should_stop=should_stop,
        )


def _plain(stochastic: bool, thorough: bool) -> list[Stage]:
    if thorough:
        return list(PLAIN if stochastic else (*PLAIN, IN_TURN))
    once = {"restarts": 1}
    return [
        (label, tuple((k, {**h, **once} if "restarts" in h else h) for k, h in attacks), ball)
        for label, attacks, ball in PLAIN
    ]


def _fit(stages: Sequence[Stage], about: zoo.Card) -> list[Stage]:
    """Those that the model's classes are enough for: APGD-T's loss, targeted DLR, compares four."""
    few = len(dataset(about.dataset).classes) < 4
    return [stage for stage in stages if not (few and any(key == "apgd-t" for key, _ in stage[1]))]


def attacked(model: Classifier, attacks: Attacks, ball: Ball, *, images: Images, **asked: Any) -> Measure:
    """Share of images that stay right under these attacks, one after the other."""
    made = [ATTACKS[key](**hyper) for key, hyper in attacks]
    if len(made) == 1:
        return robust_accuracy(model, images, made[0], ball, **asked)
    return accuracy_in_turn(model, images, made, ball, **asked)


def write_measures(name: str, measures: Sequence[OfCard]) -> zoo.Card:
    """Put the measures into the model's card, with the weights they are of; each replaces the one made under the same
    conditions.
    """
    about = zoo.card(name)
    done = replace(
        about, measures=merged(about.measures, [m.to_dict() | {"weights": about.identity} for m in measures])
    )
    zoo.write_card(zoo.card_path(name).parent, done)
    return done


def _sources(about: zoo.Card) -> list[str]:
    """Deterministic models of the same dataset: what somebody without access to this one could attack instead."""
    return [
        card.name
        for card in zoo.cards()
        if card.dataset == about.dataset and not card.stochastic and card.sigma is None and card.name != about.name
    ]
