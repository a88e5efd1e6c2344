"""Gaussian smoothing as a certifier: the class that most noisy copies get, constant in an L2 ball (arXiv:1902.02918)."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from explorer.certify.certifier import CertifiedRadius, Certifier, Norm
from explorer.certify.certifiers import CERTIFIERS
from explorer.certify.params import CertifyParams
from explorer.certify.results import Certificate
from explorer.certify.smoothed import Smoothed
from explorer.core import Classifier


@CERTIFIERS.register(
    "gaussian",
    title="Gaussian smoothing",
    paper="arXiv:1902.02918",
    summary="The class that most noisy copies of the picture get. Any network; holds except with probability alpha.",
)
@dataclass(frozen=True)
class GaussianSmoothing(CertifyParams, Certifier):
    """CERTIFY (section 3.2.2), as `Smoothed` does it."""

    norm: ClassVar[Norm] = "l2"
    deterministic: ClassVar[bool] = False
    caveat: ClassVar[str] = "Of the smoothed model, not of the network alone; not sound in floating point."

    def reason_against(self, model: Classifier) -> str | None:
        return None

    def certificates(
        self, model: Classifier, x: Tensor, *, seeds: Sequence[int] | None = None
    ) -> Iterator[CertifiedRadius | None]:
        self.check(model, x)
        smoothed = Smoothed(model, self.sigma)
        for at, picture in enumerate(x):
            began, found = time.perf_counter(), None
            seed = None if seeds is None else seeds[at]
            for now in smoothed.iter_certify(picture, n0=self.n0, n=self.n, alpha=self.alpha, seed=seed):
                found = now.certificate
                if found is None:
                    yield None
            assert found is not None  # in the last one
            yield of_smoothing(found, time.perf_counter() - began)


def of_smoothing(found: Certificate, seconds: float) -> CertifiedRadius:
    """What CERTIFY found, in the words that all kinds share."""
    drawn = found.n0 + (0 if found.skipped else found.n)
    detail = {"votes": list(found.estimation), "seed": found.seed, "p_lower": found.p_lower, "n": found.n}
    return CertifiedRadius(found.label, found.radius, "l2", 1 - found.alpha, drawn, seconds, detail)
