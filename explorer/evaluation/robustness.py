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
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from explorer.attacks import ATTACKS
from explorer.certify.noise import BATCHES
from explorer.core import Attack, Ball, Best, Cancelled, Classifier, Goal, InvalidValue, Step, as_classifier, seeded
from explorer.core.ball import EPS_LIMIT
from explorer.core.device import hardware_name
from explorer.core.ranks import ALONE, Ranks
from explorer.core.rng import derived_seed
from explorer.data import Images
from explorer.evaluation.measure import Measure, count
from explorer.evaluation.verdict import Verdict, verdict_draws, verify

Progress = Callable[[int, int], None]  # images done, of how many
ShouldStop = Callable[[], bool]

BATCH = 250
FLOAT32 = "float32"
BFLOAT16 = "bfloat16 attack, float32 verdict"


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
    """Share of images classified right; for a stochastic model by the majority of `draws` passes (None: 20)."""
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
    ball: Ball,
    *,
    seed: int = 0,
    batch: int = BATCH,
    craft_on: nn.Module | None = None,
    source_model: str | None = None,
    variant: str | None = None,
    each: list[bool] | None = None,
    bf16: bool = False,
    chosen: str = "",
    ranks: Ranks = ALONE,
    progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
) -> Measure:
    """Share of images that are classified right and stay right under the untargeted `attack`.

    `craft_on`: make the images on that model, also where it is wrong anyway, and judge them on this one. It is another
    model, named `source_model` (transfer), or a variant of this very one, described in `variant`.
    `each` is extended by whether each image was right and stayed so.
    `bf16`: the attack runs under bfloat16 autocast; the verdict never does.
    Raises Cancelled when `should_stop` says so, and FloatingPointError where logits or pixels are not finite.
    """
    if (craft_on is None) != (source_model is None and variant is None):
        raise InvalidValue("craft_on and source_model go together: a transfer measure names the model it was made on.")
    began, tallies = time.monotonic(), []
    _check_batch(batch)
    model = as_classifier(model, like=images.x)
    craft_on = None if craft_on is None else as_classifier(craft_on, like=images.x)
    job = partial(_Job, model, craft_on or model, attack, ball, bf16, should_stop)
    for x0, y, rng, done in batches(images, model, max(1, batch // attack.draws), seed, ranks):
        tallies.append(job(rng).one_batch(x0, y))
        if progress is not None:
            progress(done, len(images))
    tally = _joined(ranks.gather(tallies))
    if each is not None:
        each += tally.each
    kind, note = _kind(model, source_model, craft_on or model, attack.draws)
    return Measure(
        kind=kind,
        **count(tally.robust, len(images)),
        attack=ATTACKS.key_of(attack),
        hyper=attack.to_dict(),
        norm=ball.norm,
        eps=ball.eps,
        restarts=attack.restarts,
        draws=attack.draws,
        source_model=source_model,
        variant=variant,
        zero_gradient_share=tally.degenerate / max(tally.gradients, 1),
        median_distance=_median(tally.distances),
        # a smallest change stands at the boundary, where rounding undoes it
        accuracy_8bit=None if attack.budget == "minimal" else tally.robust_8bit / len(images),
        precision=BFLOAT16 if bf16 else FLOAT32,
        note=note,
        **_conditions(model, images, seed, batch, verdict_draws(model), chosen, ranks, began),
    )


def accuracy_in_turn(model: nn.Module, images: Images, attacks: Sequence[Attack], ball: Ball, **asked: Any) -> Measure:
    """Share of images that stay right under all the `attacks`, each on the images that the ones before left standing.

    `asked` as for `robust_accuracy`. The measure's hyper-parameters are all attacks' together; it has no 8-bit accuracy,
    since an image leaves as soon as one attack has fooled the model in float32.
    """
    rows, found = torch.arange(len(images)), []
    for attack in attacks:
        each: list[bool] = []
        found.append(robust_accuracy(model, _chosen(images, rows), attack, ball, each=each, **asked))
        rows = rows[torch.tensor(each, dtype=torch.bool)]
        if len(rows) == 0:
            break
    return replace(
        found[0],
        **count(len(rows), len(images)),
        attack="+".join(ATTACKS.key_of(attack) for attack in attacks),
        hyper={name: value for attack in attacks for name, value in attack.to_dict().items()},
        zero_gradient_share=max(one.zero_gradient_share or 0.0 for one in found),
        accuracy_8bit=None,
        seconds=round(sum(one.seconds for one in found), 2),
    )


def _chosen(images: Images, rows: Tensor) -> Images:
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
        _check(should_stop)
        if sigma is not None:
            x = x + sigma * torch.randn(x.shape, generator=rng, device=rng.device).to(x.device)
        right.append(int(classified_right(verify(model, x, x, Goal.untargeted(y), ANYWHERE, rng, draws), y).sum()))
        if progress is not None:
            progress(done, len(images))
    draws = verdict_draws(model, draws)
    note = f"majority of {draws} draws" if draws > 1 else "one draw an image" if model.stochastic or sigma else ""
    return Measure(
        kind="clean" if sigma is None else "noisy",
        **count(sum(ranks.gather(right)), len(images)),
        sigma=sigma,
        precision=FLOAT32,
        note=note,
        **_conditions(model, images, seed, batch, draws, chosen, ranks, began),
    )


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
    }


def _median(distances: list[float]) -> float | None:
    """The middle one (the lower of two), None if there is none or it is not finite."""
    middle = sorted(distances)[(len(distances) - 1) // 2] if distances else math.inf
    return middle if math.isfinite(middle) else None


def _kind(model: Classifier, source_model: str | None, attacked: Classifier, draws: int) -> tuple[str, str]:
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
        rows = slice(index * size, (index + 1) * size)
        rng = seeded(seed if index == 0 else derived_seed(seed, BATCHES, index))
        done = min((index + ranks.world) * size, len(images))
        yield images.x[rows].to(model.device), images.y[rows].to(model.device), rng, done


def _check_batch(batch: int) -> None:
    if batch < 1:
        raise InvalidValue(f"batch must be a whole number of at least 1; got {batch!r}.")


def _check(should_stop: ShouldStop | None) -> None:
    if should_stop is not None and should_stop():
        raise Cancelled("The evaluation was stopped before its end, so there is no number.")


ANYWHERE = Ball("linf", 1.0)  # for images that no attack has made


def classified_right(verdict: Verdict, y: Tensor) -> Tensor:
    """(N,) bool: the true class has most votes, and is not outvoted by all others together. Ties help nobody."""
    return (verdict.predicted == y.cpu()) & ~verdict.reached


def _held(verdict: Verdict, y: Tensor) -> tuple[Tensor, Tensor]:
    """(N,) bool twice: the attack failed, and it failed once rounded to 8 bits. Outside the ball it has failed anyway."""
    right_8bit = (verdict.predicted_8bit == y.cpu()) & ~verdict.reached_8bit
    return classified_right(verdict, y) | ~verdict.inside, right_8bit | ~verdict.inside


@dataclass
class _Tally:
    """Of one batch, or of all."""

    robust: int = 0
    robust_8bit: int = 0
    each: list[bool] = field(default_factory=list)  # of all images: right, and still so
    distances: list[float] = field(default_factory=list)  # smallest-change attacks: inf where none was found
    degenerate: int = 0
    gradients: int = 0


def _joined(tallies: list[_Tally]) -> _Tally:
    whole = _Tally()
    for tally in tallies:
        for name, value in vars(tally).items():
            setattr(whole, name, getattr(whole, name) + value)
    return whole


@dataclass
class _Job:
    """One attack on one batch."""

    model: Classifier  # judges
    source: Classifier  # is attacked
    attack: Attack
    ball: Ball
    bf16: bool
    should_stop: ShouldStop | None
    rng: torch.Generator
    tally: _Tally = field(default_factory=_Tally)

    @property
    def minimal(self) -> bool:
        return self.attack.budget == "minimal"

    def one_batch(self, x0: Tensor, y: Tensor) -> _Tally:
        """Attack what the judge gets right, whatever the attacked model says about it."""
        right = classified_right(verify(self.model, x0, x0, Goal.untargeted(y), ANYWHERE, self.rng), y)
        if not bool(right.any()):
            self.tally.each += [False] * len(y)
            return self.tally
        one_image = self.source is not self.model or self.model.stochastic or self.minimal
        attacked = self._one_image_each if one_image else self._any_visited
        held, held_8bit = attacked(x0[right], y[right])
        self.tally.each += torch.zeros(len(y), dtype=torch.bool).masked_scatter(right, held).tolist()
        self.tally.robust += int(held.sum())
        self.tally.robust_8bit += int(held_8bit.sum())
        return self.tally

    def _one_image_each(self, x0: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """(n,) still right, and still right in 8 bits: the attack's best (or nearest) image, judged once."""
        goal = Goal.untargeted(y)
        with torch.autocast(x0.device.type, dtype=torch.bfloat16, enabled=self.bf16):
            best = Best(self.minimal, by_loss=self.source.stochastic)
            for step in self._walk(self.attack, x0, goal):
                best.add(step)
        verdict = verify(self.model, best.outcome().x, x0, goal, self.ball, self.rng)
        if self.minimal:
            distance = verdict.linf if self.ball.norm == "linf" else verdict.l2
            self.tally.distances += torch.where(verdict.reached, distance, math.inf).tolist()
        return _held(verdict, y)

    def _any_visited(self, x0: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """(n,) as above, over all images visited; one that is fooled, in 8 bits too, leaves between restarts."""
        held = torch.ones(len(y), dtype=torch.bool)
        held_8bit = held.clone()
        for attempt in _restarts(self.attack):
            rows = (held | held_8bit).nonzero()[:, 0]
            x, labels = x0[rows], y[rows]
            with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=self.bf16):
                for step in self._walk(attempt, x, Goal.untargeted(labels)) if len(rows) else ():
                    overlooked = self.bf16 and step.index == step.total  # rounded logits may hide a success
                    new = (step.reached.cpu() | overlooked) & (held | held_8bit)[rows]
                    if not bool(new.any()):
                        continue
                    goal = Goal.untargeted(labels[new])
                    failed, failed_8bit = _held(
                        verify(self.model, step.x[new], x[new], goal, self.ball, self.rng), labels[new]
                    )
                    held[rows[new]] &= failed
                    held_8bit[rows[new]] &= failed_8bit
                    if not bool((held | held_8bit).any()):
                        break
        return held, held_8bit

    def _walk(self, attack: Attack, x0: Tensor, goal: Goal) -> Iterator[Step]:
        """The attack's steps, counted, and stopped when asked."""
        seen = 0
        ball = Ball(self.ball.norm, EPS_LIMIT[self.ball.norm]) if self.minimal else self.ball
        for step in attack.walk(self.source, x0, goal, ball, self.rng):
            _check(self.should_stop)
            if not bool(torch.isfinite(step.logits).all()):
                raise FloatingPointError("the model's logits are not finite")
            self.tally.degenerate += int(step.degenerate.sum())
            self.tally.gradients += int((step.backwards > seen).sum())
            seen = step.backwards
            yield step


def _restarts(attack: Attack) -> list[Attack]:
    """The attack's restarts as attacks of their own, the later ones from random points, so that images can leave."""
    if attack.restarts == 1:
        return [attack]
    first = replace(attack, restarts=1)
    later = replace(first, random_start=True) if "random_start" in first.to_dict() else first
    return [first] + [later] * (attack.restarts - 1)
