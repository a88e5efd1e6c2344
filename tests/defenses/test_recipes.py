"""Each recipe's loss on a tiny case, worked out by hand, and what makes it that recipe."""

import math
from dataclasses import dataclass
from statistics import NormalDist

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from explorer.core import Ball, Classifier, Goal, InvalidValue, seeded, use_generator
from explorer.data import DATASETS
from explorer.defenses import RECIPES
from explorer.defenses.inner_attacks import input_gradient, nfgsm_images, pgd_images, quick_pgd, robust_mask
from explorer.defenses.recipe import Recipe, accuracy
from explorer.defenses.smoothed import disagreement, soft_radius
from explorer.training.state import build

CPU = torch.device("cpu")
KEYS = RECIPES.keys()


class Linear(Classifier):
    """Two classes, four pixels: logit 1 minus logit 0 is w.x + b."""

    def __init__(self, w, b=0.0):
        super().__init__((0.0,), (1.0,), (1, 2, 2), 2)
        self.head = nn.Linear(4, 2)
        with torch.no_grad():
            self.head.weight.copy_(torch.stack((torch.zeros(4), torch.tensor(w))))
            self.head.bias.copy_(torch.tensor([0.0, b]))

    def embed(self, normalised):
        return normalised.flatten(1)


@dataclass(frozen=True)
class Plain(Recipe):
    """The base recipe, without a registration."""


X = torch.tensor([0.4, 0.5, 0.6, 0.5]).view(1, 1, 2, 2)
W = [1.0, -2.0, 3.0, 0.5]
Y = torch.tensor([1])


def batch_of(recipe, n=8):
    shape = DATASETS[recipe.dataset].shape
    return torch.rand(n, *shape, generator=seeded(0)), torch.arange(n) % 10


def small(key):
    return RECIPES[key](**RECIPES[key].smoke)


@pytest.mark.parametrize("key", KEYS)
def test_every_recipe_builds_and_its_loss_can_be_minimised(key):
    recipe = small(key)
    model = build(recipe, CPU).train()
    x, y = batch_of(recipe)
    optimizer, losses, rng = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9), [], seeded(1)
    for _ in range(30):
        loss = recipe.loss(model, x, y, rng, epoch=0)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 2.0)  # or whether a steep loss falls hangs on rounding
        optimizer.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-5:]) / 5 < losses[0] - 0.2


@pytest.mark.parametrize("key", KEYS)
def test_the_loss_leaves_mode_and_running_statistics_to_the_training_pass(key):
    recipe = small(key)
    model = build(recipe, CPU).train()
    x, y = batch_of(recipe)
    recipe.loss(model, x, y, seeded(1), epoch=0)
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(m.training for m in model.modules())
    assert all(int(m.num_batches_tracked) == 1 for m in norms)  # attacks look in eval mode and count nothing
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("key", KEYS)
def test_scores_are_shares_and_repeat(key):
    recipe = small(key)
    model = build(recipe, CPU).eval()
    x, y = batch_of(recipe, 12)
    first, again = (recipe.score(model, x, y, seeded(3)) for _ in range(2))
    assert first == again and "score" in first
    assert all(0 <= value <= 1 for value in first.values())


@pytest.mark.parametrize("key", KEYS)
def test_values_outside_their_limits_are_refused(key):
    for p in RECIPES[key].params():
        if p.kind in (int, float):
            with pytest.raises(InvalidValue, match=p.name):
                RECIPES[key](**{p.name: p.hi * 2 + 1})


def test_the_plain_loss_is_cross_entropy_with_smoothed_labels():
    margin = float((torch.tensor(W) * X.flatten()).sum())
    right, wrong = -math.log(1 / (1 + math.exp(-margin))), -math.log(1 / (1 + math.exp(margin)))
    loss = Plain(label_smoothing=0.1).loss(Linear(W), X, Y, seeded(0))
    assert float(loss.detach()) == pytest.approx(0.95 * right + 0.05 * wrong, rel=1e-5)


def test_the_input_gradient_points_up_the_loss():
    gradient = input_gradient(Linear(W), X, Y, seeded(0)).flatten()
    assert torch.equal(gradient.sign(), -torch.tensor(W).sign())


def test_n_fgsm_steps_from_noise_and_is_not_clipped_to_the_ball():
    eps, model = 0.05, Linear(W)
    many = X.repeat(500, 1, 1, 1)
    change = nfgsm_images(model, many, Y.repeat(500), eps, seeded(0)) - many
    noise = change + eps * torch.tensor(W).sign().view(1, 1, 2, 2)
    assert float(noise.abs().max()) <= 2 * eps + 1e-6 and float(noise.abs().max()) > 1.9 * eps
    assert float(change.abs().max()) > 2.5 * eps  # up to 3 eps: that is the method
    assert abs(float(noise.mean())) < 0.005


def test_pgd_images_end_at_the_worst_corner_of_the_ball():
    eps, ball = 0.05, Ball("linf", 0.05)
    found = pgd_images(Linear(W), X, Y, ball, steps=10, rel_step=0.5, rng=seeded(0))
    torch.testing.assert_close(found, X - eps * torch.tensor(W).sign().view(1, 1, 2, 2), atol=1e-6, rtol=0)


@pytest.mark.parametrize("key", ["pgd-linf", "lwta"])
def test_adversarial_recipes_train_on_the_worse_loss(key):
    recipe = RECIPES[key](**RECIPES[key].smoke)
    model = build(recipe, CPU).eval()
    x, y = batch_of(recipe, 16)
    attacked = recipe.attacked(model, x, y, seeded(1), steps=5)
    assert float((attacked - x).abs().max()) <= recipe.eps + 1e-6
    assert mean_loss(model, attacked, y) > mean_loss(model, x, y)


def mean_loss(model, x, y, draws=30):
    """Over the same draws of a random model, whatever the images."""
    losses = []
    for seed in range(draws if model.stochastic else 1):
        with torch.no_grad(), use_generator(seeded(seed)):
            losses.append(float(F.cross_entropy(model(x).float(), y)))
    return sum(losses) / len(losses)


def test_the_last_epochs_take_the_end_s_inner_steps():
    recipe = RECIPES["pgd-linf"](epochs=10, inner_steps=1, finish_steps=4, finish_share=0.3)
    assert [recipe.inner_steps_at(epoch) for epoch in range(10)] == [1] * 7 + [4] * 3


def test_smoothed_training_adds_noise_of_sigma_and_does_not_clip():
    recipe = RECIPES["smoothed-0.25"]()
    x = torch.full((64, 3, 32, 32), 0.5)
    noise = recipe.noisy(x, seeded(0)) - x
    assert float(noise.std()) == pytest.approx(0.25, rel=0.01)
    assert float(recipe.noisy(x, seeded(0)).min()) < 0


def test_consistency_is_the_kl_from_the_mean_and_the_mean_s_entropy():
    first, second = (0.5, 0.5), (0.9, 0.1)  # one image, two copies, two classes
    mean = [(a + b) / 2 for a, b in zip(first, second, strict=True)]
    apart = sum(m * math.log(m / p) for copy in (first, second) for m, p in zip(mean, copy, strict=True)) / 2
    entropy = -sum(m * math.log(m) for m in mean)
    logits = torch.tensor([[first], [second]]).log() + 3.0  # (2 copies, 1 image, 2 classes)
    found = disagreement(logits, consistency=7.0, entropy=0.5)
    assert found.shape == (1,) and float(found) == pytest.approx(7 * apart + 0.5 * entropy, rel=1e-5)


def test_the_soft_radius_is_the_gap_of_the_two_quantiles_and_never_negative():
    votes = torch.tensor([[0.8, 0.15, 0.05], [0.2, 0.7, 0.1], [1.0, 0.0, 0.0]])
    found = soft_radius(votes, torch.tensor([0, 0, 0]), sigma=0.5)
    quantile = NormalDist().inv_cdf
    assert found[0].item() == pytest.approx(0.25 * (quantile(0.8) - quantile(0.15))) and found[1] == 0
    assert found[2].item() == pytest.approx(0.25 * 2 * quantile(1 - 1e-6), rel=1e-4)


def test_consistency_draws_another_noise_for_each_copy():
    recipe = RECIPES["smoothed-0.25"](copies=2)
    seen = []

    class Watcher(Linear):
        def forward(self, pixels):
            seen.append(pixels)
            return super().forward(pixels)

    recipe.loss(Watcher(W), X, Y, seeded(0))
    (pixels,) = seen
    assert pixels.shape == (2, 1, 2, 2) and not torch.equal(pixels[0], pixels[1])
    plain = RECIPES["smoothed-0.25"](consistency=0.0, copies=1)
    expected = F.cross_entropy(Linear(W)(plain.noisy(X, seeded(3))), Y).detach()
    assert float(plain.loss(Linear(W), X, Y, seeded(3)).detach()) == pytest.approx(float(expected))


def test_lwta_adds_its_kl_with_the_stated_weight():
    key = "lwta"
    plain, weighted = (RECIPES[key](**RECIPES[key].smoke, kl_weight=weight) for weight in (0.0, 1.0))
    model = build(plain, CPU).train()
    x, y = batch_of(plain)
    without = float(plain.loss(model, x, y, seeded(1)).detach())
    model = build(plain, CPU).train()
    with_kl = float(weighted.loss(model, x, y, seeded(1)).detach())
    assert with_kl - without == pytest.approx(float(model.kl().detach()), rel=1e-4) and model.kl() > 0


def test_accuracies_on_a_model_that_is_known():
    model = Linear([10.0, 0.0, 0.0, 0.0], b=-5.0)  # class 1 where the first pixel is above one half
    x = torch.rand(40, 1, 2, 2, generator=seeded(0))
    first = x[:, 0, 0, 0]
    y = (first > 0.5).long()
    assert accuracy(model, x, y, seeded(0), batch=7) == 1.0
    robust = (first - 0.5).abs() > 0.1
    assert torch.equal(robust_mask(quick_pgd(10), model, x, y, Ball("linf", 0.1), seeded(0), batch=7), robust)
    assert Goal.untargeted(y).labels is y
