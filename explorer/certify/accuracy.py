"""Certified accuracy by randomized smoothing (arXiv:1902.02918, section 4): certificates of many images, and what they prove."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from explorer.certify.bounds import check_enough, largest_radius
from explorer.certify.noise import IMAGES
from explorer.certify.params import CertifyParams, Progress, ShouldStop, check_labels, check_pixels, check_seed
from explorer.certify.results import Certificate
from explorer.certify.run_log import RunLog
from explorer.certify.smoothed import Smoothed
from explorer.certify.sound import levels_of
from explorer.core import InvalidValue, wilson
from explorer.core.ranks import ALONE, Ranks
from explorer.core.rng import derived_seed


@dataclass(frozen=True)
class CertifiedAccuracy:
    """The share of images certified correct at one L2 radius (pixel units), with its 95 % Wilson interval.

    Each certificate may fail with probability alpha by itself; the interval covers only the choice of the images.
    """

    radius: float
    accuracy: float
    low: float
    high: float
    certified: int
    n: int


def certify_many(
    smoothed: Smoothed,
    x: Tensor,
    y: Tensor | None = None,
    *,
    n0: int = CertifyParams.n0,
    n: int = CertifyParams.n,
    alpha: float = CertifyParams.alpha,
    seed: int | None = None,
    ranks: Ranks = ALONE,
    log: RunLog | None = None,
    progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
) -> Iterator[Certificate]:
    """One Certificate after another for the images x (N,C,H,W); `progress(done, total)` counts draws over all of them.

    With labels y (N,), an image whose selected class is wrong is skipped (`Smoothed.certify`); None estimates them all.
    Each image gets a seed of its own, derived from `seed` and recorded in its certificate, which
    `smoothed.certify(x[i], seed=certificate.seed, ...)` repeats. Everything is checked before the first draw.

    Several processes (`ranks`) share the images out; once the slowest is done, each yields all certificates, which are
    those of one process on the same kind of device. `progress` takes them to be equally fast.

    `log` (one for each process) is told each certificate, and those that it holds are not made again: InvalidValue when
    they come to be yielded, if one is no answer to this question.
    """
    p = CertifyParams(sigma=smoothed.sigma, n0=n0, n=n, alpha=alpha)
    labels = _checked(smoothed, x, y, p)
    seed, each = ranks.gather([check_seed(seed)])[0], p.n0 + p.n  # where it is drawn, the first process's counts

    def mine() -> Iterator[Certificate]:
        for index in ranks.shard(len(x)):
            before = index * each

            def advance(done: int, _: int, before: int = before) -> None:
                if progress is not None:
                    progress(min(before + done * ranks.world, len(x) * each), len(x) * each)

            asked: dict[str, Any] = {"n0": p.n0, "n": p.n, "alpha": p.alpha, "seed": derived_seed(seed, IMAGES, index)}
            hooks: dict[str, Any] = {"progress": advance, "should_stop": should_stop}
            make = partial(smoothed.certify, x[index], **asked, true_label=labels[index], **hooks)
            if log is None:
                certificate = make()
            else:
                conditions = asked | {"sigma": p.sigma, "precision": smoothed.precision, "sound": smoothed.sound}
                certificate = log.find_or_make(index, make, conditions, labels[index])
            advance(each, each)  # a skipped image is done, too
            yield certificate

    def certificates() -> Iterator[Certificate]:
        yield from mine() if ranks.world == 1 else ranks.gather(list(mine()))

    return certificates()


def _checked(smoothed: Smoothed, x: Tensor, y: Tensor | None, p: CertifyParams) -> list[int | None]:
    """The label of each image, None where there are none; raises InvalidValue."""
    check_enough(p.n, p.alpha)
    if not isinstance(x, Tensor) or x.ndim != 4 or len(x) == 0:
        raise InvalidValue(f"x must hold one or more images (N,C,H,W); got {tuple(getattr(x, 'shape', ()))}.")
    model = smoothed.classifier(x)
    for image in x:
        check_pixels(image, model.input_shape)
        if smoothed.sound:
            levels_of(image)
    if y is None:
        return [None] * len(x)
    if tuple(y.shape) != (len(x),):
        raise InvalidValue(f"y must hold one label for each of the {len(x)} images; got shape {tuple(y.shape)}.")
    labels = y.tolist()
    check_labels(labels, model.num_classes)
    return labels


def certified_accuracy(
    certificates: Sequence[Certificate], labels: Sequence[int] | Tensor, radii: Sequence[float]
) -> list[CertifiedAccuracy]:
    """For each radius, the share of images with the right label certified at that radius or beyond.

    Abstentions and skipped images count as not certified. Raises InvalidValue for lengths that differ, a radius that is
    negative or not finite, and an image that was skipped although its selected class is the label given here.
    """
    truth = [int(label) for label in labels]
    if len(truth) != len(certificates) or not truth:
        raise InvalidValue(f"each certificate needs one label; got {len(certificates)} and {len(truth)}.")
    for certificate, label in zip(certificates, truth, strict=True):
        if certificate.skipped and certificate.selected == label:
            raise InvalidValue(f"an image was skipped for another label than {label}; certify it with this one.")
    proven = [c.radius if c.label == label else -1.0 for c, label in zip(certificates, truth, strict=True)]
    table = []
    for radius in radii:
        if not (math.isfinite(radius) and radius >= 0):
            raise InvalidValue(f"a radius must be a finite number of at least 0; got {radius!r}.")
        certified = sum(r >= radius for r in proven)
        low, high = wilson(certified, len(proven))
        table.append(CertifiedAccuracy(float(radius), certified / len(proven), low, high, certified, len(proven)))
    return table


@dataclass(frozen=True)
class Mean:
    """The mean of one number an image, with its approximate 95 % interval over the choice of images (Student's t)."""

    value: float
    low: float
    high: float
    n: int

    @classmethod
    def of(cls, values: Sequence[float], least: float, most: float) -> Mean:
        """Of numbers that lie in [least, most]; one alone says nothing about the interval."""
        from scipy import stats  # takes seconds to import: only who asks waits

        n, mean = len(values), sum(values) / len(values)
        if n == 1:
            return cls(mean, least, most, 1)
        spread = math.sqrt(sum((value - mean) ** 2 for value in values) / (n - 1) / n)
        half = float(stats.t.ppf(0.975, n - 1)) * spread
        return cls(mean, max(least, mean - half), min(most, mean + half), n)


def average_radius(certificates: Sequence[Certificate], labels: Sequence[int] | Tensor) -> Mean:
    """The average certified radius (ACR): 0 for an image that is not certified to be of its true class.

    A few images with large radii weigh much in it: show the whole curve beside it.
    """
    pairs = list(zip(certificates, map(int, labels), strict=True))
    right = [c.radius if c.label == label else 0.0 for c, label in pairs]
    return Mean.of(right, 0.0, max(largest_radius(c.sigma, c.n, c.alpha) for c, _ in pairs))


def accuracy_under_noise(certificates: Sequence[Certificate], labels: Sequence[int] | Tensor) -> Mean:
    """How often the network itself is right about one noisy copy: the selection draws' share of votes for the truth.

    Where it is low there is little to certify: a network that never saw noise.
    """
    pairs = zip(certificates, map(int, labels), strict=True)
    return Mean.of([c.selection[label] / c.n0 for c, label in pairs], 0.0, 1.0)
