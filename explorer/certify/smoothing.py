"""Randomized smoothing (Cohen, Rosenfeld, Kolter, arXiv:1902.02918): PREDICT and CERTIFY of its section 3.2.2.

The smoothed classifier g(x) is the class that the network f most often gives to x + N(0, sigma^2 I). CERTIFY proves,
except with probability alpha over its own draws, that g is constant in an L2 ball around x.

The noise is added to the pixels, before the network normalises them, and never clipped: the theorem needs a Gaussian.

A certificate's alpha holds for one run. Repeating until it succeeds, stopping once it looks good or choosing the seed
breaks it; so progress reports how many draws are done and never how they voted, and a seed is drawn and recorded when
none is given. For a stochastic network f is random too; the theorem then also averages over its randomness, provided
that it is drawn anew for every image of a batch.

differs: a draw whose logits are not all finite votes for no class, yet counts in n. (argmax would give NaN to class 0,
and a broken network the largest radius there is.)
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal
from typing import Literal, get_args

import torch
from torch import Tensor

from explorer.certify.bounds import certified_radius, lower_bound, top_two_p_value
from explorer.certify.noise import ESTIMATION, PREDICTION, SELECTION, derived_seed, noise
from explorer.certify.params import MOST_DRAWS, CertifyParams, PredictParams
from explorer.core import Cancelled, Classifier, InvalidValue, randomness, seeded

Precision = Literal["float32", "bfloat16"]
Progress = Callable[[int, int], None]  # draws done, draws in all
ShouldStop = Callable[[], bool]

LARGEST_SEED = 2**63 - 1
GPU_BATCH, CPU_BATCH = 4096, 128  # images per pass when none is given


@dataclass(frozen=True)
class Certificate:
    """What CERTIFY found about one image, and everything needed to repeat it on the same device."""

    label: int | None  # None: abstained, or skipped
    radius: float  # L2, in pixel units; 0 without a label
    p_lower: float  # one-sided lower bound on P(f(x + noise) = selected); 0 when skipped
    selected: int  # the class that the selection draws chose
    selection: tuple[int, ...]  # (K,) votes of the n0 selection draws
    estimation: tuple[int, ...]  # (K,) votes of the n estimation draws; all 0 when skipped
    invalid: int  # draws, of both kinds, whose logits were not finite
    sigma: float
    n0: int
    n: int
    alpha: float
    seed: int
    precision: Precision
    skipped: bool = False  # the selected class was not the true one, so nothing was estimated
    sound: bool = False  # in floating point: ordinary float32 noise is not (arXiv:2205.10159)

    @property
    def abstained(self) -> bool:
        return self.label is None and not self.skipped

    @property
    def caveat(self) -> str:
        return "" if self.sound else "not sound in floating point"

    def radius_text(self, digits: int = 3) -> str:
        """The radius rounded down: a proven radius may be understated, never overstated."""
        return str(Decimal(self.radius).quantize(Decimal(1).scaleb(-digits), rounding=ROUND_FLOOR))


@dataclass(frozen=True)
class Prediction:
    """What PREDICT found about one image."""

    label: int | None  # None: abstained
    p_value: float  # of the two-sided test that the top two classes are equally likely
    counts: tuple[int, ...]  # (K,) votes
    invalid: int  # draws whose logits were not finite
    sigma: float
    n: int
    alpha: float
    seed: int
    precision: Precision

    @property
    def abstained(self) -> bool:
        return self.label is None


def certify(
    model: Classifier,
    x: Tensor,
    sigma: float,
    *,
    n0: int = CertifyParams.n0,
    n: int = CertifyParams.n,
    alpha: float = CertifyParams.alpha,
    seed: int | None = None,
    batch: int | None = None,
    precision: Precision = "float32",
    true_label: int | None = None,
    progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
) -> Certificate:
    """CERTIFY for one image x (C,H,W) in [0,1]: n0 draws choose the class, n fresh draws bound its probability.

    `batch`: most images in one pass (above 64 a multiple of 64 is used). The noise does not depend on it; a stochastic
    network's own draws do, and so may the last bits of any network's logits.
    `precision`: "bfloat16" runs, and certifies, the network under autocast.
    `true_label`: skip the estimation when the selected class is another one. Certified accuracy stays exact, since the
    estimation can only confirm the selected class or abstain, and neither is then certified correct.
    `progress(done, total)` and `should_stop()` are called at least once a pass.

    Raises InvalidValue for anything out of range, Cancelled when `should_stop` says so.
    """
    p = CertifyParams(sigma=sigma, n0=n0, n=n, alpha=alpha)
    sampler = _Sampler.of(model, x, p.sigma, seed, batch, precision)
    if true_label is not None:
        check_labels([true_label], model.num_classes)
    total = p.n0 + p.n
    selection, unselected = sampler.count(SELECTION, p.n0, _reporter(0, total, progress, should_stop))
    selected = max(range(model.num_classes), key=selection.__getitem__)  # the first of equals, as argmax
    skipped = true_label is not None and selected != true_label
    estimation, unestimated, p_lower = (0,) * model.num_classes, 0, 0.0
    if not skipped:
        estimation, unestimated = sampler.count(ESTIMATION, p.n, _reporter(p.n0, total, progress, should_stop))
        p_lower = lower_bound(estimation[selected], p.n, p.alpha)
    radius = certified_radius(p_lower, p.sigma)
    return Certificate(
        label=None if radius is None else selected,
        radius=radius or 0.0,
        p_lower=p_lower,
        selected=selected,
        selection=selection,
        estimation=estimation,
        invalid=unselected + unestimated,
        skipped=skipped,
        seed=sampler.seed,
        precision=precision,
        **p.to_dict(),
    )


def predict(
    model: Classifier,
    x: Tensor,
    sigma: float,
    *,
    n: int = PredictParams.n,
    alpha: float = PredictParams.alpha,
    seed: int | None = None,
    batch: int | None = None,
    precision: Precision = "float32",
    progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
) -> Prediction:
    """PREDICT for one image x (C,H,W) in [0,1]: the class most voted for, unless it is too close to the runner-up.

    Returns a class other than g(x) with probability at most alpha. Options and errors as for `certify`.
    """
    p = PredictParams(sigma=sigma, n=n, alpha=alpha)
    sampler = _Sampler.of(model, x, p.sigma, seed, batch, precision)
    counts, invalid = sampler.count(PREDICTION, p.n, _reporter(0, p.n, progress, should_stop))
    p_value = top_two_p_value(counts)
    label = None if p_value > p.alpha else max(range(len(counts)), key=counts.__getitem__)
    return Prediction(label, p_value, counts, invalid, seed=sampler.seed, precision=precision, **p.to_dict())


@dataclass(frozen=True, eq=False)
class _Sampler:
    """Checked inputs, ready to be voted on."""

    model: Classifier
    x: Tensor  # (C,H,W) float32 on the model's device
    sigma: float
    seed: int
    batch: int
    precision: Precision

    @classmethod
    def of(
        cls, model: Classifier, x: Tensor, sigma: float, seed: int | None, batch: int | None, precision: Precision
    ) -> _Sampler:
        """Raises InvalidValue; draws a seed where none is given."""
        check_pixels(x, model.input_shape)
        if model.training:
            raise InvalidValue("the model must be in evaluation mode (model.freeze()); got one in training mode.")
        if precision not in get_args(Precision):
            raise InvalidValue(f"precision must be one of {', '.join(get_args(Precision))}; got {precision!r}.")
        seed = check_seed(seed)
        if batch is None:
            batch = CPU_BATCH if model.device.type == "cpu" else GPU_BATCH
        batch = _whole("batch", batch, 1, MOST_DRAWS)
        return cls(model, x.detach().to(model.device, torch.float32), sigma, seed, batch, precision)

    def count(self, stream: int, n: int, report: Callable[[int], None]) -> tuple[tuple[int, ...], int]:
        """Votes per class (K,) of n draws, and how many draws were invalid. One host sync, at the end."""
        device, done = self.model.device, 0
        rng = seeded(derived_seed(self.seed, stream), device) if self.model.stochastic else None
        votes = torch.zeros(self.model.num_classes + 1, dtype=torch.int64, device=device)  # the last: invalid
        for draws in noise(self.x.shape, n, self.batch, self.seed, stream, pinned=device.type == "cuda"):
            report(done)
            self._vote(draws, votes, rng)
            done += len(draws)
        counts = votes.tolist()
        report(done)
        return tuple(counts[:-1]), counts[-1]

    @torch.inference_mode()
    def _vote(self, draws: Tensor, votes: Tensor, rng: torch.Generator | None) -> None:
        """Adds the votes of the standard normal draws (b,C,H,W), which are overwritten, to `votes` (K+1,)."""
        device = self.model.device
        noisy = draws.to(device, non_blocking=True)
        torch.add(self.x, noisy, alpha=self.sigma, out=noisy)
        half = torch.autocast(device.type, torch.bfloat16) if self.precision == "bfloat16" else nullcontext()
        with randomness(rng), half:
            logits = self.model(noisy)  # (b, K)
        winner = logits.argmax(1).masked_fill_(~logits.isfinite().all(1), len(votes) - 1)
        votes.scatter_add_(0, winner, torch.ones_like(winner))  # bincount would make the host wait for the GPU


def _reporter(
    before: int, total: int, progress: Progress | None, should_stop: ShouldStop | None
) -> Callable[[int], None]:
    """Called with the draws done in this phase: stops if asked to, else tells the progress of the whole."""

    def report(done: int) -> None:
        if should_stop is not None and should_stop():
            raise Cancelled(f"Stopped after {before + done} of {total} draws; a part of a run certifies nothing.")
        if progress is not None:
            progress(before + done, total)

    return report


def check_pixels(x: Tensor, shape: tuple[int, ...]) -> None:
    """Raises InvalidValue unless x is one float image of this shape with finite pixels in [0,1]."""
    if not isinstance(x, Tensor) or not x.is_floating_point() or tuple(x.shape) != shape:
        got = f"{x.dtype} {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
        raise InvalidValue(f"x must be one float image of shape {shape}, as this model takes it; got {got}.")
    low, high = x.min().item(), x.max().item()
    if not (low >= 0 and high <= 1):  # also catches NaN, which min and max pass on
        raise InvalidValue(f"pixels must be finite and lie in [0, 1]; got values from {low:g} to {high:g}.")


def check_labels(labels: list[int], num_classes: int) -> None:
    """Raises InvalidValue for a label that is no class of the model."""
    for label in labels:
        _whole("true_label", label, 0, num_classes - 1)


def check_seed(seed: int | None) -> int:
    """The seed, or a fresh one (53 bits: every JSON reader keeps them all); raises InvalidValue."""
    return secrets.randbits(53) if seed is None else _whole("seed", seed, 0, LARGEST_SEED)


def _whole(name: str, value: int, lo: int, hi: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not lo <= value <= hi:
        raise InvalidValue(f"{name} must be a whole number in [{lo}, {hi}]; got {value!r}.")
    return value
