"""Interval bound propagation as a certifier: the largest eps in Linf at which no rival's lead can be positive (arXiv:1810.12715)."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from explorer.certify.certifier import CertifiedRadius, Certifier, Norm, parts
from explorer.certify.certifiers import CERTIFIERS
from explorer.certify.linear_bounds import LinearBounds
from explorer.core import Classifier, InvalidValue, param
from explorer.models import intervals
from explorer.models.variants import in_float64

BATCH = 64  # pictures whose bounds are computed at a time


@dataclass(frozen=True)
class BoundedNetwork(Certifier):
    """A certifier that asks at a distance whether all leads stay positive, and finds the largest such distance by bisection."""

    norm: ClassVar[Norm] = "linf"
    deterministic: ClassVar[bool] = True
    caveat: ClassVar[str] = (
        "Of the network computed in float64, bounds rounded to nearest and not outward: off by about 1e-12 of the logits' size."
    )

    largest: float = param(
        0.5, "largest eps", lo=1e-6, hi=1.0, unit="pixel range", help="Where the search begins: no radius is larger."
    )
    halvings: int = param(12, "halvings", lo=1, hi=40, help="Of the interval that the radius is searched in.")

    def reason_against(self, model: Classifier) -> str | None:
        try:
            LinearBounds(model)
        except InvalidValue as error:
            return str(error)
        return None


@CERTIFIERS.register(
    "interval",
    title="Interval bounds",
    paper="arXiv:1810.12715",
    summary="Least and largest value of every neuron, layer by layer. Small networks; loose unless trained for it; holds always.",
)
@dataclass(frozen=True)
class IntervalBounds(BoundedNetwork):
    """The lower bound of z_y - z_k by intervals, the last layer read as one with the difference."""

    def certificates(
        self, model: Classifier, x: Tensor, *, seeds: Sequence[int] | None = None
    ) -> Iterator[CertifiedRadius | None]:
        self.check(model, x)
        exact = in_float64(model)
        for part in parts(x.double(), BATCH):
            began = time.perf_counter()
            y = exact(part).argmax(1)
            found = torch.zeros(len(part), dtype=torch.float64, device=part.device)
            for trial in range(self.halvings + 1):
                asked = (found + self.largest / 2**trial).clamp(max=self.largest)
                low, high = intervals.around(part, asked.view(-1, 1, 1, 1))
                leads = intervals.margins(exact, low, high, y).scatter(1, y[:, None], torch.inf)
                found = torch.where((leads > 0).all(1), asked, found)
                yield None
            each = (time.perf_counter() - began) / len(part)
            for label, radius in zip(y.tolist(), found.tolist(), strict=True):
                yield CertifiedRadius(label, radius, "linf", 1.0, self.halvings + 2, each)
