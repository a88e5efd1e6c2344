"""What PREDICT and CERTIFY can be asked: every default, limit and help text, once."""

from __future__ import annotations

from dataclasses import dataclass

from explorer.core import Hyper, param

MOST_DRAWS = 10_000_000


@dataclass(frozen=True)
class _Smoothing(Hyper):
    sigma: float = param(
        0.25, "noise sigma", lo=1e-4, hi=10, unit="pixels", step=0.05,
        help="Standard deviation of the Gaussian noise; more noise reaches farther but blurs the image more.",
    )  # fmt: skip
    alpha: float = param(
        0.001, "failure probability", lo=1e-9, hi=0.499,
        help="How often, at most, the answer may be wrong because the draws happened to mislead.",
    )  # fmt: skip


@dataclass(frozen=True)
class PredictParams(_Smoothing):
    """What PREDICT can be asked, with its defaults and limits."""

    n: int = param(1000, "draws", lo=1, hi=MOST_DRAWS, help="Noisy copies of the image that vote.")


@dataclass(frozen=True)
class CertifyParams(_Smoothing):
    """What CERTIFY can be asked, with its defaults and limits."""

    n0: int = param(100, "selection draws", lo=1, hi=MOST_DRAWS, help="Noisy copies that choose the class to certify.")
    n: int = param(10_000, "estimation draws", lo=1, hi=MOST_DRAWS, help="Fresh copies that measure how often it wins.")
