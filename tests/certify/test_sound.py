"""Noise on the grid of 8-bit pixels: drawn exactly, never off the grid, and certificates that floats cannot fool."""

from decimal import Context, Decimal, localcontext

import numpy as np
import pytest
import torch
from scipy.stats import chi2, norm

from explorer.certify import certify, largest_radius
from explorer.certify.sound import BITS, LEVELS, VOID, Grid, grid, levels_of, upper_tail
from explorer.core import InvalidValue

SIGMA = 0.25


def shares(sigma):
    """The exact probabilities of the cells, as far as float64 knows them."""
    reach = grid(sigma).reach
    edges = (2 * np.arange(-reach, reach) + 1) / (2 * LEVELS * sigma)
    return np.diff(norm.cdf(edges), prepend=0.0, append=1.0)


@pytest.mark.parametrize(
    ("z", "tail"),
    [
        ("1", "0.158655253931457051414767454367962077"),
        ("3", "0.00134989803163009452665181476759497"),
        ("6", "9.86587645037698140700864132184e-10"),
        ("9", "1.12858840595384064773550207597e-19"),
    ],
)
def test_tails_are_those_of_the_tables(z, tail):
    with localcontext(Context(prec=50)):
        assert abs(upper_tail(Decimal(z)) - Decimal(tail)) < Decimal(tail) * Decimal("1e-27")


@pytest.mark.parametrize("sigma", [0.001, 0.25, 1.0])
def test_no_cell_gets_more_than_its_share_and_hardly_less(sigma):
    found = grid(sigma)
    counts = np.diff(found.edges.astype(object), prepend=0)
    assert all(count >= 0 for count in counts) and list(counts) == list(counts[::-1])
    left = 2**BITS - int(found.edges[-1])
    assert 0 < left <= 2 * len(counts)  # at most two of 2^60 numbers a cell are given away
    assert np.allclose(counts.astype(float) / 2**BITS, shares(sigma), rtol=1e-9, atol=2e-15)  # of scipy
    assert found.k == max(1, int(6 * sigma)) and len(counts) == 2 * LEVELS * (found.k + 1) + 1


def test_every_cell_begins_and_ends_where_its_edge_says():
    found = grid(SIGMA)
    before, at = found.edges - np.uint64(1), found.edges[:-1]
    kept = np.diff(found.edges.astype(object), prepend=0) > 0
    assert (found.steps(before)[kept] == (np.arange(len(found.edges)) - found.reach)[kept]).all()
    assert (found.steps(at) == np.searchsorted(found.edges, at, side="right") - found.reach).all()
    outside = np.array([int(found.edges[-1]), 2**BITS - 1], np.uint64)
    assert (found.steps(outside) == VOID).all()


def test_the_histogram_is_that_of_the_exact_probabilities():
    """Chi-square over the cells that expect at least 20 of 600,000 draws, with a fixed seed."""
    found, room = grid(SIGMA), np.empty(600_000, np.int16)
    found.draw(np.random.default_rng(1), room)
    expected = shares(SIGMA) * len(room)
    seen = np.bincount(room.astype(int) + found.reach, minlength=len(expected))
    large = expected >= 20
    seen, expected = np.append(seen[large], seen[~large].sum()), np.append(expected[large], expected[~large].sum())
    statistic = ((seen - expected) ** 2 / expected).sum()
    assert large.sum() > 400 and 1e-3 < chi2.sf(statistic, len(seen) - 1) < 1 - 1e-3
    shifted = np.roll(expected, 1)  # the same test does see a grid that is off by one step
    assert chi2.sf(((seen - shifted) ** 2 / shifted).sum(), len(seen) - 1) < 1e-9


def test_the_network_sees_grid_points_alone(function_model):
    shape = (3, 8, 8)
    model = function_model(lambda pixels: pixels.flatten(1)[:, :2], input_shape=shape)
    x = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0)) / 255
    model.embed = lambda pixels: model.seen.append(pixels.clone()) or pixels.flatten(1)[:, :2]
    model.mean.zero_()
    model.std.fill_(1)  # so that what is recorded is what came in
    certificate = certify(model, x, 0.5, n0=64, n=500, seed=1, sound=True)
    whole = (model.inputs.double() * 255).round()
    assert torch.equal((whole / 255).float(), model.inputs)
    assert model.inputs.min() >= -3 and model.inputs.max() <= 4
    assert (model.inputs - x).double().std() == pytest.approx(0.5, rel=0.02)
    assert certificate.sound and certificate.caveat == "" and certificate.invalid == 0


def test_neither_batch_size_nor_seed_is_left_to_chance(halfspace, image):
    gray = levels_of((image * 255).round() / 255).float() / 255
    found = [certify(halfspace(0.4), gray, SIGMA, n=300, seed=3, batch=b, sound=True) for b in (1, 64, 1000)]
    assert found[0] == found[1] == found[2]
    assert certify(halfspace(0.4), gray, SIGMA, n=300, seed=4, sound=True).estimation != found[0].estimation


def test_a_linear_model_keeps_its_margin(halfspace):
    """Rounded to the grid, class 0 begins at the first level above the threshold: half a step may be gained."""
    gray = torch.full((1, 2, 2), 128 / 255)
    certificate = certify(halfspace(52 / 255), gray, SIGMA, n=50_000, seed=1, batch=10_000, sound=True)
    assert 0.28 < certificate.radius < 76.5 / 255 - 1e-6  # of level 128 to 51.5
    assert certificate.radius < largest_radius(SIGMA, 50_000, 0.001)


def test_numbers_that_belong_to_no_cell_vote_for_no_class(halfspace, monkeypatch):
    def draw(self, rng, room):
        room[...] = 0
        room[0, 0, 0, 0] = VOID  # one pixel of the first picture of each block

    monkeypatch.setattr(Grid, "draw", draw)
    gray = torch.full((1, 2, 2), 1.0)
    certificate = certify(halfspace(0.2), gray, SIGMA, n0=64, n=128, seed=1, sound=True)
    assert certificate.invalid == 3 and certificate.estimation == (126, 0)  # and they still count in n
    assert certificate.p_lower < certify(halfspace(-99.0), gray, SIGMA, n0=64, n=128, seed=1).p_lower


@pytest.mark.parametrize("level", [0.5, 0.1 + 1e-4, 1 / 256])
def test_a_picture_off_the_grid_is_refused(halfspace, level):
    with pytest.raises(InvalidValue, match="sound certificate needs an 8-bit picture"):
        certify(halfspace(0.2), torch.full((1, 2, 2), level), SIGMA, n=10, sound=True)


PIXELS = 3072
FINEST = 2.0**-32


def whats_left(pixels):
    """Class 1 where some pixel is no multiple of 2^-32: a float that no sum with a pixel of 1/255 can be."""
    rest = (pixels.double() / FINEST).remainder(1) != 0
    odd = rest.flatten(1).any(1).float()
    return torch.stack([1 - odd, odd], 1)


def test_floats_that_give_the_picture_away_fool_the_ordinary_certificate_only(function_model):
    """In the manner of Voracek & Hein, section 3: which float sums come out tells which picture the noise was added to.

    Black pixels keep all bits of their noise; one step of 1/255 brighter they lose the last ones. The classifier of
    those bits is certified around black, although one step of every pixel, much nearer than the radius, changes it always.
    """
    model = function_model(whats_left, input_shape=(3, 32, 32))
    model.embed = whats_left  # the very bits that come in
    model.mean.zero_()
    model.std.fill_(1)
    black, gray = torch.zeros(3, 32, 32), torch.full((3, 32, 32), 1 / 255)
    distance = PIXELS**0.5 / 255
    ordinary, nearby = (certify(model, x, 0.5, n=500, seed=1) for x in (black, gray))
    assert ordinary.label == 1 and ordinary.radius > 2 * distance
    assert nearby.label == 0 and ordinary.caveat == "not sound in floating point"  # so the first certificate is false
    sound, beside = (certify(model, x, 0.5, n=500, seed=1, sound=True) for x in (black, gray))
    assert sound.label == beside.label == 0 and sound.radius > distance
