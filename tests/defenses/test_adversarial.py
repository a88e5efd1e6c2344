"""The adversarial recipes: each one's loss worked out by hand, and what makes it that recipe."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from explorer.core import Ball, Classifier, part_of_batch, randomness, seeded
from explorer.defenses import RECIPES
from explorer.defenses._recipe import full_step
from explorer.defenses.half_cw import odd
from explorer.defenses.trades import divergence
from explorer.training.loop import build

CPU = torch.device("cpu")


class Linear(Classifier):
    """Two classes, four pixels: logit 1 minus logit 0 is w.x + b."""

    def __init__(self, w, b=0.0, pixels=2):
        super().__init__((0.0,), (1.0,), (1, pixels, pixels), 2)
        self.head = nn.Linear(pixels**2, 2)
        with torch.no_grad():
            self.head.weight.copy_(torch.stack((torch.zeros(pixels**2), torch.tensor(w))))
            self.head.bias.copy_(torch.tensor([0.0, b]))

    def embed(self, normalised):
        return normalised.flatten(1)


W = [1.0, -2.0, 3.0, 0.5]
X = torch.tensor([0.4, 0.5, 0.6, 0.5]).view(1, 1, 2, 2)
Y = torch.tensor([1])
MARGIN = sum(w * x for w, x in zip(W, X.flatten().tolist(), strict=True))


def cross_entropy(margin):
    """Of two classes, the right one ahead by `margin`."""
    return math.log(1 + math.exp(-margin))


def images(n=8, shape=(1, 2, 2)):
    return 0.3 + 0.4 * torch.rand(n, *shape, generator=seeded(0)), torch.arange(n) % 2


def plain(key, **values):
    return RECIPES[key](**{"label_smoothing": 0.0, "start": ""} | values)


def loss_of(recipe, model, x, y, **more):
    return float(recipe.loss(model, x, y, seeded(0), **more).detach())


def test_n_fgsm_s_loss_lies_between_those_of_its_nearest_and_farthest_points():
    """The step costs eps times the sum of |w|; the noise moves the start by at most twice that, either way."""
    eps, reach = 0.02, 0.02 * sum(map(abs, W))
    found = loss_of(plain("nfgsm", eps=eps), Linear(W), X.repeat(400, 1, 1, 1), Y.repeat(400))
    assert cross_entropy(MARGIN - reach) < found < cross_entropy(MARGIN - reach) + 0.02  # convex, and the noise has mean 0


def test_one_full_step_is_the_worst_point_of_a_linear_model_s_ball():
    length = math.sqrt(sum(w * w for w in W))
    recipe = plain("pgd-l2", eps=0.1)
    assert loss_of(recipe, Linear(W), X, Y) == pytest.approx(cross_entropy(MARGIN - 0.1 * length), rel=1e-4)
    moved = recipe.seen(Linear(W), X, Y, seeded(0)) - X
    torch.testing.assert_close(moved.flatten(), -0.1 * torch.tensor(W) / length, rtol=1e-4, atol=1e-6)


def test_pgd_from_scratch_finds_the_corner_and_takes_seven_steps():
    recipe = plain("pgd-linf-scratch", eps=0.05)
    reach = 0.05 * sum(map(abs, W))
    assert loss_of(recipe, Linear(W), X, Y) == pytest.approx(cross_entropy(MARGIN - reach), rel=1e-4)
    assert recipe.start == "" and {recipe.passes(epoch) for epoch in range(recipe.epochs)} == {8}


def test_trades_kl_at_a_known_distribution():
    clean, moved = [0.5, 0.3, 0.2], [0.2, 0.3, 0.5]
    expected = sum(p * math.log(p / q) for p, q in zip(clean, moved, strict=True))
    logits = [torch.tensor([p, p]).log() + 2.0 for p in (clean, moved)]  # two images; a constant changes nothing
    assert float(divergence(*logits)) == pytest.approx(expected, rel=1e-5)
    assert float(divergence(logits[0], logits[0])) == 0


def test_trades_is_the_clean_loss_and_beta_times_the_largest_kl():
    eps, beta = 0.02, 3.0
    recipe = plain("trades", eps=eps, beta=beta)
    reach = eps * sum(map(abs, W))
    p = 1 / (1 + math.exp(-MARGIN))
    worst = 0.0
    for moved in (MARGIN - reach, MARGIN + reach):  # the KL is convex in the margin: it is largest at an end
        q = 1 / (1 + math.exp(-moved))
        worst = max(worst, p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q)))
    found = [float(recipe.loss(Linear(W), X, Y, seeded(seed)).detach()) - cross_entropy(MARGIN) for seed in range(8)]
    assert max(found) == pytest.approx(beta * worst, rel=1e-3)  # from some starts the way leads to the other end
    assert min(found) > 0


@pytest.mark.parametrize("start", ["uniform", "normal"])
def test_trades_asks_no_label_where_to_go(start):
    recipe = plain("trades", inner_start=start)
    x, y = images()
    model = Linear(W)
    assert torch.equal(recipe.seen(model, x, y, seeded(0)), recipe.seen(model, x, 1 - y, seeded(0)))
    assert float((recipe.seen(model, x, y, seeded(0)) - x).abs().max()) <= recipe.eps


def test_every_second_image_meets_cw_and_the_others_pgd():
    recipe = plain("half-cw", eps=0.02, eps_l2=0.3, inner_steps=5, cw_steps=1)
    x, y = images()
    moved = (recipe.seen(Linear(W), x, y, seeded(0)) - x).flatten(1)
    cw = torch.arange(8) % 2 == 1
    assert torch.equal(odd(x), cw)
    away = torch.where(y == 1, -1.0, 1.0)[:, None] * torch.tensor(W)
    torch.testing.assert_close(moved[~cw], 0.02 * away[~cw].sign(), atol=1e-6, rtol=0)  # the corner of the Linf ball
    length = math.sqrt(sum(w * w for w in W))
    right = Linear(W)(x).argmax(1) == y
    expected = torch.where(right[:, None], 0.3 * away / length, torch.zeros(8, 4))
    torch.testing.assert_close(moved[cw], expected[cw], atol=1e-5, rtol=0)  # the shortest way over; fooled ones stay


def test_the_halves_are_the_same_images_however_many_processes_share_the_batch():
    whole = odd(torch.zeros(7, 1, 2, 2))
    parts = []
    for start, stop in ((0, 3), (3, 7)):
        with part_of_batch(start, stop, 7):
            parts.append(odd(torch.zeros(stop - start, 1, 2, 2)))
    assert torch.equal(torch.cat(parts), whole)


def test_cw_images_stop_just_beyond_the_boundary():
    """A long first step fools the model; the shorter ones lead back toward the image until it is about to stop."""
    recipe = plain("half-cw", eps_l2=0.6, cw_steps=12)
    length = math.sqrt(sum(w * w for w in W))
    boundary = MARGIN / length
    assert boundary < 0.6
    found = recipe.cw_images(Linear(W), X, Y, seeded(0))
    assert float((found - X).norm()) == pytest.approx(boundary, abs=0.6 / 2**10)


@pytest.mark.parametrize("area", ["border", "background"])
def test_nothing_outside_the_mask_changes_and_the_share_stays_clean(area):
    recipe = RECIPES["localized"](start="", width=4, area=area, attacked_share=0.75)
    x = torch.rand(8, 3, 32, 32, generator=seeded(0))
    x[:, :, :6] = 0.5  # an even background at the top
    model = build(recipe, CPU).eval()
    changed = (recipe.seen(model, x, torch.arange(8), seeded(1)) != x).any(1, keepdim=True)
    allowed = recipe.mask.allowed(x)
    assert not (changed & ~allowed).any() and bool((~allowed).any())
    attacked = changed.flatten(1).any(1)
    assert attacked.sum() == 6 and not attacked[0]


def test_localized_training_s_loss_on_a_linear_model():
    """Sixteen pixels, a border of one: twelve of them may change, by eps each."""
    w = [0.5 * (-1) ** i * (1 + i % 3) for i in range(16)]
    x = torch.full((1, 1, 4, 4), 0.5)
    border = [i for i in range(16) if i // 4 in (0, 3) or i % 4 in (0, 3)]
    reach = 0.05 * sum(abs(w[i]) for i in border)
    recipe = plain("localized", thickness=1, eps=0.05, attacked_share=1.0)
    found = loss_of(recipe, Linear(w, pixels=4), x, Y)
    assert found == pytest.approx(cross_entropy(0.5 * sum(w) - reach), rel=1e-4)
    half = plain("localized", thickness=1, eps=0.05, attacked_share=0.5)
    both = loss_of(half, Linear(w, pixels=4), x.repeat(2, 1, 1, 1), Y.repeat(2))
    assert both == pytest.approx((cross_entropy(0.5 * sum(w) - reach) + cross_entropy(0.5 * sum(w))) / 2, rel=1e-4)


def test_localized_scores_what_it_trains_for():
    recipe = RECIPES["localized"](start="", thickness=1, eps=0.1, selection_steps=5)
    model = Linear([0.0] * 5 + [1.0] + [0.0] * 10, b=-0.5, pixels=4)  # looks at one pixel, inside the border
    x = torch.rand(20, 1, 4, 4, generator=seeded(0))
    y = (x[:, 0, 1, 1] > 0.5).long()
    assert recipe.score(model, x, y, seeded(0)) == {"clean": 1.0, "robust": 1.0, "score": 1.0}
    model = Linear([1.0] + [0.0] * 15, b=-0.5, pixels=4)  # at a corner
    y = (x[:, 0, 0, 0] > 0.5).long()
    held = ((x[:10, 0, 0, 0] - 0.5).abs() > 0.1).float().mean().item()
    assert recipe.score(model, x, y, seeded(0))["robust"] == pytest.approx(held)


def test_dropout_hides_its_share_in_training_alone_and_draws_from_the_run():
    recipe = RECIPES["baseline-dropout"](width=4, dropout=0.25)
    model = build(recipe, CPU)
    x = torch.rand(64, 3, 32, 32, generator=seeded(0))
    features = model.eval().features(x)
    ones = torch.ones_like(features)
    with randomness(seeded(1)):
        hidden = model.dropout.train()(torch.ones(4000, 8))
    assert hidden.unique().tolist() == [0.0, pytest.approx(4 / 3)]
    assert float((hidden == 0).float().mean()) == pytest.approx(0.25, abs=0.02)
    assert torch.equal(model.dropout.eval()(ones), ones)
    before = torch.get_rng_state()
    losses = [loss_of(recipe, model.train(), x, torch.arange(64) % 10) for _ in range(2)]
    assert losses[0] == losses[1] and torch.equal(torch.get_rng_state(), before)


def test_the_loss_under_dropout_is_that_of_the_features_left():
    recipe = plain("baseline-dropout", dropout=0.5)
    model = Linear(W)
    model.embed = lambda normalised: normalised.flatten(1) * torch.tensor([2.0, 0.0, 2.0, 0.0])  # features 1 and 3 hidden
    margin = 2 * (W[0] * 0.4 + W[2] * 0.6)
    assert loss_of(recipe, model, X, Y) == pytest.approx(cross_entropy(margin), rel=1e-5)


def test_a_full_step_stays_in_the_ball_and_fgsm_is_its_linf_case():
    x, y = images()
    model = Linear(W)
    away = torch.where(y == 1, -1.0, 1.0).view(-1, 1, 1, 1) * torch.tensor(W).view(1, 1, 2, 2)
    torch.testing.assert_close(full_step(model, x, y, Ball("linf", 0.03), seeded(0)), x + 0.03 * away.sign())
    assert F.mse_loss(full_step(model, x, y, Ball("l2", 0.03), seeded(0)), x) > 0
