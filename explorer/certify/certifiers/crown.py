"""CROWN as a certifier: the largest eps in Linf that linear bounds prove, never less than intervals do (arXiv:1811.00866)."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from explorer.certify.certifier import CertifiedRadius
from explorer.certify.certifiers import CERTIFIERS
from explorer.certify.certifiers.interval import BoundedNetwork, IntervalBounds
from explorer.certify.linear_bounds import LinearBounds
from explorer.core import Classifier
from explorer.models.intervals import around


@CERTIFIERS.register(
    "crown",
    title="CROWN",
    paper="arXiv:1811.00866",
    summary="Each ReLU between two lines, pulled back to the pixels. Small networks; tighter than intervals; holds always.",
)
@dataclass(frozen=True)
class Crown(BoundedNetwork):
    """Bisection upward from what intervals prove."""

    def certificates(
        self, model: Classifier, x: Tensor, *, seeds: Sequence[int] | None = None
    ) -> Iterator[CertifiedRadius | None]:
        self.check(model, x)
        bounds = LinearBounds(model)
        for picture in x.double():
            began, proven = time.perf_counter(), None
            for found in IntervalBounds(largest=self.largest, halvings=self.halvings).certificates(
                model, picture[None]
            ):
                proven = found
                if proven is None:
                    yield None
            assert proven is not None and proven.label is not None  # it answers for each picture
            y = torch.tensor([proven.label], device=x.device)
            radius, beyond, asked, passes = proven.radius, self.largest, self.largest, proven.passes
            for _ in range(self.halvings + 1):
                if radius == self.largest:
                    break
                leads = bounds.margins(*around(picture[None], asked), y)[0]
                leads[proven.label] = torch.inf
                radius, beyond = (asked, beyond) if bool((leads > 0).all()) else (radius, asked)
                asked, passes = (radius + beyond) / 2, passes + 1
                yield None
            yield CertifiedRadius(proven.label, radius, "linf", 1.0, passes, time.perf_counter() - began)
