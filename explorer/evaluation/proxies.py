"""Proxies measured against the test set, with real images that nothing was fitted to beside them as the control."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from explorer.core import Classifier, InvalidValue
from explorer.data import raw
from explorer.data.loading import balanced
from explorer.data.samples import Samples
from explorer.proxies.generator import Real, halves
from explorer.proxies.measures import Discriminators, Interval, arc, features_of, frechet, label_accuracy, over_seeds


@dataclass(frozen=True)
class ProxyMeasure:
    """What was measured of one set of images, against as many of the test set."""

    name: str
    sha256: str  # of the samples; empty for the control
    n: int  # images on each side
    frechet: float
    labels: float  # share that the model finds to be of their class
    curves: tuple[tuple[float, ...], ...]  # of each seed: the discriminator's accuracy under attack at each eps
    areas: tuple[float, ...]  # ARC of each seed
    arc: Interval  # mean over the seeds, and Student's 95 % interval


def measure(
    proxies: Sequence[Samples], model: Classifier, model_name: str, of: str, n: int, seeds: int, how: Discriminators,
    tell: Callable[[], None] = lambda: None,
) -> list[ProxyMeasure]:  # fmt: skip
    """The control, then each of the proxies: n images of each (evenly of all classes) against n test images.

    Raises InvalidValue for a stochastic model, and where there are not n of each.
    """
    if model.stochastic:
        raise InvalidValue(f"model must give one answer for an image; {model_name} is random.")
    pixels, labels, _ = raw(of, "test")
    test = Real(pixels, labels, of)
    control = ("other real images (control)", "", halves(of)[1])
    sides = [control, *((str(p.about["name"]), p.sha256, Real(p.pixels, p.labels, of)) for p in proxies)]
    for name, _, one in [("the test set", "", test), *sides]:
        if len(one) < n:
            raise InvalidValue(f"n must be at most {len(one):,}, the images of {name}; got {n:,}.")
    reference = _evenly(test, n)
    seen = features_of(model, reference)
    found = []
    for name, digest, one in sides:
        part = _evenly(one, n)
        arcs = [arc(reference, part, seed, how, tell) for seed in range(seeds)]
        areas = tuple(a.area for a in arcs)
        distance, labelled = frechet(features_of(model, part), seen), label_accuracy(model, part)
        curves = tuple(a.accuracies for a in arcs)
        found.append(ProxyMeasure(name, digest, n, distance, labelled, curves, areas, over_seeds(areas)))
    return found


def _evenly(images: Real, n: int) -> Real:
    rows = balanced(images.labels, n, 0)
    return Real(images.pixels[rows], images.labels[rows], images.dataset)
