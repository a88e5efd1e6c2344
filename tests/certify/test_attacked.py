"""The smoothed model as a target, and attacks held against certificates."""

import dataclasses
import math

import pytest
import torch
from torch import nn

from explorer.attacks import ATTACKS
from explorer.certify import Smoothed, certify, predict
from explorer.certify.results import alarm
from explorer.core import Ball, Classifier, Goal, InvalidValue, run, seeded, use_generator

SIGMA, K = 0.25, 4


class Linear(Classifier):
    """logits = W (x - 0.5): four classes, a closed form for everything."""

    def __init__(self, scale=30.0):
        super().__init__([0.5], [1.0], (1, 4, 4), K)
        self.head = nn.Linear(16, K, bias=False)
        with torch.no_grad():
            self.head.weight.copy_(
                scale * torch.nn.functional.normalize(torch.randn(K, 16, generator=seeded(3)), dim=1)
            )
        self.freeze()

    def embed(self, normalised):
        return normalised.flatten(1)


@pytest.fixture
def base():
    return Linear()


@pytest.fixture
def x():
    return torch.rand(3, 1, 4, 4, generator=seeded(1))


def test_logits_are_the_log_of_the_mean_probability_over_noisy_copies(base, x):
    smoothed = Smoothed(base, SIGMA, draws=5)
    with use_generator(seeded(4)):
        found = smoothed(x)
    rng = seeded(4)
    copies = [x + SIGMA * torch.empty_like(x).normal_(generator=rng) for _ in range(5)]
    mean = torch.stack([base(copy).softmax(1) for copy in copies]).mean(0)
    assert torch.allclose(found.exp(), mean, atol=1e-6) and found.shape == (3, K)
    assert smoothed.stochastic and not smoothed.training and Smoothed(base.train(), SIGMA).training


def test_its_gradient_goes_through_the_mean(base, x):
    smoothed, leaf = Smoothed(base, SIGMA, draws=5), x.clone().requires_grad_()
    with use_generator(seeded(4)):
        (found,) = torch.autograd.grad(smoothed(leaf)[:, 0].sum(), leaf)
    rng, again = seeded(4), x.clone().requires_grad_()
    mean = sum(base(again + SIGMA * torch.empty_like(x).normal_(generator=rng)).softmax(1)[:, 0] for _ in range(5)) / 5
    (expected,) = torch.autograd.grad(mean.log().sum(), again)
    assert torch.allclose(found, expected, atol=1e-4) and found.abs().max() > 0


def test_draws_are_fresh_and_follow_the_randomness_that_is_handed_in(base, x):
    smoothed, state = Smoothed(base, SIGMA, draws=3), torch.random.get_rng_state()
    with use_generator(seeded(4)):
        first, second = smoothed(x), smoothed(x)
    with use_generator(seeded(4)):
        again = smoothed(x)
    assert torch.equal(first, again) and not torch.equal(first, second)
    assert torch.equal(torch.random.get_rng_state(), state)
    same = x[:1].repeat(3, 1, 1, 1)
    with use_generator(seeded(4)):
        own = smoothed(same)
    with use_generator(seeded(4), shared=True):
        shared = smoothed(same)
    assert not torch.equal(own[0], own[1]) and torch.allclose(shared[0], shared[1])


@pytest.mark.parametrize(
    ("sigma", "draws", "said"), [(0, 8, "sigma"), (0.25, 0, "draws"), (0.25, 513, "draws"), (0.25, True, "draws")]
)
def test_nonsense_is_refused(base, sigma, draws, said):
    with pytest.raises(InvalidValue, match=said):
        Smoothed(base, sigma, draws=draws)


QUICK = {"steps": 2, "restarts": 1, "queries": 5, "searches": 1, "draws": 1, "models": ""}


@pytest.mark.parametrize("key", [key for key in ATTACKS.keys() if "l2" in ATTACKS[key].norms and key != "minmax"])
def test_every_attack_can_attack_it(base, x, key):
    """minmax alone brings its models along; the smoothed one is not of the zoo."""
    names = {p.name for p in ATTACKS[key].params()}
    attack = ATTACKS[key](**{name: value for name, value in QUICK.items() if name in names})
    smoothed, ball = Smoothed(base, SIGMA, draws=2), Ball("l2", 0.5 if ATTACKS[key].budget == "fixed" else 100.0)
    goal = Goal.untargeted(base(x).argmax(1))
    found = [
        run(attack.walk(smoothed, x, goal, ball, seeded(2)), goal, ATTACKS[key].budget == "minimal") for _ in range(2)
    ]
    assert torch.equal(found[0].x, found[1].x)
    assert (ball.distance(found[0].x, x) <= ball.eps).all() and torch.isfinite(found[0].x).all()


def margin_of(base, x):
    """(N,) L2 distance to the nearest linear boundary: what no true certificate exceeds, and what an attack must go."""
    w, logits = base.head.weight, base(x)
    own = logits.argmax(1)
    gaps = logits.gather(1, own[:, None]) - logits
    lengths = (w[own][:, None] - w[None]).norm(dim=2)
    return torch.where(lengths > 0, gaps / lengths, torch.inf).amin(1)


@pytest.fixture
def half(halfspace):
    """Its smoothed model is the half-space itself, whose margin at the gray image is 0.3."""
    return halfspace(0.2)


def attacked(model, image, eps):
    """Where PGD on the smoothed model ends, and how far that is."""
    goal, smoothed = Goal.untargeted(torch.tensor([0])), Smoothed(model, SIGMA, draws=16)
    *_, last = ATTACKS["pgd"](steps=15, loss="margin").walk(smoothed, image[None], goal, Ball("l2", eps), seeded(1))
    return last.x[0], float(last.distance)


def test_no_attack_gets_inside_a_true_certificate(half, image):
    """The smoothed half-space has the closed form margin 0.3: certificates stay below, attacks beyond."""
    certificate = certify(half, image, SIGMA, n=5000, seed=1)
    assert 0.25 < certificate.radius < 0.3
    for eps in (0.2, certificate.radius, 0.45):
        x, distance = attacked(half, image, eps)
        said = predict(half, x, SIGMA, n=1000, seed=9)
        assert alarm(certificate, distance, said) is None
        assert (said.label == 1) == (eps == 0.45)  # the attack is strong enough to cross a boundary that is there


def test_a_wrong_certificate_is_found_out(half, image):
    wrong = dataclasses.replace(certify(half, image, SIGMA, n=1000, seed=1), radius=0.9)
    x, distance = attacked(half, image, 0.45)
    sentence = alarm(wrong, distance, predict(half, x, SIGMA, n=1000, seed=9))
    assert sentence is not None and "inside the radius 0.9000" in sentence and "class 1" in sentence


def test_what_is_no_alarm(half, image):
    certificate = dataclasses.replace(certify(half, image, SIGMA, n=1000, seed=1), radius=0.5)
    there = predict(half, torch.zeros_like(image), SIGMA, n=1000, seed=1)
    abstained = dataclasses.replace(there, label=None)
    same = dataclasses.replace(there, label=0)
    assert there.label == 1 and alarm(certificate, 0.499, there) is not None
    assert alarm(certificate, 0.5, there) is None  # the ball is open
    assert alarm(certificate, 0.1, abstained) is None and alarm(certificate, 0.1, same) is None
    assert alarm(dataclasses.replace(certificate, label=None), 0.1, there) is None


def test_certificates_of_linear_models_stay_below_their_margin(base, x):
    """A K-class linear model: the binary bound is below the distance to the nearest boundary, for every image."""
    for image, margin in zip(x, margin_of(base, x).tolist(), strict=True):
        certificate = certify(base, image, SIGMA, n=2000, seed=5)
        assert math.isfinite(margin) and certificate.radius <= margin
