"""Frechet distance in closed form, and robust discrimination where the answer is known."""

import math

import pytest
import torch

from explorer.core import InvalidValue, seeded
from explorer.data import raw
from explorer.proxies.generator import Real
from explorer.proxies.measures import Arc, Discriminators, arc, frechet, over_seeds

QUICK = Discriminators((0.0, 0.05, 0.1), "plain-conv", updates=40, batch=32, inner_steps=2, attack_steps=5)


def gaussian(mean, root, n=200_000, seed=0):
    """Features whose sample mean and covariance are exactly mean and root root^T."""
    x = torch.randn(n, len(mean), generator=seeded(seed), dtype=torch.float64)
    x = x - x.mean(0)
    x = x @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(x.T))).T
    return torch.tensor(mean, dtype=torch.float64) + x @ torch.tensor(root, dtype=torch.float64).T


def test_frechet_of_gaussians_with_a_common_basis_is_that_of_their_deviations():
    found = frechet(gaussian([0.0, 1.0], [[1, 0], [0, 2]], 500), gaussian([3.0, 1.0], [[4, 0], [0, 1]], 700, seed=1))
    assert found == pytest.approx(3**2 + (4 - 1) ** 2 + (2 - 1) ** 2, rel=1e-9)


def test_frechet_of_gaussians_turned_against_each_other():
    a, b = torch.tensor([[2.0, 0], [0, 1]]).double(), torch.tensor([[1.0, 1], [0, 1]]).double()
    c1, c2 = a @ a.T, b @ b.T
    shared = torch.linalg.eigvals(c1 @ c2).real.sqrt().sum()  # tr (C1 C2)^(1/2), without the symmetric form
    found = frechet(gaussian([0.0, 0.0], a.tolist(), 300), gaussian([0.0, 0.0], b.tolist(), 300, seed=1))
    assert found == pytest.approx(float(c1.trace() + c2.trace() - 2 * shared), rel=1e-9)
    with pytest.raises(InvalidValue, match="at least 2 images"):
        frechet(torch.zeros(1, 2), torch.zeros(5, 2))


def test_frechet_of_features_with_themselves_is_nothing():
    x = torch.randn(50, 8, generator=seeded(0))
    assert frechet(x, x) == pytest.approx(0, abs=1e-9)


def sample(rows):
    pixels, labels, _ = raw("fashion_mnist", "test", "sample")
    return Real(pixels[rows], labels[rows], "fashion_mnist")


def plain(level, n=240):
    return Real(
        torch.full((n, 1, 28, 28), level, dtype=torch.uint8), torch.zeros(n, dtype=torch.int64), "fashion_mnist"
    )


def test_arc_of_black_and_white_is_the_largest_there_is():
    found = arc(plain(0), plain(255), 0, QUICK)
    assert found.accuracies == (1.0, 1.0, 1.0) and found.area == pytest.approx(0.05) and found.n == 120


def test_arc_of_two_halves_of_real_images_is_near_nothing():
    found = arc(sample(slice(0, 480, 2)), sample(slice(1, 480, 2)), 0, QUICK)
    assert found.area < 0.01 and max(found.accuracies) < 0.68


def test_arc_sees_what_an_attack_cannot_hide_and_no_more():
    """Grey levels 0.06 apart: told apart at eps 0, not within 0.05 of each other."""
    found = arc(plain(120), plain(135), 0, QUICK)
    assert found.accuracies[0] == 1.0 and max(found.accuracies[1:]) <= 0.5
    assert found.area == pytest.approx(0.5 * 0.05 / 2)


def test_arc_repeats_under_its_seed():
    few = Discriminators((0.0, 0.05), updates=8, batch=16, inner_steps=1, attack_steps=2)
    sides = sample(slice(0, 100)), sample(slice(100, 200))
    assert arc(*sides, 3, few) == arc(*sides, 3, few)


def test_below_chance_counts_as_chance():
    assert Arc((0.0, 0.1, 0.2), (0.7, 0.2, 0.5), 100).area == pytest.approx(0.2 * 0.1 / 2)


@pytest.mark.parametrize("grid", [(0.0,), (0.1, 0.2), (0.0, 0.2, 0.1), (0.0, 2.0), (0.0, math.inf)])
def test_a_grid_begins_at_nothing_and_rises(grid):
    with pytest.raises(InvalidValue, match="eps must"):
        Discriminators(grid)


def test_too_few_images_are_refused():
    with pytest.raises(InvalidValue, match="at least 8 images"):
        arc(plain(0, 7), plain(255, 50), 0, QUICK)


def test_student_s_interval_of_three_values():
    mean, low, high = over_seeds([1.0, 2.0, 3.0])
    assert (
        mean == 2 and high - mean == pytest.approx(4.302653 / math.sqrt(3), rel=1e-5) and low == pytest.approx(4 - high)
    )
    assert over_seeds([0.5]) == (0.5, None, None)
