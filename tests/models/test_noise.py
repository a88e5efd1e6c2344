"""Networks that add noise to their own input, at test time as in training."""

import pytest
import torch

from explorer.core import seeded, use_generator
from explorer.models import ARCHITECTURES
from explorer.models.noise import InputNoise
from explorer.models.variants import FixedDraw

NOISY = ["preact-resnet18", "lenet"]
SMALL = {"preact-resnet18": {"width": 4}}
X = torch.rand(3, 3, 32, 32, generator=seeded(0))


def network(key, noise):
    torch.random.default_generator.manual_seed(0)
    return ARCHITECTURES[key]((0.5,) * 3, (0.25,) * 3, noise=noise, **SMALL.get(key, {})).freeze()


def passed(model, seed, x=X):
    with torch.no_grad(), use_generator(seeded(seed)):
        return model(x)


@pytest.mark.parametrize("training", [True, False])
def test_the_noise_is_gaussian_of_that_deviation_and_not_clipped(training):
    x = torch.rand(64, 3, 32, 32, generator=seeded(1))
    with use_generator(seeded(2)):
        noise = InputNoise(0.1).train(training)(x) - x
    n = noise.numel()
    assert abs(float(noise.std()) - 0.1) < 5 * 0.1 / (2 * n) ** 0.5 and abs(float(noise.mean())) < 5 * 0.1 / n**0.5
    assert abs(float((noise.abs() < 0.1).float().mean()) - 0.6827) < 0.005  # a normal law, not another
    assert float((x + noise).min()) < -0.1 and float((x + noise).max()) > 1.1


@pytest.mark.parametrize("key", NOISY)
def test_two_passes_at_test_time_differ_and_a_seed_repeats_them(key):
    model = network(key, 0.1)
    assert model.stochastic and not model.training
    assert torch.equal(passed(model, 1), passed(model, 1))
    assert not torch.allclose(passed(model, 1), passed(model, 2), atol=1e-4)
    with torch.no_grad(), use_generator(seeded(1)):
        assert not torch.allclose(model(X), model(X), atol=1e-4)
    both = passed(model, 3, X[:1].repeat(2, 1, 1, 1))
    assert not torch.allclose(both[0], both[1], atol=1e-4)  # every image has noise of its own


@pytest.mark.parametrize("key", NOISY)
def test_logits_and_features_are_those_of_the_noisy_pixels(key):
    model, plain = network(key, 0.1), network(key, 0.0)
    assert not plain.stochastic
    noise = torch.empty_like(X).normal_(generator=seeded(5))
    with torch.no_grad(), use_generator(seeded(5)):
        logits, features = model.both(X)
    torch.testing.assert_close(features, plain.features(X + 0.1 * noise))
    torch.testing.assert_close(logits, plain(X + 0.1 * noise))


@pytest.mark.parametrize("key", NOISY)
def test_a_noisy_network_takes_the_weights_of_a_plain_one(key):
    plain, noisy = network(key, 0.0).state_dict(), network(key, 0.1).state_dict()
    assert {k: v.shape for k, v in plain.items()} == {k: v.shape for k, v in noisy.items()}


@pytest.mark.parametrize("key", NOISY)
def test_a_fixed_draw_is_one_noise_for_all(key):
    fixed = FixedDraw(network(key, 0.1), seed=3)
    same = passed(fixed, 0, X[:1].repeat(2, 1, 1, 1))
    torch.testing.assert_close(same[0], same[1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(passed(fixed, 1), passed(fixed, 2))
