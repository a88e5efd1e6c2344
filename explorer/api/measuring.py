"""Robust accuracy from a script: `explorer.robustness(model, x, y, attacks=("pgd", "apgd-ce"), eps=8/255)`, with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from explorer.api import inputs
from explorer.api.inputs import Labels
from explorer.attacks import ATTACKS
from explorer.core import Attack, InvalidValue, ThreatModel, wilson
from explorer.data import Images
from explorer.engine import eps_text
from explorer.evaluation import Measure, clean_accuracy
from explorer.evaluation.measure import single_eps
from explorer.evaluation.robustness import BATCH, accuracy_in_turn


@dataclass(frozen=True)
class Robustness:
    """Accuracies of n images, as shares; `low` and `high` are the 95 % Wilson interval of `robust`.

    It covers the choice of the images, not what a stronger attack would find.
    """

    n: int
    clean: float  # without any attack
    robust: float  # under all the attacks
    low: float
    high: float
    after: tuple[
        tuple[str, float], ...
    ]  # each attack's key, and the share of all n that is right after it and those before
    measures: tuple[Measure, ...]  # clean, then each attack on what was left, with all their conditions
    norm: str
    eps: float

    def __str__(self) -> str:
        first = self.measures[0]
        rows = [("clean", _with_interval(self.clean, first.low, first.high))]
        rows += [(f"after {key}", _percent(share)) for key, share in self.after]
        rows.append(("robust", f"{_with_interval(self.robust, self.low, self.high)}, at most"))
        width = max(len(what) for what, _ in rows)
        head = f"{self.n:,} image{'' if self.n == 1 else 's'}, {self.norm} {eps_text(self.eps)}; share classified right"
        notes = sorted({measure.note for measure in self.measures if measure.note})
        return "\n".join([head, *(f"  {what:<{width}}  {share}" for what, share in rows), *notes])


def robustness(
    model: nn.Module | str,
    x: Tensor,
    y: Labels,
    attacks: str | Attack | Sequence[str | Attack] = ("pgd", "apgd-ce"),
    *,
    norm: str = "linf",
    eps: float | str | None = None,
    seed: int = 0,
    batch: int | None = None,
) -> Robustness:
    """Share of the images x (N,C,H,W), pixels in [0,1], that are classified as y (N,) under all the `attacks`.

    >>> import explorer
    >>> from explorer.data import load
    >>> images = load("fashion_mnist", n=50)
    >>> found = explorer.robustness("fashion_mnist/fashion-mlp", images.x, images.y, attacks=("fgsm", "pgd"), eps=8 / 255)
    >>> found.clean >= found.after[0][1] >= found.robust
    True
    >>> print(found)  # doctest: +ELLIPSIS
    50 images, linf 8/255; share classified right
      clean       ...

    model, x, y, norm, eps, seed: as for `explorer.attack`.
    attacks: keys, or attacks of the registry with settings (`ATTACKS["pgd"](steps=100)`). Each gets the images that those
        before it left right; of attacks that look for the smallest change an image is fooled if that is no longer than eps.
    batch: images at once; None: 250, and half as many each time memory runs out.

    Each verdict is as a model's card has it (`explorer.evaluation.robust_accuracy`). A random model wants attacks with
    `draws` above 1: one draw a step flatters it, and the result says so. Raises InvalidValue and UnknownName.
    """
    x = inputs.checked_images(x)
    net = inputs.checked_model(model, x)
    y = inputs.checked_labels("y", y, len(x), net.num_classes)
    asked = [inputs.checked_attack(one, {}) for one in _several(attacks)]
    size = inputs.checked_eps(norm, eps)
    if isinstance(size, Tensor):
        raise InvalidValue("eps must be one number here: the result is a share of all images at that eps.")
    threat = asked[0].threat_model(norm, size)
    for one in asked:
        one.check_threat(threat)
    classes = tuple(str(number) for number in range(net.num_classes))
    images = Images(x, y, classes, "images", "given", torch.arange(len(x)), "by a script")

    def measured(batch: int) -> tuple[Measure, list[Measure]]:
        each: list[Measure] = []
        clean = clean_accuracy(net, images, seed=seed, batch=batch)
        accuracy_in_turn(net, images, asked, threat, seed=seed, batch=batch, measures=each)
        return clean, each

    clean, each = inputs.halving(min(BATCH, len(x)), batch, measured)
    return _result(clean, each, asked, threat)


def _result(clean: Measure, each: list[Measure], asked: Sequence[Attack], threat: ThreatModel) -> Robustness:
    """The attacks that found nothing left to attack leave nothing."""
    left = [measure.correct for measure in each] + [0] * (len(asked) - len(each))
    low, high = wilson(left[-1], clean.n)
    after = tuple((ATTACKS.name_of(one), count / clean.n) for one, count in zip(asked, left, strict=True))
    return Robustness(
        clean.n, clean.accuracy, left[-1] / clean.n, low, high, after, (clean, *each), threat.name, single_eps(threat)
    )


def _several(attacks: str | Attack | Sequence[str | Attack]) -> list[str | Attack]:
    found = [attacks] if isinstance(attacks, (str, Attack)) else list(attacks)
    if not found:
        raise InvalidValue("attacks must name at least one attack; got none.")
    return found


def _percent(share: float) -> str:
    return f"{100 * share:5.1f} %"


def _with_interval(share: float, low: float, high: float) -> str:
    return f"{_percent(share)} [{100 * low:.1f}, {100 * high:.1f}]"
