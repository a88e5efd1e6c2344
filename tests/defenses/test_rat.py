"""Randomized adversarial training: attacked under noise, trained under noise, judged under noise."""

import pytest
import torch
import torch.nn.functional as F

from explorer.core import Classifier, seeded, use_generator
from explorer.defenses import RECIPES
from explorer.defenses.rat import Randomized, voted_right
from explorer.models.noise import InputNoise
from explorer.training.state import build

W = torch.tensor([1.0, -2.0, 3.0, 0.5])
EPS, NOISE = 0.05, 0.1


class Noisy(Classifier):
    """Two classes, four pixels: logit 1 minus logit 0 is w.(x + noise)."""

    stochastic = True

    def __init__(self, noise=NOISE):
        super().__init__((0.0,), (1.0,), (1, 2, 2), 2)
        self.noise, self.head = InputNoise(noise), torch.nn.Linear(4, 2, bias=False)
        with torch.no_grad():
            self.head.weight.copy_(torch.stack((torch.zeros(4), W)))

    def embed(self, normalised):
        return self.noise(normalised).flatten(1)


EDGE = torch.tensor([0.5, 0.6, 0.2, 0.2]).view(1, 1, 2, 2)  # where w.x is 0
X = EDGE + 0.04 * torch.randn(64, 1, 2, 2, generator=seeded(0))
Y = (X.flatten(1) @ W > 0).long()


def test_the_loss_is_that_of_attacked_images_under_fresh_noise():
    recipe = Randomized(eps=EPS, inner_steps=4, label_smoothing=0.0)
    rng, replay = seeded(1), seeded(1)
    found = float(recipe.loss(Noisy(), X, Y, rng).detach())
    attacked = recipe.attacked(Noisy(), X, Y, replay, 4)  # takes the same draws from its generator
    corner = X - EPS * (2 * Y - 1).view(-1, 1, 1, 1) * W.sign().view(1, 1, 2, 2)
    torch.testing.assert_close(attacked, corner, rtol=0, atol=1e-6)  # a linear model's gradient is the same under noise
    noise = torch.empty_like(X).normal_(generator=replay)
    margin = (corner + NOISE * noise).flatten(1) @ W
    expected = F.softplus(-margin * (2 * Y - 1)).mean()
    assert found == pytest.approx(float(expected), rel=1e-4)


def test_rat_s_network_is_random_at_test_time_and_starts_from_the_plain_network_s_weights():
    recipe = RECIPES["rat"](noise=0.2)
    model = build(recipe, torch.device("cpu")).freeze()  # from cifar10/pgd-linf
    assert model.stochastic and model.noise.sigma == 0.2 and recipe.start == "cifar10/pgd-linf"
    x = torch.rand(2, 3, 32, 32, generator=seeded(0))
    with torch.no_grad(), use_generator(seeded(1)):
        assert not torch.allclose(model(x), model(x), atol=1e-3)


def test_a_verdict_is_a_mean_over_draws():
    margin = (X.flatten(1) @ W) * (2 * Y - 1)
    clear = margin > 0.2  # one draw moves a margin by 0.38 (standard deviation), the mean of 200 by 0.03
    assert 5 < int(clear.sum()) < 60
    assert voted_right(Noisy(), X[clear], Y[clear], seeded(0), draws=200).all()
    assert not voted_right(Noisy(), X[clear], Y[clear], seeded(0), draws=1).all()
    scores = Randomized(eps=EPS).score(Noisy(), X, Y, seeded(0))
    assert scores["robust"] == scores["score"] < 0.3 < scores["clean"]
