"""The smoothed classifier as a network that can be attacked, and what an attack on it may say against a certificate."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from explorer.certify.params import CertifyParams
from explorer.certify.smoothing import Certificate, Prediction
from explorer.core import Classifier, InvalidValue, current_rng, sample_like

MOST_COPIES = 512


class Smoothed(Classifier):
    """`base` under Gaussian noise: its logits are the logarithms of the mean probabilities over noisy copies.

    That is what SmoothAdv attacks (Salman et al., arXiv:1906.04584, section 2.2): log of (1/m) sum of softmax f(x + noise),
    whose gradient is taken through the mean. Each pass draws `draws` fresh copies of every picture from the randomness
    that is handed in, so that an attack sees the smoothed model and not one fixed sample of it.
    """

    stochastic = True

    def __init__(self, base: Classifier, sigma: float, draws: int = 8):
        """Raises InvalidValue for a sigma out of range, or fewer than 1 or more than 512 draws."""
        channels = base.input_shape[0]
        super().__init__([0.0] * channels, [1.0] * channels, base.input_shape, base.num_classes)
        if isinstance(draws, bool) or not isinstance(draws, int) or not 1 <= draws <= MOST_COPIES:
            raise InvalidValue(f"draws must be a whole number in [1, {MOST_COPIES}]; got {draws!r}.")
        self.base, self.sigma, self.draws = base, CertifyParams(sigma=sigma).sigma, draws
        self.head = nn.Identity()
        self.to(base.device)
        self.train(base.training)

    def both(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Log of the mean probabilities (N,K), and the mean features (N,D) of the same copies."""
        copies = torch.cat([pixels + self.sigma * self._noise(pixels) for _ in range(self.draws)])  # (draws * N,C,H,W)
        logits, features = self.base.both(copies)
        each = torch.log_softmax(logits.float(), 1).unflatten(0, (self.draws, -1))  # (draws,N,K)
        return each.logsumexp(0) - math.log(self.draws), features.unflatten(0, (self.draws, -1)).mean(0)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.both(pixels)[0]

    def features(self, pixels: Tensor) -> Tensor:
        return self.both(pixels)[1]

    def _noise(self, pixels: Tensor) -> Tensor:
        rng = current_rng(pixels.device)
        return sample_like(pixels.detach(), lambda room: room.normal_(generator=rng))


def alarm(certificate: Certificate, distance: float, prediction: Prediction) -> str | None:
    """One sentence if a picture at this L2 distance disproves the certificate; None if it does not.

    It does if PREDICT gives it another class although it lies within the certified radius. An abstention is no other class.
    """
    other = prediction.label
    if certificate.label is None or other is None or other == certificate.label or distance >= certificate.radius:
        return None
    return (
        f"An attack at L2 distance {distance:.4f} is predicted as class {other}, inside the radius {certificate.radius_text(4)} "
        f"certified for class {certificate.label}. A certificate fails with probability {certificate.alpha:g} and a prediction "
        f"with {prediction.alpha:g}: unless this is such a case, one of them is wrong."
    )
