"""How often a certificate is false, end to end, and that this check would notice each way to get it wrong.

A half-space classifier at margin m has P(class 0) = Phi(m / sigma) and its true radius is m: a certificate is false if it
names class 1, or a radius beyond m. 20,000 certificates are made from the project's own noise, votes and conclusion.
"""

from decimal import ROUND_HALF_UP

import numpy as np
import pytest
import torch
from scipy.stats import binom

from explorer.certify import Certificate, certify, results
from explorer.certify.bounds import lower_bound
from explorer.certify.noise import ESTIMATION, SELECTION, noise
from explorer.certify.votes import VoteSampler

RUNS, N0, N, SIGMA, ALPHA = 20_000, 20, 100, 0.25, 0.05
MARGINS = [0.0, 0.1, 0.4]  # p = 1/2, where selection matters most; 0.66; 0.95


def votes(halfspace, margin, stream, n, runs=RUNS):
    """(runs,n) class of each noisy copy."""
    model = halfspace(0.5 - margin, input_shape=(1, 1, 1))
    draws = torch.cat(list(noise((n,), runs, 4096, 7, stream)))
    with torch.inference_mode():
        return model(0.5 + SIGMA * draws.view(-1, 1, 1, 1)).argmax(1).view(runs, n).numpy()


def certificates(first, second):
    """One certificate a row; equal counts give equal ones."""
    known = {}
    for a, b in zip((first == 0).sum(1).tolist(), (second == 0).sum(1).tolist(), strict=True):
        key = (a, b)
        if key not in known:
            selection, estimation = (a, first.shape[1] - a), (b, second.shape[1] - b)
            known[key] = Certificate.from_votes(
                selection, estimation, 0, sigma=SIGMA, n0=first.shape[1], n=second.shape[1], alpha=ALPHA, seed=7,
                precision="float32", sound=False, skipped=False,
            )  # fmt: skip
        yield known[key]


def false(certificate, margin):
    wrong = certificate.label == 1 and certificate.radius >= 0 and margin >= 0
    return wrong or (certificate.label == 0 and certificate.radius > margin)


def too_often(count, runs, alpha=ALPHA):
    """More than chance would give once in 10,000 times if the true rate were alpha."""
    return binom.sf(count - 1, runs, alpha) < 1e-4


def rate(found, margin):
    found = list(found)
    return sum(false(certificate, margin) for certificate in found), len(found)


@pytest.mark.parametrize("margin", MARGINS)
def test_certificates_are_false_at_most_as_often_as_they_say(halfspace, margin):
    first, second = votes(halfspace, margin, SELECTION, N0), votes(halfspace, margin, ESTIMATION, N)
    count, runs = rate(certificates(first, second), margin)
    assert runs == RUNS and count > 0 and not too_often(count, runs)


def reused(first, second):
    return certificates(second, second)


def peeking(first, second):
    """Stops at the best of ten looks."""
    looks = [certificates(first, second[:, :n]) for n in range(10, N + 1, 10)]
    for row in zip(*looks, strict=True):
        yield max(row, key=lambda certificate: certificate.p_lower)


def best_of_ten(first, second):
    found = list(certificates(first, second))
    for at in range(0, len(found), 10):
        yield max(found[at : at + 10], key=lambda certificate: certificate.p_lower)


@pytest.mark.parametrize("bug", [reused, peeking, best_of_ten])
def test_that_check_catches_ways_to_try_again(halfspace, bug):
    first, second = votes(halfspace, 0.0, SELECTION, N0, 5000), votes(halfspace, 0.0, ESTIMATION, N, 5000)
    assert too_often(*rate(bug(first, second), 0.0))
    assert not too_often(*rate(certificates(first, second), 0.0))


def test_that_check_catches_a_two_sided_bound_taken_for_one_sided(halfspace, monkeypatch):
    """Its lower end at 2 alpha, as one needs it of a two-sided function, asked of a one-sided one."""
    monkeypatch.setattr(results, "lower_bound", lambda k, n, alpha: lower_bound(k, n, 2 * alpha))
    first, second = votes(halfspace, 0.1, SELECTION, N0, 5000), votes(halfspace, 0.1, ESTIMATION, N, 5000)
    assert too_often(*rate(certificates(first, second), 0.1))


def nan_earns_nothing(function_model):
    broken = function_model(lambda pixels: torch.full((len(pixels), 3), float("nan")), num_classes=3)
    found = certify(broken, torch.full((1, 2, 2), 0.5), SIGMA, n=100, seed=1)
    return found.label is None and found.radius == 0 and found.invalid == 200


def test_a_network_that_says_nan_earns_nothing_and_that_check_would_notice(function_model, monkeypatch):
    assert nan_earns_nothing(function_model)

    def winners(self, noisy, void, rng):
        return torch.from_numpy(np.argmax(self.logits(noisy, rng).numpy(), 1))  # NaN is class 0 to it

    monkeypatch.setattr(VoteSampler, "winners", winners)
    assert not nan_earns_nothing(function_model)


def shown_radii_are_proven(halfspace, image):
    certificate = certify(halfspace(0.2), image, SIGMA, n=100, seed=1)
    return all(float(certificate.radius_text(digits)) <= certificate.radius for digits in range(1, 9))


def test_shown_radii_are_proven_and_that_check_would_notice(halfspace, image, monkeypatch):
    assert shown_radii_are_proven(halfspace, image)
    monkeypatch.setattr(results, "ROUND_FLOOR", ROUND_HALF_UP)
    assert not shown_radii_are_proven(halfspace, image)
