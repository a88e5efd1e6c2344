"""Training against several norms: who is attacked in which, and which loss counts."""

import math

import pytest
import torch
from torch import nn

from explorer.attacks.minmax import reweighted
from explorer.core import Classifier, seeded
from explorer.defenses import RECIPES
from explorer.defenses.mat import MixedMax, MixedRand
from explorer.defenses.minmax import MinMax

W = torch.tensor([1.0, -2.0, 3.0, 0.5])
EPS, EPS_L2 = 0.05, 0.06


class Linear(Classifier):
    """Two classes, four pixels: logit 1 minus logit 0 is w.x."""

    def __init__(self):
        super().__init__((0.0,), (1.0,), (1, 2, 2), 2)
        self.head = nn.Linear(4, 2, bias=False)
        with torch.no_grad():
            self.head.weight.copy_(torch.stack((torch.zeros(4), W)))

    def embed(self, normalised):
        return normalised.flatten(1)


def pictures(n):
    return 0.5 + 0.1 * torch.randn(n, 1, 2, 2, generator=seeded(0)), torch.arange(n) % 2


def worst(x, y):
    """The margin of each image w.x (for class 1; its negative for class 0) after the worst change in Linf and in L2."""
    margin = (x.flatten(1) @ W) * (2 * y - 1)
    return margin - EPS * W.abs().sum(), margin - EPS_L2 * W.norm()


def cross_entropy(margin):
    return torch.log1p(torch.exp(-margin))


SMALL = {"eps": EPS, "eps_l2": EPS_L2, "inner_steps": 14, "label_smoothing": 0.0}


class Long:
    """Steps as long as eps, however many there are: PGD then ends where a linear model is worst."""

    def lengths(self):
        return self.eps, self.eps_l2


class Max(Long, MixedMax):
    pass


class Rand(Long, MixedRand):
    pass


def test_mat_max_is_the_worse_loss_of_each_image_never_below_either_norm_s():
    x, y = pictures(32)
    losses = torch.stack([cross_entropy(margin) for margin in worst(x, y)])
    recipe = Max(**SMALL)
    found = float(recipe.loss(Linear(), x, y, seeded(1)).detach())
    assert found == pytest.approx(float(losses.amax(0).mean()), rel=1e-3)
    one, two = torch.tensor([[0.1, 2.0, 0.3], [0.5, 1.0, 0.3]])
    assert recipe.combine(torch.stack((one, two))).tolist() == pytest.approx([0.5, 2.0, 0.3])


def test_where_l2_is_the_worse_mat_max_minimises_its_loss_alone():
    x, y = pictures(16)
    recipe = Max(**SMALL | {"eps": 0.001})
    l2 = cross_entropy(worst(x, y)[1]).mean()
    assert float(recipe.loss(Linear(), x, y, seeded(1)).detach()) == pytest.approx(float(l2), rel=1e-3)
    seen = recipe.training_inputs(Linear(), x, y, seeded(1))
    torch.testing.assert_close((seen - x).flatten(1).norm(dim=1), torch.full((16,), EPS_L2), rtol=1e-3, atol=0)


def test_mat_rand_attacks_some_images_in_each_norm_and_its_loss_is_theirs():
    x, y = pictures(64)
    recipe = Rand(**SMALL)
    in_l2 = recipe.in_l2(x, seeded(2))
    assert 16 < int(in_l2.sum()) < 48
    change = (recipe.training_inputs(Linear(), x, y, seeded(2)) - x).flatten(1)
    torch.testing.assert_close(change[in_l2].norm(dim=1), torch.full((int(in_l2.sum()),), EPS_L2), rtol=1e-3, atol=0)
    torch.testing.assert_close(change[~in_l2].abs(), torch.full_like(change[~in_l2], EPS), rtol=1e-3, atol=0)
    linf, l2 = (cross_entropy(margin) for margin in worst(x, y))
    expected = torch.where(in_l2, l2, linf).mean()
    assert float(recipe.loss(Linear(), x, y, seeded(2)).detach()) == pytest.approx(float(expected), rel=1e-3)


def test_a_batch_may_share_its_norm():
    x, _ = pictures(8)
    recipe = MixedRand(norm_drawn="per batch")
    draws = [recipe.in_l2(x, seeded(seed)) for seed in range(20)]
    assert all(len(set(draw.tolist())) == 1 for draw in draws) and len({bool(draw[0]) for draw in draws}) == 2


def test_the_score_is_what_withstands_both_norms():
    x, y = pictures(200)
    linf, l2 = (margin[:100] > 0 for margin in worst(x, y))
    scores = Max(**SMALL).score(Linear(), x, y, seeded(0))
    assert scores["linf"] == pytest.approx(float(linf.float().mean()), abs=0.011)  # an image may lie on the edge
    assert scores["l2"] == pytest.approx(float(l2.float().mean()), abs=0.011)
    assert scores["score"] == scores["robust"] <= min(scores["linf"], scores["l2"])
    assert math.isclose(scores["clean"], float(((x.flatten(1) @ W > 0) == (y == 1)).float().mean()), abs_tol=1e-6)


@pytest.mark.parametrize("key", ["mat-max", "mat-rand", "min-max"])
def test_they_go_on_from_the_linf_network_and_say_what_they_cost(key):
    recipe = RECIPES[key]()
    assert recipe.start == "cifar10/pgd-linf" and recipe.architecture() == ("preact-resnet18", {"width": 32})
    assert recipe.passes(0) == (1 if key == "mat-rand" else 2) * (1 + recipe.inner_steps)


LOSSES = torch.tensor([[0.2, 1.0, 3.0, 0.5], [0.4, 0.4, 0.1, 0.5]])  # of four images in Linf and in L2


def test_min_max_weights_lie_on_the_simplex_and_lean_to_the_harder_norm():
    weights = MinMax(gamma=1.0).weights(LOSSES)
    assert (weights >= 0).all() and torch.allclose(weights.sum(0), torch.ones(4))
    torch.testing.assert_close(
        weights[0], torch.tensor([0.4, 0.8, 1.0, 0.5])
    )  # 1/2 + (L1 - L2) / (2 gamma), cut to [0,1]


def test_min_max_weights_are_the_best_for_the_attack():
    recipe, grid = MinMax(gamma=0.8), torch.linspace(0, 1, 1001)
    value = grid[:, None] * LOSSES[0] + (1 - grid[:, None]) * LOSSES[1] - 0.8 * ((grid[:, None] - 0.5) ** 2)
    torch.testing.assert_close(recipe.weights(LOSSES)[0], grid[value.argmax(0)], rtol=0, atol=1e-3)
    weights = torch.full((4, 2), 0.5)
    for _ in range(200):  # the short steps of the attack of that name end there, too
        weights = reweighted(weights, LOSSES.T, 0.1, 0.8)
    torch.testing.assert_close(weights.T, recipe.weights(LOSSES), rtol=0, atol=1e-4)


def test_min_max_minimises_the_weighted_losses_and_only_through_the_losses():
    losses = LOSSES.clone().requires_grad_(True)
    found = MinMax(gamma=1.0).combine(losses)
    torch.testing.assert_close(found, torch.tensor([0.4 * 0.2 + 0.6 * 0.4, 0.8 + 0.2 * 0.4, 3.0, 0.5]))
    (slope,) = torch.autograd.grad(found.sum(), losses)
    torch.testing.assert_close(slope, MinMax(gamma=1.0).weights(LOSSES))


def test_min_max_lies_between_the_average_and_mat_max():
    worst_of, mean_of = LOSSES.amax(0), LOSSES.mean(0)
    torch.testing.assert_close(MinMax(gamma=1e-3).combine(LOSSES), worst_of)
    torch.testing.assert_close(MinMax(gamma=1000.0).combine(LOSSES), mean_of, rtol=1e-2, atol=0)


def test_the_loss_of_min_max_is_that_of_a_linear_model_attacked_in_both_norms():
    class Weighted(Long, MinMax):
        pass

    x, y = pictures(16)
    linf, l2 = (cross_entropy(margin) for margin in worst(x, y))
    share = (0.5 + (linf - l2) / (2 * 0.5)).clamp(0, 1)
    expected = float((share * linf + (1 - share) * l2).mean())
    assert float(Weighted(**SMALL, gamma=0.5).loss(Linear(), x, y, seeded(1)).detach()) == pytest.approx(
        expected, rel=1e-3
    )
