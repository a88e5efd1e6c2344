"""Randomized smoothing (Cohen, Rosenfeld, Kolter, arXiv:1902.02918): PREDICT and CERTIFY of its section 3.2.2.

The smoothed classifier g(x) is the class that the network f most often gives to x + N(0, sigma^2 I). CERTIFY proves,
except with probability alpha over its own draws, that g is constant in an L2 ball around x.

The noise is added to the pixels, before the network normalises them, and never clipped: the theorem needs a Gaussian.
(In the `sound` mode rounding and clipping belong to the network: `explorer.certify.sound`.)

A certificate's alpha holds for one run. Repeating until it succeeds, stopping once it looks good or choosing the seed
breaks it: so n is fixed before the first draw, a seed is drawn and recorded when none is given, and a run that was
stopped certifies nothing. The votes may be watched as they come in (`certifying`), with a bound that allows it and that
is not the certificate's. For a stochastic network f is random too; the theorem then also averages over its randomness,
provided that it is drawn anew for every image of a batch.

differs: a draw whose logits are not all finite votes for no class, yet counts in n. (argmax would give NaN to class 0,
and a broken network the largest radius there is.)
"""

from __future__ import annotations

import copy
import math
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, fields, replace
from decimal import ROUND_FLOOR, Decimal
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from explorer.certify.bounds import anytime_lower_bound, certified_radius, check_enough, lower_bound, top_two_p_value
from explorer.certify.noise import ESTIMATION, GOLD, PREDICTION, SELECTION, blocks, noise
from explorer.certify.params import MOST_DRAWS, CertifyParams, PredictParams
from explorer.certify.sound import SLACK, grid, levels_of
from explorer.core import Cancelled, Classifier, InvalidValue, seeded, use_generator
from explorer.core.rng import derived_seed

Precision = Literal["float32", "bfloat16"]
Progress = Callable[[int, int], None]  # draws done, draws in all
ShouldStop = Callable[[], bool]

LARGEST_SEED = 2**63 - 1
GPU_BATCH, CPU_BATCH = 4096, 128  # images per pass when none is given
GOLD_DRAWS, GOLD_FIRST = 100_000, 1000  # that decide what g(x) is: at most, and when it is first looked at
DOUBT = 1e-9  # p-value of the top two classes being equally likely, below which no more is drawn


@dataclass(frozen=True)
class Certificate:
    """What CERTIFY found about one image, and everything needed to repeat it on the same device."""

    label: int | None  # None: abstained, or skipped
    radius: float  # L2, in pixel units; 0 without a label
    p_lower: float  # one-sided lower bound on P(f(x + noise) = selected); 0 when skipped
    selected: int  # the class that the selection draws chose
    selection: tuple[int, ...]  # (K,) votes of the n0 selection draws
    estimation: tuple[int, ...]  # (K,) votes of the n estimation draws; all 0 when skipped
    invalid: int  # draws, of both kinds, that voted for no class: logits not finite, or void noise (`sound`)
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

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Certificate:
        """What `dataclasses.asdict` made, perhaps by way of JSON. Raises InvalidValue unless the votes bear it out."""
        names = {field.name for field in fields(cls)}
        if set(values) != names:
            raise InvalidValue(f"a certificate must have the fields {', '.join(sorted(names))}.")
        found = cls(**values | {kind: tuple(values[kind]) for kind in ("selection", "estimation")})
        due = concluded(found.selection, found.estimation, found.invalid, **found.conditions)
        numbers = ((found.p_lower, due.p_lower), (found.radius, due.radius))  # another scipy may round otherwise
        same = replace(found, p_lower=due.p_lower, radius=due.radius) == due
        if not same or not all(math.isclose(mine, theirs, rel_tol=1e-9) for mine, theirs in numbers):
            raise InvalidValue("the certificate does not follow from its votes.")
        return found

    @property
    def conditions(self) -> dict[str, Any]:
        """What was asked for: everything but the votes and what follows from them."""
        names = ("sigma", "n0", "n", "alpha", "seed", "precision", "skipped", "sound")
        return {name: getattr(self, name) for name in names}

    def answers(self, asked: dict[str, Any], true_label: int | None) -> bool:
        """Whether `certify` asked for this could have given it: sigma, n0, n, alpha, seed, precision and sound are the same."""
        skipped = true_label is not None and self.selected != true_label
        return self.conditions == asked | {"skipped": skipped}


@dataclass(frozen=True)
class Tally:
    """The votes so far, of a certificate that is being made."""

    done: int  # draws of both kinds
    total: int
    selection: tuple[int, ...]  # (K,) votes
    selected: int | None  # once all selection draws have voted
    estimation: tuple[int, ...]  # (K,) votes
    drawn: int  # estimation draws so far
    invalid: int
    p_lower: float  # the largest anytime-valid bound so far: P(it is ever too large) <= alpha
    radius: float | None  # from it; None: nothing yet
    certificate: Certificate | None = None  # in the last one; from all n draws and the bound for a fixed n


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
    sound: bool = False

    @property
    def abstained(self) -> bool:
        return self.label is None


@dataclass(frozen=True)
class TopClass:
    """The class that the smoothed classifier gives one image, as well as many draws can tell."""

    label: int  # most voted for; the first of equals
    p_value: float  # that it and the runner-up are equally likely
    counts: tuple[int, ...]  # (K,) votes
    drawn: int
    seed: int


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
    sound: bool = False,
    true_label: int | None = None,
    progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
) -> Certificate:
    """CERTIFY for one image x (C,H,W) in [0,1]: n0 draws choose the class, n fresh draws bound its probability.

    `batch`: most images in one pass (above 64 a multiple of 64 is used). The noise does not depend on it; a stochastic
    network's own draws do, and so may the last bits of any network's logits.
    `precision`: "bfloat16" runs, and certifies, the network under autocast.
    `sound`: noise on the grid of 8-bit pixels, for an 8-bit picture: the certificate holds in floating point.
    `true_label`: skip the estimation when the selected class is another one. Certified accuracy stays exact, since the
    estimation can only confirm the selected class or abstain, and neither is then certified correct.
    `progress(done, total)` and `should_stop()` are called at least once a pass.

    Raises InvalidValue for anything out of range, Cancelled when `should_stop` says so.
    """
    p = CertifyParams(sigma=sigma, n0=n0, n=n, alpha=alpha)
    sampler = _Sampler.of(model, x, p.sigma, seed, batch, precision, sound)
    _check_certify(p, model, true_label)
    for done, _, certificate in sampler.certificate(p, true_label):  # noqa: B007
        _report(done, p.n0 + p.n, progress, should_stop)
    return certificate


def certifying(
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
    sound: bool = False,
    true_label: int | None = None,
) -> Iterator[Tally]:
    """`certify`, watched: a Tally after each pass; the last one holds the certificate, the same as `certify` gives.

    The bound that runs along is anytime-valid; nothing that it says changes what is drawn. Everything is checked before
    the first draw; raises InvalidValue.
    """
    p = CertifyParams(sigma=sigma, n0=n0, n=n, alpha=alpha)
    sampler = _Sampler.of(model, x, p.sigma, seed, batch, precision, sound)
    _check_certify(p, model, true_label)

    def tallies() -> Iterator[Tally]:
        selected, p_lower = None, 0.0
        for done, (first, second), certificate in sampler.certificate(p, true_label):
            selection, estimation = first.tolist(), second.tolist()
            drawn = max(0, done - p.n0)
            if done >= p.n0:
                selected = _most(selection[:-1])
            if drawn:
                p_lower = max(p_lower, anytime_lower_bound(estimation[selected], drawn, p.alpha))
            yield Tally(
                done=done,
                total=p.n0 + p.n,
                selection=tuple(selection[:-1]),
                selected=selected,
                estimation=tuple(estimation[:-1]),
                drawn=drawn,
                invalid=selection[-1] + estimation[-1],
                p_lower=p_lower,
                radius=certified_radius(p_lower, p.sigma),
                certificate=certificate,
            )

    return tallies()


def concluded(
    selection: tuple[int, ...], estimation: tuple[int, ...], invalid: int, *, skipped: bool, **conditions: Any
) -> Certificate:
    """The certificate that follows from the votes (K,) of both kinds; `conditions` are its other fields."""
    selected = _most(selection)
    p_lower = 0.0 if skipped else lower_bound(estimation[selected], conditions["n"], conditions["alpha"])
    if conditions["sound"]:
        p_lower = max(0.0, p_lower - SLACK)
    radius = certified_radius(p_lower, conditions["sigma"])
    return Certificate(
        label=None if radius is None else selected,
        radius=radius or 0.0,
        p_lower=p_lower,
        selected=selected,
        selection=selection,
        estimation=estimation,
        invalid=invalid,
        skipped=skipped,
        **conditions,
    )


def _most(votes: Sequence[int]) -> int:
    return max(range(len(votes)), key=votes.__getitem__)  # the first of equals, as argmax


def _check_certify(p: CertifyParams, model: Classifier, true_label: int | None) -> None:
    check_enough(p.n, p.alpha)
    if true_label is not None:
        check_labels([true_label], model.num_classes)


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
    sound: bool = False,
    progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
) -> Prediction:
    """PREDICT for one image x (C,H,W) in [0,1]: the class most voted for, unless it is too close to the runner-up.

    Returns a class other than g(x) with probability at most alpha. Options and errors as for `certify`.
    """
    p = PredictParams(sigma=sigma, n=n, alpha=alpha)
    sampler = _Sampler.of(model, x, p.sigma, seed, batch, precision, sound)
    for done, prediction in sampler.prediction(p):  # noqa: B007
        _report(done, p.n, progress, should_stop)
    return prediction


def predicting(
    model: Classifier,
    x: Tensor,
    sigma: float,
    *,
    n: int = PredictParams.n,
    alpha: float = PredictParams.alpha,
    seed: int | None = None,
    batch: int | None = None,
    precision: Precision = "float32",
    sound: bool = False,
) -> Iterator[Prediction | None]:
    """`predict`, pass by pass: None after each, in the end the same Prediction. Raises InvalidValue at once."""
    p = PredictParams(sigma=sigma, n=n, alpha=alpha)
    sampler = _Sampler.of(model, x, p.sigma, seed, batch, precision, sound)
    return (prediction for _, prediction in sampler.prediction(p))


def predict_each(
    model: Classifier,
    x: Tensor,
    sigma: float,
    ns: Sequence[int],
    *,
    alpha: float = PredictParams.alpha,
    seed: int | None = None,
    batch: int | None = None,
    precision: Precision = "float32",
    sound: bool = False,
    progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
) -> list[Prediction]:
    """PREDICT with each of these numbers of draws, from one pass: n of them looks at the first n of the same draws.

    Each answer by itself is what `predict` with that n gives, with its own alpha; they are not independent of each other,
    and to choose one of them is covered by none. Options and errors as for `predict`; `ns` must rise.
    """
    asked = [PredictParams(sigma=sigma, n=n, alpha=alpha) for n in ns]
    if not asked or any(one.n >= two.n for one, two in zip(asked, asked[1:], strict=False)):
        raise InvalidValue(f"the numbers of draws must rise, each larger than the one before; got {list(ns)!r}.")
    sampler = _Sampler.of(model, x, asked[0].sigma, seed, batch, precision, sound)
    found = []
    for done, votes in sampler.votes(PREDICTION, asked[-1].n, stops=[p.n for p in asked]):
        _report(done, asked[-1].n, progress, should_stop)
        if len(found) < len(asked) and done == asked[len(found)].n:
            found.append(sampler.predicted(votes, asked[len(found)]))
    return found


def top_class(
    model: Classifier,
    x: Tensor,
    sigma: float,
    *,
    most: int = GOLD_DRAWS,
    doubt: float = DOUBT,
    seed: int | None = None,
    batch: int | None = None,
    precision: Precision = "float32",
    sound: bool = False,
    should_stop: ShouldStop | None = None,
) -> TopClass:
    """What the smoothed classifier g says of x (C,H,W): the top class over `most` draws, or fewer where that is enough.

    After 1,000 draws and after each doubling it is tested whether the top two classes are equally likely; with a p-value
    below `doubt` the rest is not drawn. No answer of PREDICT with this seed has seen these draws. Errors as for `predict`.
    """
    p = PredictParams(sigma=sigma, n=most)
    sampler = _Sampler.of(model, x, p.sigma, seed, batch, precision, sound)
    looks = [GOLD_FIRST * 2**i for i in range(64) if GOLD_FIRST * 2**i < p.n] + [p.n]
    for done, votes in sampler.votes(GOLD, p.n, stops=looks):
        _report(done, p.n, None, should_stop)
        if done in looks:
            counts = votes.tolist()[:-1]
            p_value = top_two_p_value(counts)
            if p_value < doubt:
                break
    return TopClass(_most(counts), p_value, tuple(counts), done, sampler.seed)


@dataclass(frozen=True, eq=False)
class _Sampler:
    """Checked inputs, ready to be voted on."""

    model: Classifier
    x: Tensor  # (C,H,W) float32 on the model's device
    sigma: float
    seed: int
    batch: int
    precision: Precision
    sound: bool

    @classmethod
    def of(
        cls,
        model: Classifier,
        x: Tensor,
        sigma: float,
        seed: int | None,
        batch: int | None,
        precision: Precision,
        sound: bool,
    ) -> _Sampler:
        """Raises InvalidValue; draws a seed where none is given."""
        check_pixels(x, model.input_shape)
        if model.training:
            raise InvalidValue("the model must be in evaluation mode (model.freeze()); got one in training mode.")
        if precision not in get_args(Precision):
            raise InvalidValue(f"precision must be one of {', '.join(get_args(Precision))}; got {precision!r}.")
        if sound:
            levels_of(x)
        seed = check_seed(seed)
        if batch is None:
            batch = CPU_BATCH if model.device.type == "cpu" else GPU_BATCH
        batch = _whole("batch", batch, 1, MOST_DRAWS)
        return cls(quick(model), x.detach().to(model.device, torch.float32), sigma, seed, batch, precision, bool(sound))

    def certificate(
        self, p: CertifyParams, true_label: int | None
    ) -> Iterator[tuple[int, tuple[Tensor, Tensor], Certificate | None]]:
        """Draws done, the votes (K+1,) of both kinds (on the device, still growing), and in the end the certificate."""
        nothing = torch.zeros(self.model.num_classes + 1, dtype=torch.int64)
        conditions = p.to_dict() | {"seed": self.seed, "precision": self.precision, "sound": self.sound}
        for done, first in self.votes(SELECTION, p.n0):
            yield done, (first, nothing), None
        *selection, unselected = first.tolist()
        skipped = true_label is not None and _most(selection) != true_label
        if skipped:
            none = (0,) * self.model.num_classes
            yield p.n0, (first, nothing), concluded(tuple(selection), none, unselected, skipped=True, **conditions)
            return
        for done, second in self.votes(ESTIMATION, p.n):
            certificate = None
            if done == p.n:
                *estimation, unestimated = second.tolist()
                invalid = unselected + unestimated
                certificate = concluded(tuple(selection), tuple(estimation), invalid, skipped=False, **conditions)
            yield p.n0 + done, (first, second), certificate

    def prediction(self, p: PredictParams) -> Iterator[tuple[int, Prediction | None]]:
        """Draws done, and in the end the prediction."""
        for done, votes in self.votes(PREDICTION, p.n):
            yield done, self.predicted(votes, p) if done == p.n else None

    def predicted(self, votes: Tensor, p: PredictParams) -> Prediction:
        """What follows from the votes (K+1,) of p.n draws."""
        *counts, invalid = votes.tolist()
        p_value = top_two_p_value(counts)
        label = None if p_value > p.alpha else _most(counts)
        kind = {"seed": self.seed, "precision": self.precision, "sound": self.sound}
        return Prediction(label, p_value, tuple(counts), invalid, **p.to_dict(), **kind)

    def votes(self, stream: int, n: int, stops: Sequence[int] = ()) -> Iterator[tuple[int, Tensor]]:
        """Draws done and the votes per class so far (K+1,), the last being invalid draws: at first, and after each pass.

        Also after exactly as many draws as each of `stops` says. The tensor stays on the device and is the same each
        time: nobody who does not look at it makes a GPU wait.
        """
        device, done = self.model.device, 0
        rng = seeded(derived_seed(self.seed, stream), device) if self.model.stochastic else None
        votes = torch.zeros(self.model.num_classes + 1, dtype=torch.int64, device=device)
        yield 0, votes
        for noisy, void in self.noisy(n, stream):
            winners, first = self._winners(noisy, void, rng), done
            done += len(noisy)
            for upto in [*(stop for stop in stops if first < stop < done), done]:
                some = winners[: upto - first]
                winners, first = winners[len(some) :], upto
                votes.scatter_add_(0, some, torch.ones_like(some))  # bincount would make the host wait for the GPU
                yield upto, votes

    def noisy(self, n: int, stream: int) -> Iterator[tuple[Tensor, Tensor | None]]:
        """The noisy pictures (b,C,H,W) on the device, n in all, and which of them are void (`sound` only)."""
        device = self.model.device
        pinned = device.type == "cuda"
        if not self.sound:
            for draws in noise(self.x.shape, n, self.batch, self.seed, stream, pinned):
                noisy = draws.to(device, non_blocking=True)
                yield torch.add(self.x, noisy, alpha=self.sigma, out=noisy), None
            return
        on_grid, levels = grid(self.sigma), levels_of(self.x)
        for steps in blocks(on_grid.draw, torch.int16, self.x.shape, n, self.batch, self.seed, stream, pinned):
            yield on_grid.noisy(levels, steps.to(device, non_blocking=True))

    @torch.inference_mode()
    def _winners(self, noisy: Tensor, void: Tensor | None, rng: torch.Generator | None) -> Tensor:
        """Which class each of the noisy pictures (b,C,H,W) votes for (b,) int64; K: none."""
        logits = self.logits(noisy, rng)  # (b, K)
        invalid = ~logits.isfinite().all(1)
        if void is not None:
            invalid |= void
        return logits.argmax(1).masked_fill_(invalid, self.model.num_classes)

    def logits(self, noisy: Tensor, rng: torch.Generator | None) -> Tensor:
        half = torch.autocast(noisy.device.type, torch.bfloat16) if self.precision == "bfloat16" else nullcontext()
        with use_generator(rng), half:
            return self.model(noisy)


def noisy_copies(
    model: Classifier,
    x: Tensor,
    sigma: float,
    count: int,
    *,
    seed: int,
    precision: Precision = "float32",
    sound: bool = False,
) -> tuple[Tensor, Tensor]:
    """The first `count` of the selection draws that `certify` with this seed puts to the vote, to be looked at.

    Returns the pictures (count,C,H,W) float32 on the CPU, not clipped to [0,1], and the network's class of each (count,).
    """
    sampler = _Sampler.of(model, x, PredictParams(sigma=sigma).sigma, seed, max(1, count), precision, sound)
    rng = seeded(derived_seed(sampler.seed, SELECTION), model.device) if model.stochastic else None
    pictures, classes = [], []
    for noisy, _ in sampler.noisy(count, SELECTION):
        with torch.inference_mode():
            classes.append(sampler.logits(noisy, rng).argmax(1).cpu())
        pictures.append(noisy.cpu())
    return torch.cat(pictures), torch.cat(classes)


def quick(model: Classifier) -> Classifier:
    """The model as it computes fastest (`Classifier.layout`).

    Others may be using the model, so it is left as it is; one that has this layout already is returned as it is.
    """
    layout, kernels = model.layout, [p for p in model.parameters() if p.ndim == 4]
    if all(p.is_contiguous(memory_format=layout) for p in kernels):
        return model
    return copy.deepcopy(model).to(memory_format=layout)


def _report(done: int, total: int, progress: Progress | None, should_stop: ShouldStop | None) -> None:
    """Stops if asked to, else tells how many draws of the whole are done."""
    if should_stop is not None and should_stop():
        raise Cancelled(f"Stopped after {done} of {total} draws; a part of a run certifies nothing.")
    if progress is not None:
        progress(done, total)


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
