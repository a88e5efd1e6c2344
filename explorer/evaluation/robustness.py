"""Accuracy over many images: clean, under noise, under an attack, and under one made on another model.

An image counts as robust if it is classified right and stays right; one that is wrong without any attack does not count
and is not attacked.

Deterministic models: one fooling image among all that the attack visits is enough, once float32 confirms it.
Stochastic models: of all images visited, the one of highest mean loss is judged, by the majority of fresh draws; picking
the luckiest of many noisy verdicts would count noise as an attack.
Attacks that look for the smallest change: an image is robust if that change is longer than eps.

Several processes (`ranks`) take whole batches in turn and all return the same measure. Each batch draws from a generator
of its own, which follows from the seed and the batch's place, so that the number of processes changes nothing.

A model is a Classifier or any torch module that `as_classifier` takes for one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from explorer import __version__
from explorer.attacks import ATTACKS
from explorer.certify.noise import BATCHES
from explorer.core import Attack, Classifier, Goal, InvalidValue, ThreatModel, as_classifier, seeded
from explorer.core.device import hardware_name
from explorer.core.precision import climbing_precision
from explorer.core.ranks import ALONE, Ranks
from explorer.core.rng import derived_seed
from explorer.core.versions import arithmetic, code_hash
from explorer.data import Images
from explorer.evaluation.batch_attack import ANYWHERE, BatchAttack, ShouldStop, Tally, joined, stop_if_asked
from explorer.evaluation.measure import Kind, Measure, count, packed, rows_hash, single_eps
from explorer.evaluation.outcome import accepted, classified_right
from explorer.evaluation.verdict import verdict_draws, verify

Progress = Callable[[int, int], None]  # images done, of how many

BATCH = 250
FLOAT32 = "float32"
BFLOAT16 = "bfloat16 attack, float32 verdict"
PRECISION_WORDS = {"float32": FLOAT32, "bfloat16": BFLOAT16}  # as an attack's is named: as a measure says it


def clean_accuracy(
    model: nn.Module,
    images: Images,
    *,
    seed: int = 0,
    batch: int = BATCH,
    draws: int | None = None,
    chosen: str = "",
    ranks: Ranks = ALONE,
    progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
) -> Measure:
    """Share of images classified right; for a stochastic model by the majority of `draws` passes (None: 20).

    Examples:
        >>> from explorer.attacks import ATTACKS
        >>> from explorer.core import Linf
        >>> from explorer.data import load
        >>> from explorer.evaluation import clean_accuracy, robust_accuracy
        >>> from explorer.models import zoo
        >>> model, images = zoo.load("cifar10/lenet"), load("cifar10", n=50, source="sample")
        >>> clean = clean_accuracy(model, images)
        >>> robust = robust_accuracy(model, images, ATTACKS["fgsm"](), Linf(8 / 255))
        >>> clean.n, robust.kind, robust.correct < clean.correct, robust.low <= robust.accuracy <= robust.high
        (50, 'white-box', True, True)
    """
    return _unattacked(model, images, None, seed, batch, draws, chosen, ranks, progress, should_stop)


def noisy_accuracy(
    model: nn.Module,
    images: Images,
    sigma: float,
    *,
    seed: int = 0,
    batch: int = BATCH,
    chosen: str = "",
    ranks: Ranks = ALONE,
    progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
) -> Measure:
    """Share of images classified right after one draw of Gaussian noise of `sigma` on every pixel, not clipped."""
    if not sigma > 0:
        raise InvalidValue(f"sigma must be above 0, in pixel units; got {sigma!r}.")
    return _unattacked(model, images, sigma, seed, batch, 1, chosen, ranks, progress, should_stop)


def robust_accuracy(
    model: nn.Module,
    images: Images,
    attack: Attack,
    threat: ThreatModel,
    *,
    seed: int = 0,
    batch: int = BATCH,
    craft_on: nn.Module | None = None,
    source_model: str | None = None,
    variant: str | None = None,
    each: list[bool] | None = None,
    precision: str = FLOAT32,
    chosen: str = "",
    ranks: Ranks = ALONE,
    progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
) -> Measure:
    """Share of images that are classified right and stay right under the untargeted `attack`.

    `craft_on`: make the images on that model, also where it is wrong anyway, and judge them on this one. It is another
    model, named `source_model` (transfer), or a variant of this very one, described in `variant`.
    `each` is extended by whether each image was right and stayed so.
    `precision`: of the attack's passes, one of `core.precision.PRECISIONS`; the verdict's are in float32.
    Raises Cancelled when `should_stop` says so, and FloatingPointError where logits or pixels are not finite.
    """
    if (craft_on is None) != (source_model is None and variant is None):
        raise InvalidValue("craft_on and source_model go together: a transfer measure names the model it was made on.")
    began, tallies = time.monotonic(), []
    _check_batch(batch)
    model = as_classifier(model, like=images.x)
    craft_on = None if craft_on is None else as_classifier(craft_on, like=images.x)
    climbing = climbing_precision(precision, attack, len(images), craft_on or model)
    job = partial(BatchAttack, model, craft_on or model, attack, threat, climbing, should_stop)
    for x0, y, rng, done in batches(images, model, max(1, batch // attack.draws), seed, ranks):
        tallies.append(job(rng).one_batch(x0, counted(model, x0, y, images.top)))
        if progress is not None:
            progress(done, len(images))
    tallies = ranks.gather(tallies)
    tally = joined(tallies)
    if each is not None:
        each += tally.each
    kind, note = kind_of(model, source_model, craft_on or model, attack.draws)
    note = ", ".join(filter(None, [note, _top_words(images)]))
    return Measure(
        kind=kind,
        attack=ATTACKS.name_of(attack),
        hyper=attack.to_dict(),
        norm=threat.name,
        eps=single_eps(threat),
        restarts=attack.restarts,
        draws=attack.draws,
        source_model=source_model,
        variant=variant,
        **of_tally(tally, attack),
        verdicts=packed(tally.each),
        margins=[round(one.margin, 4) for one in tallies],
        precision=PRECISION_WORDS[climbing],
        note=note,
        **_conditions(model, images, seed, batch, verdict_draws(model), chosen, ranks, began),
    )


def accuracy_in_turn(
    model: nn.Module,
    images: Images,
    attacks: Sequence[Attack],
    threat: ThreatModel,
    measures: list[Measure] | None = None,
    **asked: Any,
) -> Measure:
    """Share of images that stay right under all the `attacks`, each on the images that the ones before left standing.

    `measures` is extended by each attack's own, of those images. `asked` as for `robust_accuracy`.
    The measure's hyper-parameters are all attacks' together; it has no 8-bit accuracy, since an image leaves as soon as one
    attack has fooled the model in float32.
    """
    rows, found, standing = torch.arange(len(images)), [], torch.zeros(len(images), dtype=torch.bool)
    for attack in attacks:
        each: list[bool] = []
        found.append(robust_accuracy(model, subset(images, rows), attack, threat, each=each, **asked))
        rows = rows[torch.tensor(each, dtype=torch.bool)]
        if len(rows) == 0:
            break
    if measures is not None:
        measures += found
    return replace(
        found[0],
        **count(len(rows), len(images)),
        attack="+".join(ATTACKS.name_of(attack) for attack in attacks),
        hyper={name: value for attack in attacks for name, value in attack.to_dict().items()},
        zero_gradient_share=max(one.zero_gradient_share or 0.0 for one in found),
        precision=BFLOAT16 if any(one.precision == BFLOAT16 for one in found) else FLOAT32,
        accuracy_8bit=None,
        verdicts=packed(standing.index_fill(0, rows, True).tolist()),
        margins=[],
        rows=rows_hash(images),
        seconds=round(sum(one.seconds for one in found), 2),
    )


def subset(images: Images, rows: Tensor) -> Images:
    """The images of these rows (M,) int64, in that order."""
    return replace(images, x=images.x[rows], y=images.y[rows], index=images.index[rows])


def _unattacked(
    model: nn.Module,
    images: Images,
    sigma: float | None,
    seed: int,
    batch: int,
    draws: int | None,
    chosen: str,
    ranks: Ranks,
    progress: Progress | None,
    should_stop: ShouldStop | None,
) -> Measure:
    began, right = time.monotonic(), []
    _check_batch(batch)
    model = as_classifier(model, like=images.x)
    for x, y, rng, done in batches(images, model, batch, seed, ranks):
        stop_if_asked(should_stop)
        if sigma is not None:
            x = x + sigma * torch.randn(x.shape, generator=rng, device=rng.device).to(x.device)
        right.append(right_of_batch(model, x, counted(model, x, y, images.top), rng, draws))
        if progress is not None:
            progress(done, len(images))
    each = [one for part in ranks.gather(right) for one in part]
    draws = verdict_draws(model, draws)
    note = f"majority of {draws} draws" if draws > 1 else "one draw an image" if model.stochastic or sigma else ""
    note = ", ".join(filter(None, [note, _top_words(images)]))
    return Measure(
        kind="clean" if sigma is None else "noisy",
        **count(sum(each), len(images)),
        verdicts=packed(each),
        sigma=sigma,
        precision=FLOAT32,
        note=note,
        **_conditions(model, images, seed, batch, draws, chosen, ranks, began),
    )


def counted(model: Classifier, x: Tensor, y: Tensor, top: int) -> Tensor:
    """(n,) the classes that count as right for x (n,C,H,W) of classes y (n,), see `accepted`."""
    if top == 1:
        return y
    with torch.no_grad():
        return accepted(model(x), y, top)


def _top_words(images: Images) -> str:
    return "" if images.top == 1 else f"right: the label is among the top {images.top}"


def right_of_batch(
    model: Classifier, x: Tensor, y: Tensor, rng: torch.Generator, draws: int | None = None
) -> list[bool]:
    """Which of a batch x (n,C,H,W), y (n,) are classified right, as they are."""
    right: list[bool] = classified_right(verify(model, x, x, Goal.untargeted(y), ANYWHERE, rng, draws), y).tolist()
    return right


def _conditions(
    model: Classifier, images: Images, seed: int, batch: int, draws: int, chosen: str, ranks: Ranks, began: float
) -> dict[str, Any]:
    return {
        "seed": seed,
        "batch": batch,
        "verdict_draws": draws,
        "data": f"{images.name} {images.split}, {images.source}",
        "chosen": chosen or f"{len(images):,} images as given",
        "device": hardware_name(model.device, ranks.world),
        "seconds": round(time.monotonic() - began, 2),
        "rows": rows_hash(images),
        "code": f"explorer {__version__}, {arithmetic()}, code {code_hash()}",
    }


def _median(distances: list[float]) -> float | None:
    """The middle one (the lower of two), None if there is none or it is not finite."""
    middle = sorted(distances)[(len(distances) - 1) // 2] if distances else math.inf
    return middle if math.isfinite(middle) else None


def of_tally(tally: Tally, attack: Attack) -> dict[str, Any]:
    """A measure's fields that follow from what was tallied, of all images or of the first ones."""
    n = len(tally.each)
    return {
        **count(tally.robust, n),
        "zero_gradient_share": tally.degenerate / max(tally.gradients, 1),
        "median_distance": _median(tally.distances),
        # a smallest change stands at the boundary, where rounding undoes it
        "accuracy_8bit": None if attack.budget == "minimal" else tally.robust_8bit / n,
    }


def kind_of(model: Classifier, source_model: str | None, attacked: Classifier, draws: int) -> tuple[Kind, str]:
    if source_model is not None:
        return "transfer", ""
    if not model.stochastic:
        return "white-box", ""
    if draws == 1 and attacked.stochastic:
        return "white-box", "not adaptive: one draw of a random network in each step flatters it"
    return "adaptive", ""


def batches(
    images: Images, model: Classifier, size: int, seed: int, ranks: Ranks = ALONE
) -> Iterator[tuple[Tensor, Tensor, torch.Generator, int]]:
    """This process's batches, as x (n,C,H,W) and y (n,) on the model's device, the generator of what is drawn for it, and
    how many images are done with it, of all processes' if they are equally fast.

    The first batch draws from the seed itself, each further one from a seed that follows from it.
    """
    if len(images) == 0:
        raise InvalidValue("an accuracy needs at least one image; got none.")
    for index in ranks.shard(math.ceil(len(images) / size)):
        done = min((index + ranks.world) * size, len(images))
        yield *batch_of(images, model, size, seed, index), done


def batch_of(
    images: Images, model: Classifier, size: int, seed: int, index: int
) -> tuple[Tensor, Tensor, torch.Generator]:
    """Batch number `index` alone: x (n,C,H,W) and y (n,) on the model's device, and its generator."""
    rows = slice(index * size, (index + 1) * size)
    rng = seeded(seed if index == 0 else derived_seed(seed, BATCHES, index))
    return images.x[rows].to(model.device), images.y[rows].to(model.device), rng


def _check_batch(batch: int) -> None:
    if batch < 1:
        raise InvalidValue(f"batch must be a whole number of at least 1; got {batch!r}.")
