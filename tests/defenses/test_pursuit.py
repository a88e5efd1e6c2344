"""Deep pursuit: its first steps by hand, the energy that they lower, its twins' common weights, and what it rebuilds."""

import pytest
import torch

from explorer.core import InvalidValue, seeded
from explorer.defenses import RECIPES
from explorer.models.pursuit import PursuitNet, with_iterations

SHAPE = (1, 8, 8)
LAYERS = ((6, 4, 2), (8, 3, 1))


def network(seed=0, **more):
    with torch.random.fork_rng():
        torch.random.default_generator.manual_seed(seed)
        return PursuitNet((0.5,), (0.25,), SHAPE, 3, **{"dictionaries": LAYERS} | more).freeze()


def one_number(inference, iterations, d=(0.8, 0.5), b=0.1):
    """A picture of one pixel and two dictionaries of one number each."""
    net = PursuitNet((0.0,), (1.0,), (1, 1, 1), 2, ((1, 1, 1), (1, 1, 1)), inference, iterations, penalty=b)
    with torch.no_grad():
        for layer, value in zip(net.layers, d, strict=True):
            layer.weight.fill_(value)
    return net.freeze()


def test_a_deep_step_by_hand():
    x, (d1, d2), b = 0.9, (0.8, 0.5), 0.1
    w1 = d1 * x - b  # feed-forward, 0.62
    w2 = d2 * w1 - b  # 0.21
    v1 = w1 + (d1 * (x - d1 * w1) - (w1 - d2 * w2) - b) / 2
    v2 = w2 + d2 * (v1 - d2 * w2) - b
    pixel = torch.full((1, 1, 1, 1), x)
    start, after = ([float(w) for w in one_number("deep", steps).codes(pixel)] for steps in (0, 1))
    assert start == pytest.approx([w1, w2]) and after == pytest.approx([v1, v2])
    energy = (x - d1 * v1) ** 2 / 2 + b * v1 + (v1 - d2 * v2) ** 2 / 2 + b * v2
    assert float(one_number("deep", 1).energy(pixel)) == pytest.approx(energy)


def test_a_layered_step_by_hand():
    x, (d1, d2), b = 0.9, (0.8, 0.5), 0.1
    v1 = d1 * x - b
    v1 = v1 + d1 * (x - d1 * v1) - b
    v2 = d2 * v1 - b
    v2 = v2 + d2 * (v1 - d2 * v2) - b
    found = [float(w) for w in one_number("layered", 1).codes(torch.full((1, 1, 1, 1), x))]
    assert found == pytest.approx([v1, v2])


def test_a_deep_step_follows_the_energy_s_gradient_block_by_block():
    """Of any network: w_l <- relu(w_l - s_l dE/dw_l), the slope taken after the layers before it have moved."""
    net, x = network(), torch.rand(2, *SHAPE, generator=seeded(0))
    codes, dictionaries = with_iterations(net, 0)._settled((x - net.mean) / net.std)
    for at, step in enumerate((0.5, 1.0)):
        leaves = [code.clone().requires_grad_() for code in codes]
        below, energy = (x - net.mean) / net.std, 0
        for code, d, b in zip(leaves, dictionaries, net._penalties(), strict=True):
            energy = energy + (below - d.down(code)).square().sum() / 2 + (b * code).sum()
            below = code
        slope = torch.autograd.grad(energy, leaves[at])[0]
        codes[at] = (codes[at] - step * slope).clamp(min=0)
    for expected, found in zip(codes, with_iterations(net, 1).codes(x), strict=True):
        torch.testing.assert_close(found, expected)
        assert (found == 0).any() and (found > 0).any()


def test_every_deep_step_lowers_the_energy_and_deep_ends_below_layered():
    net, x = network(1), torch.rand(4, *SHAPE, generator=seeded(1))
    path = torch.stack([with_iterations(net, steps).energy(x) for steps in range(12)])
    assert (path.diff(dim=0) <= 1e-4).all() and (path[-1] < path[0] - 0.01).all()
    layered = network(1, inference="layered", iterations=12)
    assert (path[-1] < layered.energy(x)).all()


def test_the_reconstruction_is_what_the_first_code_stands_for():
    net, pixel = one_number("deep", 1), torch.full((1, 1, 1, 1), 0.9)
    assert float(net.reconstruction(pixel)) == pytest.approx(0.8 * float(net.codes(pixel)[0]))
    many = network(2, inference="layered", penalty=1e-3)
    x = torch.rand(4, *SHAPE, generator=seeded(2))
    apart = [float((with_iterations(many, n).reconstruction(x) - x).square().mean()) for n in (0, 4, 32)]
    assert apart[0] > apart[1] > apart[2]


def test_the_way_down_is_the_transpose_of_the_way_up():
    net = network(3, dictionaries=((4, 4, 2), (5, 4, 2), (6, 3, 2)))
    codes, dictionaries = net._settled(torch.rand(1, *SHAPE, generator=seeded(3)))
    for code, d in zip(codes, dictionaries, strict=True):
        signal = torch.randn(1, d.kernel.shape[1], *d.size, generator=seeded(4))
        other = torch.randn(code.shape, generator=seeded(5))
        assert float((d.up(signal) * other).sum()) == pytest.approx(float((signal * d.down(other)).sum()), abs=1e-4)


def test_the_twins_have_the_same_weights_and_zero_steps_are_the_feed_forward_network():
    made = {key: RECIPES[key]().architecture()[1] for key in ("pursuit", "pursuit-layered", "pursuit-feedforward")}
    assert [a["inference"] for a in made.values()] == ["deep", "layered", "deep"]
    assert [a["iterations"] for a in made.values()] == [4, 4, 0]
    deep, layered = network(4), network(4, inference="layered")
    assert {k: v.shape for k, v in deep.state_dict().items()} == {k: v.shape for k, v in layered.state_dict().items()}
    x = torch.rand(3, *SHAPE, generator=seeded(6))
    assert torch.equal(with_iterations(deep, 0)(x), with_iterations(layered, 0)(x))
    assert not torch.allclose(deep(x), with_iterations(deep, 0)(x))


def test_an_attack_has_a_gradient_through_all_steps():
    net = network(5, iterations=8)
    x = torch.rand(1, *SHAPE, generator=seeded(7)).double()
    net = net.double()
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(net(leaf)[0, 0], leaf)
    at, h = (0, 0, 3, 3), 1e-5
    ahead, behind = x.clone(), x.clone()
    ahead[at] += h
    behind[at] -= h
    assert float(gradient[at]) == pytest.approx(float(net(ahead)[0, 0] - net(behind)[0, 0]) / (2 * h), rel=1e-3)


def test_what_cannot_be_is_refused():
    with pytest.raises(InvalidValue, match="inference must be one of deep, layered"):
        network(inference="shallow")
    with pytest.raises(InvalidValue, match="iterations must be between 0 and 64"):
        with_iterations(network(), 65)
    with pytest.raises(InvalidValue, match="dictionaries must leave a place"):
        network(dictionaries=((4, 4, 2),) * 4)
    with pytest.raises(InvalidValue, match="dictionaries must be channels, kernel and stride"):
        RECIPES["pursuit"](dictionaries="32-64").architecture()
