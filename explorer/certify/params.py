"""Parameters of randomized smoothing's PREDICT and CERTIFY: every default, limit and help text, once; and their checks."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from explorer.core import Cancelled, Hyper, InvalidValue, param

MOST_DRAWS = 10_000_000
LARGEST_SEED = 2**63 - 1

Precision = Literal["float32", "bfloat16"]
Progress = Callable[[int, int], None]  # draws done, draws in all
ShouldStop = Callable[[], bool]


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


def check_pixels(x: Tensor, shape: tuple[int, ...]) -> None:
    """Raises InvalidValue unless x is one float image of this shape with finite pixels in [0,1]."""
    if not isinstance(x, Tensor) or not x.is_floating_point() or tuple(x.shape) != shape:
        got = f"{x.dtype} {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
        raise InvalidValue(f"x must be one float image of shape {shape}, as this model takes it; got {got}.")
    low, high = torch.stack([x.min(), x.max()]).tolist()
    if not (low >= 0 and high <= 1):  # also catches NaN, which min and max pass on
        raise InvalidValue(f"pixels must be finite and lie in [0, 1]; got values from {low:g} to {high:g}.")


def check_labels(labels: Sequence[int], num_classes: int) -> None:
    """Raises InvalidValue for a label that is no class of the model."""
    for label in labels:
        check_whole("true_label", label, 0, num_classes - 1)


def check_seed(seed: int | None) -> int:
    """The seed, or a fresh one (53 bits: every JSON reader keeps them all); raises InvalidValue."""
    return secrets.randbits(53) if seed is None else check_whole("seed", seed, 0, LARGEST_SEED)


def check_precision(precision: Precision) -> Precision:
    if precision not in get_args(Precision):
        raise InvalidValue(f"precision must be one of {', '.join(get_args(Precision))}; got {precision!r}.")
    return precision


def check_whole(name: str, value: int, lo: int, hi: int) -> int:
    """The value, a whole number in [lo, hi]; raises InvalidValue."""
    if isinstance(value, bool) or not isinstance(value, int) or not lo <= value <= hi:
        raise InvalidValue(f"{name} must be a whole number in [{lo}, {hi}]; got {value!r}.")
    return value


def report(done: int, total: int, progress: Progress | None, should_stop: ShouldStop | None) -> None:
    """Raises Cancelled if asked to stop, else tells how many draws of the whole are done."""
    if should_stop is not None and should_stop():
        raise Cancelled(f"Stopped after {done} of {total} draws; a part of a run certifies nothing.")
    if progress is not None:
        progress(done, total)
