"""Can attacked images be told from clean ones by their features? The area under the ROC curve, with its conditions.

The detectors are those of `explorer.features.measures`: fitted to the features of clean reference images, they see an
image's features and the class that the model predicts, nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from explorer.attacks import ATTACKS
from explorer.attacks.pgd import PGD
from explorer.core import USUAL_EPS, Attack, Ball, Cancelled, Classifier, Goal, InvalidValue, run, use_generator
from explorer.core.device import hardware_name
from explorer.core.ranks import ALONE, Ranks
from explorer.data import Images, how_chosen, load
from explorer.evaluation.batch_attack import ANYWHERE, ShouldStop
from explorer.evaluation.measure import single_eps
from explorer.evaluation.outcome import classified_right
from explorer.evaluation.robustness import BATCH, FLOAT32, batches
from explorer.evaluation.standard import StageProgress
from explorer.evaluation.verdict import verdict_draws, verify
from explorer.features import Neighbours, check_features, reference
from explorer.features.measures import DETECTORS, Detection, centre_and_size, detect
from explorer.features.reference import draws_of
from explorer.models import zoo

FALSE_ALARMS = 0.05  # share of clean images, at which `caught` is read off the curve
UNAWARE = "not adaptive: the attack does not know of the detector"
AWARE = "adaptive: once an image is misclassified, the attack evades this detector (arXiv:2106.15023)"
EVADED = "centre"  # the detector that has a gradient, and so an attack of its own
LINF = Ball("linf", USUAL_EPS["linf"])


@dataclass(frozen=True)
class DetectionMeasure:
    """How well a detector tells the attacked images that fool the model from the clean ones that it gets right.

    auc: how often an attacked image looks more suspicious than a clean one (0.5: chance), with Newcombe's 95 % interval;
    it covers the choice of the images, not what an attack that knows more would do.
    """

    detector: str  # one of DETECTORS
    knows_detector: bool  # whether the attack does
    auc: float
    low: float
    high: float
    n: int  # attacked images that fool the model
    clean: int  # clean images, those that the model gets right
    caught: float  # share of the n that are above a threshold which FALSE_ALARMS of the clean ones exceed at most
    reference: int  # clean images that the detector was fitted to, none of them among the above
    attack: str
    hyper: dict[str, Any]
    norm: str
    eps: float  # pixel units
    seed: int
    batch: int
    data: str
    chosen: str
    device: str
    seconds: float
    verdict_draws: int
    note: str
    precision: str = FLOAT32
    kind: str = "detection"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as a card stores them."""
        return asdict(self)


def detection_measures(
    name: str,
    *,
    device: torch.device | str = "cpu",
    n: int = 500,
    attack: Attack | None = None,
    ball: Ball = LINF,
    seed: int = 0,
    data_seed: int = 0,
    source: str = "auto",
    batch: int = BATCH,
    ranks: Ranks = ALONE,
    progress: StageProgress | None = None,
    should_stop: ShouldStop | None = None,
) -> Iterator[DetectionMeasure]:
    """Every detector against `attack` (None: PGD-20), which does not know of it, then one against an attack that does.

    n test images; the detectors are fitted to the bundled sample's other images. The second attack is `Evasion`, with
    the steps of the first. Raises InvalidValue if no image falls, for an attack that is no PGD and for a model without
    features; UnknownName, BadCheckpoint, DataUnavailable, Cancelled.
    """
    attack = PGD() if attack is None else attack
    attack.check_threat(ball)
    if type(attack) is not PGD:
        raise InvalidValue(f"detection is measured with pgd; got {ATTACKS.key_of(attack)}.")
    about, model = zoo.card(name), zoo.load(name, device)
    check_features(model)
    images = load(about.dataset, "test", n, data_seed, source)
    ground = ground_without(model, about, images)
    evasion = Evasion(model, ground, attack.steps, attack.rel_step)
    tries: tuple[tuple[bool, tuple[str, ...], Walk, dict[str, Any]], ...] = (
        (False, tuple(DETECTORS), partial(_unaware, model, attack), attack.to_dict()),
        (True, (EVADED,), evasion.images, {"steps": evasion.steps, "rel_step": evasion.rel_step}),
    )
    for aware, keys, walk, hyper in tries:
        began = time.monotonic()
        label = f"PGD-{attack.steps}{', evading' if aware else ''}"
        told = None if progress is None else partial(progress, label)
        sides = both_sides(model, images, walk, ball, seed, batch, ranks, told, should_stop)
        for key in keys:
            yield DetectionMeasure(
                detector=key,
                knows_detector=aware,
                **_read_off(key, ground, sides),
                attack="pgd",
                hyper=hyper,
                norm=ball.norm,
                eps=single_eps(ball),
                seed=seed,
                batch=batch,
                data=f"{images.name} {images.split}, {images.source}",
                chosen=how_chosen(len(images), n, data_seed),
                device=hardware_name(model.device, ranks.world),
                seconds=round(time.monotonic() - began, 2),
                verdict_draws=verdict_draws(model),
                note=AWARE if aware else UNAWARE,
            )


def _read_off(key: str, ground: Neighbours, sides: Sides) -> dict[str, Any]:
    """The fields of a `DetectionMeasure` that one detector's curve gives."""
    found = detect(key, ground, sides.clean, sides.clean_predicted, sides.attacked, sides.attacked_predicted)
    low, high = found.auc.ends
    return {
        "auc": found.auc.value,
        "low": low,
        "high": high,
        "n": len(sides.attacked),
        "clean": len(sides.clean),
        "caught": caught_at(found, FALSE_ALARMS),
        "reference": len(ground),
    }


def ground_without(model: Classifier, about: zoo.Card, images: Images) -> Neighbours:
    """The features of the bundled sample's images, less those of `images`: what the detectors are fitted to.

    Raises InvalidValue if too few remain.
    """
    whole = reference(model, about.dataset, key=about.identity)
    kept = ~torch.isin(whole.index, images.index)
    labels = whole.labels[kept]
    if len(labels.unique()) < model.num_classes:
        raise InvalidValue(
            f"a detector needs reference images of every class beside the {len(images):,} that it is measured on; "
            f"{len(labels):,} remain. Take fewer, or the full test set."
        )
    return Neighbours(whole.features[kept], labels)


Walk = Callable[
    [Tensor, Tensor, Ball, torch.Generator, ShouldStop | None], Tensor
]  # clean images, labels -> attacked ones


@dataclass(frozen=True, eq=False)
class Sides:
    """What the detectors see of the clean images that the model gets right, and of the attacked ones that fool it."""

    clean: np.ndarray  # (m,D) float32
    clean_predicted: np.ndarray  # (m,) int64
    attacked: np.ndarray  # (n,D)
    attacked_predicted: np.ndarray  # (n,)


def both_sides(
    model: Classifier,
    images: Images,
    walk: Walk,
    ball: Ball,
    seed: int,
    batch: int,
    ranks: Ranks = ALONE,
    progress: Callable[[int, int], None] | None = None,
    should_stop: ShouldStop | None = None,
) -> Sides:
    """Attack what the model gets right. Raises InvalidValue if nothing falls, Cancelled."""
    if batch < 1:
        raise InvalidValue(f"batch must be a whole number of at least 1; got {batch!r}.")
    parts: list[tuple[np.ndarray, ...]] = []
    for x0, y, rng, done in batches(images, model, batch, seed, ranks):
        before = verify(model, x0, x0, Goal.untargeted(y), ANYWHERE, rng)
        right = classified_right(before, y)
        x0, y, goal = x0[right], y[right], Goal.untargeted(y[right])
        if len(y):
            x = walk(x0, y, ball, rng, should_stop)
            after = verify(model, x, x0, goal, ball, rng)
            fell = after.reached & after.inside
            seen = (features(model, part, rng) for part in (x0, x[fell]))
            clean, attacked = seen
            parts.append((clean, before.predicted[right].numpy(), attacked, after.predicted[fell].numpy()))
        if progress is not None:
            progress(done, len(images))
    parts = ranks.gather(parts)
    if not any(len(part[2]) for part in parts):
        raise InvalidValue(
            "no image fell to the attack, so there is nothing to detect: take more images or a larger eps."
        )
    return Sides(*(np.concatenate(side) for side in zip(*parts, strict=True)))


def features(model: Classifier, x: Tensor, rng: torch.Generator) -> np.ndarray:
    """(n,D) float32, as the reference features are made: for a stochastic model means over its draws."""
    if not len(x):
        return np.empty((0, model.features(torch.zeros(1, *model.input_shape, device=x.device)).shape[1]), np.float32)
    draws = draws_of(model)
    with torch.no_grad(), use_generator(rng):
        return model.features(x.repeat_interleave(draws, 0)).float().view(len(x), draws, -1).mean(1).cpu().numpy()


def caught_at(found: Detection, false_alarms: float) -> float:
    """Share of the attacked images above the lowest threshold that at most this share of the clean ones exceeds."""
    return float(found.caught[found.false_alarms <= false_alarms].max())


def _unaware(
    model: Classifier,
    attack: Attack,
    x0: Tensor,
    y: Tensor,
    ball: Ball,
    rng: torch.Generator,
    should_stop: ShouldStop | None,
) -> Tensor:
    goal = Goal.untargeted(y)

    def watched() -> Iterator[Any]:
        for step in attack.walk(model, x0, goal, ball, rng):
            _check(should_stop)
            yield step

    return run(watched(), goal).x


def _check(should_stop: ShouldStop | None) -> None:
    if should_stop is not None and should_stop():
        raise Cancelled("The evaluation was stopped before its end, so there is no number.")


@dataclass(frozen=True, eq=False)
class Evasion:
    """Selective PGD (Bryniarski et al., arXiv:2106.15023) against the detector "centre", one random start.

    A step ascends the margin of the nearest wrong class while the image is classified right, and descends the detector's
    score once it is not. Of each image the least suspicious point that fools the model is kept, else the last.
    A stochastic model's logits and features are means over its draws.
    """

    model: Classifier
    ground: Neighbours
    steps: int
    rel_step: float
    centres: Tensor = field(init=False)  # (K,D)
    sizes: Tensor = field(init=False)  # (K,)

    def __post_init__(self) -> None:
        found = [centre_and_size(self.ground, k) for k in range(self.model.num_classes)]
        device = self.model.device
        object.__setattr__(self, "centres", torch.stack([c for c, _ in found]).float().to(device))
        object.__setattr__(self, "sizes", torch.tensor([s for _, s in found], device=device).float())

    def images(
        self, x0: Tensor, y: Tensor, ball: Ball, rng: torch.Generator, should_stop: ShouldStop | None = None
    ) -> Tensor:
        """(N,C,H,W) inside the ball around x0."""
        region = ball.around(x0)
        x = region.sample(rng)
        best, least = x, torch.full((len(x),), torch.inf, device=x.device)
        for step in range(self.steps + 1):
            _check(should_stop)
            margin, score, gradient = self._look(x, y, rng)
            better = (margin > 0) & (score <= least)
            best = torch.where((better | least.isinf()).view(-1, 1, 1, 1), x, best)
            least = torch.where(better, score, least)
            if step < self.steps:
                x = region.project(x + self.rel_step * ball.eps * ball.steepest(gradient))
        return best

    def _look(self, x: Tensor, y: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """(N,) margin of the best wrong class, (N,) score of the predicted class, and the gradient to ascend."""
        draws = draws_of(self.model)
        with torch.enable_grad(), use_generator(rng):
            leaf = x.detach().requires_grad_(True)
            both = self.model.both(leaf.repeat_interleave(draws, 0))
            logits, seen = (part.float().view(len(x), draws, -1).mean(1) for part in both)
            margin = logits.scatter(1, y[:, None], -torch.inf).amax(1) - logits.gather(1, y[:, None]).squeeze(1)
            predicted = logits.argmax(1)
            score = (seen - self.centres[predicted]).norm(dim=1) / self.sizes[predicted]
            (gradient,) = torch.autograd.grad(torch.where(margin > 0, -score, margin).sum(), leaf)
        return margin.detach(), score.detach(), gradient
