"""Randomized smoothing (Cohen, Rosenfeld, Kolter, arXiv:1902.02918): `Smoothed(model, sigma)` predicts and certifies.

The smoothed classifier g(x) is the class that the network f most often gives to x + N(0, sigma^2 I). CERTIFY (section
3.2.2) proves, except with probability alpha over its own draws, that g is constant in an L2 ball around x:

    smoothed = Smoothed(zoo.load("cifar10/gaussian-0.25"), sigma=0.25)
    certificate = smoothed.certify(x, n0=100, n=10_000, alpha=0.001)  # x: (C,H,W) in [0,1]
    print(certificate.label, certificate.radius_text())

The noise is added to the pixels, before the network normalises them, and never clipped: the theorem needs a Gaussian.
(In the `sound` mode rounding and clipping belong to the network: `explorer.certify.sound`.)

A certificate's alpha holds for one run. Repeating until it succeeds, stopping once it looks good or choosing the seed
breaks it: so n is fixed before the first draw, a seed is drawn and recorded when none is given, and a run that was
stopped certifies nothing. The votes may be watched as they come in (`iter_certify`), with a bound that allows it and
that is not the certificate's. For a stochastic network f is random too; the theorem then also averages over its
randomness, provided that it is drawn anew for every image of a batch.

differs: a draw whose logits are not all finite votes for no class, yet counts in n. (argmax would give NaN to class 0,
and a broken network the largest radius there is.)
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from explorer.certify.bounds import anytime_lower_bound, certified_radius, check_enough, top_two_p_value
from explorer.certify.noise import ESTIMATION, GOLD, PREDICTION, SELECTION
from explorer.certify.params import (
    MOST_DRAWS,
    CertifyParams,
    Precision,
    PredictParams,
    Progress,
    ShouldStop,
    check_labels,
    check_pixels,
    check_precision,
    check_seed,
    check_whole,
    report,
)
from explorer.certify.results import Certificate, CertifyProgress, Prediction, TopClass, argmax
from explorer.certify.sound import levels_of
from explorer.certify.votes import VoteSampler, in_fast_layout
from explorer.core import Classifier, InvalidValue, as_classifier, current_rng, sample_like
from explorer.core.classifier import device_of

GPU_BATCH, CPU_BATCH = 4096, 128  # images per pass when none is given
GOLD_DRAWS, GOLD_FIRST = 100_000, 1000  # that decide what g(x) is: at most, and when it is first looked at
GOLD_P_VALUE = 1e-9  # of the top two classes being equally likely, below which no more is drawn
MOST_COPIES = 512


class Smoothed(nn.Module):
    """The classifier g that `model` becomes under Gaussian noise of `sigma` (pixel units), and a target for attacks.

    `model`: a Classifier, or any torch module in evaluation mode that maps pixels (N,C,H,W) in [0,1] to logits (N,K).
    `batch`: most images in one pass (above 64 a multiple of 64 is used). The noise does not depend on it; a stochastic
    network's own draws do, and so may the last bits of any network's logits.
    `precision`: "bfloat16" votes, and certifies, under autocast.
    `sound`: noise on the grid of 8-bit pixels, for 8-bit pictures: certificates hold in floating point.
    `draws`: noisy copies of each picture in one pass of an attack (`forward`).

    Raises InvalidValue for anything out of range. The methods do, too; `x` is one image (C,H,W) in [0,1], `seed` None
    draws one, `progress(done, total)` and `should_stop()` are called at least once a pass; Cancelled if the latter says so.
    """

    stochastic = True  # as a target for attacks

    def __init__(
        self,
        model: nn.Module,
        sigma: float,
        *,
        batch: int | None = None,
        precision: Precision = "float32",
        sound: bool = False,
        draws: int = 8,
    ):
        super().__init__()
        self.base, self.sigma = model, PredictParams(sigma=sigma).sigma
        if batch is None:
            batch = CPU_BATCH if device_of(model).type == "cpu" else GPU_BATCH
        self.batch = check_whole("batch", batch, 1, MOST_DRAWS)
        self.precision, self.sound = check_precision(precision), bool(sound)
        self.draws = check_whole("draws", draws, 1, MOST_COPIES)
        self.train(model.training)

    def certify(
        self,
        x: Tensor,
        *,
        n0: int = CertifyParams.n0,
        n: int = CertifyParams.n,
        alpha: float = CertifyParams.alpha,
        seed: int | None = None,
        true_label: int | None = None,
        progress: Progress | None = None,
        should_stop: ShouldStop | None = None,
    ) -> Certificate:
        """CERTIFY: n0 draws choose the class, n fresh draws bound its probability.

        `true_label`: skip the estimation when the selected class is another one. Certified accuracy stays exact, since
        the estimation can only confirm the selected class or abstain, and neither is then certified correct.

        Examples:
            >>> from explorer.certify import Smoothed
            >>> from explorer.testing import small_case
            >>> model, x, y = small_case()
            >>> certificate = Smoothed(model, sigma=0.05).certify(x[0], n0=50, n=1000, seed=0)
            >>> certificate.label == int(y[0]), 0 < certificate.radius < 0.13
            (True, True)
        """
        p = CertifyParams(sigma=self.sigma, n0=n0, n=n, alpha=alpha)
        for done, _, certificate in self._certify_passes(x, p, seed, true_label):  # noqa: B007
            report(done, p.n0 + p.n, progress, should_stop)
        assert certificate is not None  # the last one
        return certificate

    def iter_certify(
        self,
        x: Tensor,
        *,
        n0: int = CertifyParams.n0,
        n: int = CertifyParams.n,
        alpha: float = CertifyParams.alpha,
        seed: int | None = None,
        true_label: int | None = None,
    ) -> Iterator[CertifyProgress]:
        """`certify`, watched: the votes after each pass; the last item holds the certificate, the same as `certify` gives.

        The bound that runs along is anytime-valid; nothing that it says changes what is drawn. Everything is checked
        before the first draw.
        """
        p = CertifyParams(sigma=self.sigma, n0=n0, n=n, alpha=alpha)
        return _watched(p, self._certify_passes(x, p, seed, true_label))

    def predict(
        self,
        x: Tensor,
        *,
        n: int = PredictParams.n,
        alpha: float = PredictParams.alpha,
        seed: int | None = None,
        progress: Progress | None = None,
        should_stop: ShouldStop | None = None,
    ) -> Prediction:
        """PREDICT: the class most voted for, unless it is too close to the runner-up.

        Returns a class other than g(x) with probability at most alpha.
        """
        (found,) = self.predict_each(x, [n], alpha=alpha, seed=seed, progress=progress, should_stop=should_stop)
        return found

    def iter_predict(
        self, x: Tensor, *, n: int = PredictParams.n, alpha: float = PredictParams.alpha, seed: int | None = None
    ) -> Iterator[Prediction | None]:
        """`predict`, pass by pass: None after each, in the end the same Prediction. Everything is checked at once."""
        passes = _predict_passes(self._sampler(x, seed), [PredictParams(sigma=self.sigma, n=n, alpha=alpha)])
        return (prediction for _, prediction in passes)

    def predict_each(
        self,
        x: Tensor,
        ns: Sequence[int],
        *,
        alpha: float = PredictParams.alpha,
        seed: int | None = None,
        progress: Progress | None = None,
        should_stop: ShouldStop | None = None,
    ) -> list[Prediction]:
        """PREDICT with each of these rising numbers of draws: n of them looks at the first n of the same draws.

        Each answer by itself is what `predict` with that n gives, with its own alpha; they are not independent of each
        other, and to choose one of them is covered by none.
        """
        asked = [PredictParams(sigma=self.sigma, n=n, alpha=alpha) for n in ns]
        if not asked or any(one.n >= two.n for one, two in zip(asked, asked[1:], strict=False)):
            raise InvalidValue(f"the numbers of draws must rise, each larger than the one before; got {list(ns)!r}.")
        found = []
        for done, prediction in _predict_passes(self._sampler(x, seed), asked):
            report(done, asked[-1].n, progress, should_stop)
            if prediction is not None:
                found.append(prediction)
        return found

    def top_class(
        self,
        x: Tensor,
        *,
        max_draws: int = GOLD_DRAWS,
        seed: int | None = None,
        should_stop: ShouldStop | None = None,
    ) -> TopClass:
        """What g says of x: the top class over `max_draws` draws, or fewer where that is enough.

        After 1,000 draws and after each doubling it is tested whether the top two classes are equally likely; below
        p = 1e-9 the rest is not drawn. No answer of PREDICT with this seed has seen these draws.
        """
        n = PredictParams(sigma=self.sigma, n=max_draws).n
        sampler = self._sampler(x, seed)
        looks = [GOLD_FIRST * 2**i for i in range(64) if GOLD_FIRST * 2**i < n] + [n]
        for done, votes in sampler.votes(GOLD, n, stops=looks):
            report(done, n, None, should_stop)
            if done in looks:
                counts = votes.tolist()[:-1]
                p_value = top_two_p_value(counts)
                if p_value < GOLD_P_VALUE:
                    break
        return TopClass(argmax(counts), p_value, tuple(counts), done, sampler.seed)

    def noisy_copies(self, x: Tensor, count: int, *, seed: int) -> tuple[Tensor, Tensor]:
        """The first `count` of the selection draws that `certify` with this seed puts to the vote, to be looked at.

        Returns the pictures (count,C,H,W) float32 on the CPU, not clipped to [0,1], and the network's class of each (count,).
        """
        sampler = self._sampler(x, seed, batch=max(1, count))
        rng = sampler.generator(SELECTION)
        pictures, classes = [], []
        for noisy, _ in sampler.noisy(count, SELECTION):
            with torch.inference_mode():
                classes.append(sampler.logits(noisy, rng).argmax(1).cpu())
            pictures.append(noisy.cpu())
        return torch.cat(pictures), torch.cat(classes)

    def classifier(self, x: Tensor) -> Classifier:
        """The network that is smoothed, for images like x."""
        return as_classifier(self.base, like=x)

    def forward(self, pixels: Tensor) -> Tensor:
        """Log of the mean probabilities (N,K) over `draws` fresh noisy copies of every picture (N,C,H,W).

        The soft smoothed classifier that SmoothAdv attacks (Salman et al., arXiv:1906.04584, section 2.2): log of
        (1/m) sum of softmax f(x + noise), whose gradient is taken through the mean. The noise comes from the randomness
        that is handed in (`use_generator`), so that an attack sees the smoothed model and not one fixed sample of it.
        """
        copies = torch.cat([pixels + self.sigma * _normal_like(pixels) for _ in range(self.draws)])  # (draws * N,C,H,W)
        each = torch.log_softmax(self.base(copies).float(), 1)  # (draws * N,K)
        return each.view(self.draws, len(pixels), each.shape[1]).logsumexp(0) - math.log(self.draws)

    def _sampler(self, x: Tensor, seed: int | None, batch: int | None = None) -> VoteSampler:
        """Checked inputs, ready to be voted on; raises InvalidValue."""
        model = self.classifier(x)
        check_pixels(x, model.input_shape)
        if self.sound:
            levels_of(x)
        x = x.detach().to(model.device, torch.float32)
        seed, batch = check_seed(seed), batch or self.batch
        return VoteSampler(in_fast_layout(model), x, self.sigma, seed, batch, self.precision, self.sound)

    def _certify_passes(self, x: Tensor, p: CertifyParams, seed: int | None, true_label: int | None) -> _CertifyPasses:
        """As `_certify_passes`; everything is checked before the first draw."""
        sampler = self._sampler(x, seed)
        check_enough(p.n, p.alpha)
        if true_label is not None:
            check_labels([true_label], sampler.model.num_classes)
        return _certify_passes(sampler, p, true_label)


def _normal_like(pixels: Tensor) -> Tensor:
    rng = current_rng(pixels.device)
    return sample_like(pixels.detach(), lambda out: out.normal_(generator=rng))


# Draws done, the votes (K+1,) of both kinds (on the device, still growing), and in the end the certificate.
_CertifyPasses = Iterator[tuple[int, tuple[Tensor, Tensor], Certificate | None]]


def _certify_passes(sampler: VoteSampler, p: CertifyParams, true_label: int | None) -> _CertifyPasses:
    """CERTIFY of arXiv:1902.02918: select the class from n0 draws, then bound its probability from n others."""
    num_classes, conditions = sampler.model.num_classes, p.to_dict() | sampler.conditions
    nothing = torch.zeros(num_classes + 1, dtype=torch.int64)
    for done, first in sampler.votes(SELECTION, p.n0):
        yield done, (first, nothing), None
    *selection, unselected = first.tolist()
    if true_label is not None and argmax(selection) != true_label:
        none = (0,) * num_classes
        yield (
            p.n0,
            (first, nothing),
            Certificate.from_votes(tuple(selection), none, unselected, skipped=True, **conditions),
        )
        return
    for done, second in sampler.votes(ESTIMATION, p.n):
        certificate = None
        if done == p.n:
            *estimation, unestimated = second.tolist()
            invalid = unselected + unestimated
            certificate = Certificate.from_votes(
                tuple(selection), tuple(estimation), invalid, skipped=False, **conditions
            )
        yield p.n0 + done, (first, second), certificate


def _watched(p: CertifyParams, passes: _CertifyPasses) -> Iterator[CertifyProgress]:
    """The passes with the largest anytime-valid bound so far."""
    selected: int | None = None
    p_lower = 0.0
    for done, (first, second), certificate in passes:
        n_drawn = max(0, done - p.n0)
        if selected is None:  # what grows no more is not asked for again: a GPU is waited for once an item
            selection = first.tolist()
        estimation = second.tolist()
        if selected is None and done >= p.n0:
            selected = argmax(selection[:-1])
        if selected is not None and n_drawn:
            p_lower = max(p_lower, anytime_lower_bound(estimation[selected], n_drawn, p.alpha))
        yield CertifyProgress(
            done=done,
            total=p.n0 + p.n,
            selection=tuple(selection[:-1]),
            selected=selected,
            estimation=tuple(estimation[:-1]),
            n_drawn=n_drawn,
            invalid=selection[-1] + estimation[-1],
            p_lower=p_lower,
            radius=certified_radius(p_lower, p.sigma),
            certificate=certificate,
        )


def _predict_passes(sampler: VoteSampler, asked: Sequence[PredictParams]) -> Iterator[tuple[int, Prediction | None]]:
    """PREDICT of arXiv:1902.02918: draws done, and a Prediction where they are as many as one of `asked` wants."""
    due = {p.n: p for p in asked}
    for done, votes in sampler.votes(PREDICTION, asked[-1].n, stops=list(due)):
        if done not in due:
            yield done, None
            continue
        *counts, invalid = votes.tolist()
        p, p_value = due[done], top_two_p_value(counts)
        label = None if p_value > p.alpha else argmax(counts)
        yield done, Prediction(label, p_value, tuple(counts), invalid, **p.to_dict(), **sampler.conditions)


def certify(
    model: nn.Module,
    x: Tensor,
    sigma: float,
    *,
    batch: int | None = None,
    precision: Precision = "float32",
    sound: bool = False,
    **asked: Any,
) -> Certificate:
    """`Smoothed(model, sigma, batch=, precision=, sound=).certify(x, n0=, n=, alpha=, seed=, ...)`."""
    return Smoothed(model, sigma, batch=batch, precision=precision, sound=sound).certify(x, **asked)


def predict(
    model: nn.Module,
    x: Tensor,
    sigma: float,
    *,
    batch: int | None = None,
    precision: Precision = "float32",
    sound: bool = False,
    **asked: Any,
) -> Prediction:
    """`Smoothed(model, sigma, batch=, precision=, sound=).predict(x, n=, alpha=, seed=, ...)`."""
    return Smoothed(model, sigma, batch=batch, precision=precision, sound=sound).predict(x, **asked)
