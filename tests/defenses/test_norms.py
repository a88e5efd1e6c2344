"""Training against several norms: who is attacked in which, and which loss counts."""

import math

import pytest
import torch
from torch import nn

from explorer.core import Classifier, seeded
from explorer.defenses import RECIPES
from explorer.defenses.mat import MixedMax, MixedRand

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
    assert recipe.weigh(torch.stack((one, two))).tolist() == pytest.approx([0.5, 2.0, 0.3])


def test_where_l2_is_the_worse_mat_max_minimises_its_loss_alone():
    x, y = pictures(16)
    recipe = Max(**SMALL | {"eps": 0.001})
    l2 = cross_entropy(worst(x, y)[1]).mean()
    assert float(recipe.loss(Linear(), x, y, seeded(1)).detach()) == pytest.approx(float(l2), rel=1e-3)
    seen = recipe.seen(Linear(), x, y, seeded(1))
    torch.testing.assert_close((seen - x).flatten(1).norm(dim=1), torch.full((16,), EPS_L2), rtol=1e-3, atol=0)


def test_mat_rand_attacks_some_images_in_each_norm_and_its_loss_is_theirs():
    x, y = pictures(64)
    recipe = Rand(**SMALL)
    in_l2 = recipe.in_l2(x, seeded(2))
    assert 16 < int(in_l2.sum()) < 48
    change = (recipe.seen(Linear(), x, y, seeded(2)) - x).flatten(1)
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


@pytest.mark.parametrize("key", ["mat-max", "mat-rand"])
def test_they_go_on_from_the_linf_network_and_say_what_they_cost(key):
    recipe = RECIPES[key]()
    assert recipe.start == "cifar10/pgd-linf" and recipe.architecture() == ("preact-resnet18", {"width": 32})
    assert recipe.passes(0) == (2 if key == "mat-max" else 1) * (1 + recipe.inner_steps)
