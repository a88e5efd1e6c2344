"""Networks: shapes, normalisation inside, and the local winner-takes-all units."""

import inspect
import math

import pytest
import torch

from explorer.core import InvalidValue, seeded, use_generator
from explorer.models import ARCHITECTURES
from explorer.models._lwta import WinnerTakesAll, kl_to_uniform

SMALL = {"preact-resnet18": {"width": 4}, "wide-resnet": {"depth": 10}}
WINNERS = [key for key in ARCHITECTURES.keys() if "units" in inspect.signature(ARCHITECTURES[key]).parameters]
VARIANTS = [(key, 0) for key in ARCHITECTURES.keys()] + [(key, 2) for key in WINNERS]


def network(key, units=0, shape=(3, 32, 32)):
    torch.random.default_generator.manual_seed(0)
    channels, more = shape[0], SMALL.get(key, {}) | ({"units": units} if units else {})
    return ARCHITECTURES[key]((0.5,) * channels, (0.25,) * channels, shape, 10, **more).freeze()


@pytest.mark.parametrize(("key", "units"), VARIANTS)
@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28)])
def test_logits_and_features_of_one_pass_belong_together(key, units, shape):
    model = network(key, units, shape)
    x = torch.rand(3, *shape, generator=seeded(1))
    logits, features = model.both(x)
    assert logits.shape == (3, 10) and features.shape[0] == 3
    torch.testing.assert_close(model.head(features), logits)
    assert model.stochastic == (units > 0)


@pytest.mark.parametrize("key", ARCHITECTURES.keys())
def test_normalisation_happens_inside(key):
    model = network(key)
    x = torch.rand(2, 3, 32, 32, generator=seeded(1))
    torch.testing.assert_close(model.features(x), model.embed((x - 0.5) / 0.25))


@pytest.mark.parametrize("units", [2, 4])
def test_one_unit_of_each_block_wins_and_passes_on_its_own_value(units):
    layer = WinnerTakesAll(units).eval()
    h = torch.randn(5, 8, 6, 6, generator=seeded(0))
    with use_generator(seeded(1)):
        out = layer(h)
    blocks, given = (t.view(5, units, 8 // units, 6, 6) for t in (out, h))
    passed = blocks != 0
    assert (passed.sum(1) == 1).all()
    torch.testing.assert_close(blocks[passed], given[passed])


@pytest.mark.parametrize("units", [2, 4])
def test_the_winner_is_drawn_from_the_softmax(units):
    h = torch.zeros(20_000, units, 1, 1)
    h[:, 0] = 1.0
    with use_generator(seeded(3)):
        out = WinnerTakesAll(units).eval()(h)
    share = (out[:, 0] != 0).float().mean().item()  # only the first unit's value is not zero
    expected = math.e / (math.e + units - 1)
    assert abs(share - expected) < 4 * math.sqrt(expected * (1 - expected) / 20_000)


def test_draws_repeat_under_a_seed_and_differ_between_images():
    layer = WinnerTakesAll(2).eval()
    h = torch.ones(2, 64, 4, 4)
    with use_generator(seeded(5)):
        first = layer(h)
    with use_generator(seeded(5)):
        again = layer(h)
    assert torch.equal(first, again)
    assert not torch.equal(first[0], first[1])


def test_attacks_get_a_gradient_through_the_winner():
    h = torch.randn(1, 4, 3, 3, generator=seeded(0)).requires_grad_(True)
    with use_generator(seeded(1)):
        out = WinnerTakesAll(2).eval()(h)
    (gradient,) = torch.autograd.grad(out.sum(), h)
    assert torch.isfinite(gradient).all() and (gradient != 0).float().mean() > 0.9


@pytest.mark.parametrize(("units", "logits", "kl"), [
    (2, [0.0, 0.0], 0.0),
    (2, [math.log(3.0), 0.0], math.log(2) + 0.75 * math.log(0.75) + 0.25 * math.log(0.25)),
    (4, [0.0] * 4, 0.0),
    (4, [50.0, 0.0, 0.0, 0.0], math.log(4)),
])  # fmt: skip
def test_the_kl_of_a_known_distribution(units, logits, kl):
    layer = WinnerTakesAll(units).train()
    h = torch.tensor(logits).view(1, units, 1, 1).repeat(3, 1, 2, 2)
    with use_generator(seeded(0)):
        layer(h)
    assert layer.kl.item() == pytest.approx(kl, abs=1e-5)
    assert kl_to_uniform(torch.softmax(h, 1), 1).item() == pytest.approx(kl, abs=1e-5)


def test_channels_that_do_not_fill_the_blocks_are_refused():
    with pytest.raises(InvalidValue, match="multiple of the 3 units"):
        WinnerTakesAll(3)(torch.zeros(1, 4, 2, 2))


def test_a_depth_that_does_not_exist_is_refused():
    with pytest.raises(InvalidValue, match="6n"):
        ARCHITECTURES["wide-resnet"]((0.5,) * 3, (0.25,) * 3, depth=33)


@pytest.mark.parametrize(
    ("key", "arguments", "layout"),
    [
        ("preact-resnet18", {"width": 16}, torch.channels_last),
        ("preact-resnet18", {"width": 4}, torch.contiguous_format),
        ("lenet", {}, torch.contiguous_format),
        ("mlp", {}, torch.channels_last),  # no convolution: it does not matter
    ],
)
def test_convolutions_of_few_channels_keep_torchs_usual_layout(key, arguments, layout):
    model = ARCHITECTURES[key]((0.5,) * 3, (0.25,) * 3, (3, 32, 32), 10, **arguments).freeze()
    assert model.layout == layout
    x = torch.rand(2, 3, 32, 32, generator=seeded(3))
    before = model(x)
    assert torch.allclose(model.to(memory_format=model.layout)(x), before, atol=1e-4)
