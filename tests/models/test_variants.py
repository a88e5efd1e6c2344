"""Stochastic networks with their draw fixed, or without it."""

import pytest
import torch

from explorer.core import InvalidValue, seeded, use_generator
from explorer.models import ARCHITECTURES
from explorer.models._lwta import WinnerTakesAll
from explorer.models.variants import FixedDraw, has_winners, with_winners, without_noise

X = torch.rand(4, 3, 16, 16, generator=seeded(0))


def network(units):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ARCHITECTURES["preact-resnet18"]((0.5,) * 3, (0.25,) * 3, (3, 16, 16), 10, width=4, units=units).freeze()


def draw(model, x=X, seed=0):
    with torch.no_grad(), use_generator(seeded(seed)):
        return model(x)


@pytest.mark.parametrize("units", [2, 4])
def test_a_fixed_draw_gives_every_image_the_same_network_in_any_batch(units):
    model = network(units)
    fixed = FixedDraw(model, seed=3)
    whole = draw(fixed)
    torch.testing.assert_close(draw(fixed, seed=9), whole)  # whatever the caller's randomness is
    torch.testing.assert_close(torch.cat([draw(fixed, X[i : i + 1]) for i in range(4)]), whole, rtol=1e-4, atol=1e-5)
    same = draw(fixed, X[:1].repeat(3, 1, 1, 1))
    torch.testing.assert_close(same, same[:1].repeat(3, 1), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(draw(FixedDraw(model, seed=4)), whole, rtol=1e-3)
    assert fixed.stochastic is False and fixed.num_classes == 10 and fixed.device == model.device


@pytest.mark.parametrize("units", [2, 4])
def test_expected_winners_are_the_mean_of_the_drawn_ones(units):
    layer, h = WinnerTakesAll(units).eval(), torch.randn(1, 4, 3, 3, generator=seeded(1))
    layer.winners = "expected"
    expected = layer(h)
    layer.winners = "drawn"
    with use_generator(seeded(2)):
        mean = torch.stack([layer(h) for _ in range(4000)]).mean(0)
    torch.testing.assert_close(mean, expected, atol=0.1, rtol=0)  # a standard error of at most |h| / 126


def test_relaxed_winners_are_those_of_training():
    layer, h = WinnerTakesAll(2).eval(), torch.randn(1, 4, 3, 3, generator=seeded(1))
    layer.winners = "relaxed"
    relaxed = draw(layer, h, seed=5)
    torch.testing.assert_close(relaxed, draw(layer.train(), h, seed=5))
    layer.winners = "drawn"
    assert not torch.allclose(relaxed, draw(layer.eval(), h, seed=5))


def test_a_variant_is_a_copy_and_says_whether_it_draws():
    model = network(2)
    before = draw(model)
    expected, relaxed = with_winners(model, "expected"), with_winners(model, "relaxed")
    assert (expected.stochastic, relaxed.stochastic, model.stochastic) == (False, True, True)
    assert torch.equal(draw(model), before)
    assert torch.equal(draw(expected, seed=1), draw(expected, seed=2))


def test_a_network_without_its_noise_is_the_plain_one():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        noisy = ARCHITECTURES["preact-resnet18"]((0.5,) * 3, (0.25,) * 3, (3, 16, 16), 10, width=4, noise=0.2).freeze()
    quiet = without_noise(noisy)
    assert (noisy.stochastic, quiet.stochastic, has_winners(noisy)) == (True, False, False)
    torch.testing.assert_close(draw(quiet), draw(network(0)))  # the same initial weights
    assert not torch.allclose(draw(noisy), draw(quiet), atol=1e-3)
    for other in (network(0), network(2)):
        with pytest.raises(InvalidValue, match="noise to its input"):
            without_noise(other)


def test_bad_input_gets_one_sentence():
    with pytest.raises(InvalidValue, match="drawn, relaxed or expected; got 'hard'"):
        with_winners(network(2), "hard")
    with pytest.raises(InvalidValue, match="has none"):
        with_winners(network(0), "expected")
