"""The adversarial recipes: each one's loss worked out by hand, and what makes it that recipe."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from explorer.core import Ball, Classifier, batch_shard, seeded, use_generator
from explorer.defenses import RECIPES
from explorer.defenses.half_cw import odd
from explorer.defenses.inner_attacks import fgsm_images
from explorer.defenses.trades import divergence
from explorer.training.state import build

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
    assert (
        cross_entropy(MARGIN - reach) < found < cross_entropy(MARGIN - reach) + 0.02
    )  # convex, and the noise has mean 0


def test_one_full_step_is_the_worst_point_of_a_linear_model_s_ball():
    length = math.sqrt(sum(w * w for w in W))
    recipe = plain("pgd-l2", eps=0.1)
    assert loss_of(recipe, Linear(W), X, Y) == pytest.approx(cross_entropy(MARGIN - 0.1 * length), rel=1e-4)
    moved = recipe.training_inputs(Linear(W), X, Y, seeded(0)) - X
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
    assert torch.equal(
        recipe.training_inputs(model, x, y, seeded(0)), recipe.training_inputs(model, x, 1 - y, seeded(0))
    )
    assert float((recipe.training_inputs(model, x, y, seeded(0)) - x).abs().max()) <= recipe.eps


def test_every_second_image_meets_cw_and_the_others_pgd():
    recipe = plain("half-cw", eps=0.02, eps_l2=0.3, inner_steps=5, cw_steps=1)
    x, y = images()
    moved = (recipe.training_inputs(Linear(W), x, y, seeded(0)) - x).flatten(1)
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
        with batch_shard(start, stop, 7):
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
    changed = (recipe.training_inputs(model, x, torch.arange(8), seeded(1)) != x).any(1, keepdim=True)
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
    with use_generator(seeded(1)):
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
    model.embed = lambda normalised: (
        normalised.flatten(1) * torch.tensor([2.0, 0.0, 2.0, 0.0])
    )  # features 1 and 3 hidden
    margin = 2 * (W[0] * 0.4 + W[2] * 0.6)
    assert loss_of(recipe, model, X, Y) == pytest.approx(cross_entropy(margin), rel=1e-5)


def test_a_full_step_stays_in_the_ball_and_fgsm_is_its_linf_case():
    x, y = images()
    model = Linear(W)
    away = torch.where(y == 1, -1.0, 1.0).view(-1, 1, 1, 1) * torch.tensor(W).view(1, 1, 2, 2)
    torch.testing.assert_close(fgsm_images(model, x, y, Ball("linf", 0.03), seeded(0)), x + 0.03 * away.sign())
    assert F.mse_loss(fgsm_images(model, x, y, Ball("l2", 0.03), seeded(0)), x) > 0


def test_fgsm_is_the_image_and_eps_times_the_sign_no_more():
    recipe = plain("fgsm", eps=0.03)
    x, y = images()
    away = torch.where(y == 1, -1.0, 1.0).view(-1, 1, 1, 1) * torch.tensor(W).sign().view(1, 1, 2, 2)
    torch.testing.assert_close(recipe.training_inputs(Linear(W), x, y, seeded(0)), x + 0.03 * away, atol=1e-6, rtol=0)
    assert torch.equal(*(recipe.training_inputs(Linear(W), x, y, seeded(seed)) for seed in (0, 1)))  # no noise
    reach = 0.03 * sum(map(abs, W))
    assert loss_of(recipe, Linear(W), X, Y) == pytest.approx(cross_entropy(MARGIN - reach), rel=1e-4)


def test_fgsm_training_keeps_the_epoch_by_its_own_measure():
    recipe = plain("fgsm", eps=0.1, selection_steps=3)
    model = Linear([1.0, 0.0, 0.0, 0.0], b=-0.5)
    x = torch.rand(40, 1, 2, 2, generator=seeded(0))
    y = (x[:, 0, 0, 0] > 0.5).long()
    scores = recipe.score(model, x, y, seeded(0))
    held = ((x[:20, 0, 0, 0] - 0.5).abs() > 0.1).float().mean().item()
    assert scores == {"clean": 1.0, "robust": pytest.approx(held), "fgsm": pytest.approx(held), "score": scores["fgsm"]}


def free_update(recipe, model, delta, lr=0.0):
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    recipe.loss(model, X, Y, seeded(0), buffers={"delta": delta}).backward()
    optimizer.step()


def test_free_moves_weights_and_perturbation_by_one_backward_pass():
    recipe, model, delta = plain("free", eps=0.05), Linear(W), torch.zeros(1, 1, 2, 2)
    passes = {"forward": 0, "backward": 0}
    model.register_forward_hook(lambda *_: passes.update(forward=passes["forward"] + 1))
    model.head.register_full_backward_hook(lambda *_: passes.update(backward=passes["backward"] + 1))
    before = model.head.weight.detach().clone()
    free_update(recipe, model, delta, lr=0.1)
    assert passes == {"forward": 1, "backward": 1}
    slope = 1 / (1 + math.exp(MARGIN))  # 1 - p(true); the loss's derivative by the right logit is its negative
    expected = before + 0.1 * slope * torch.stack((-X.flatten(), X.flatten()))
    torch.testing.assert_close(model.head.weight.detach(), expected)
    torch.testing.assert_close(delta.flatten(), -0.05 * torch.tensor(W).sign())


def test_free_s_loss_is_taken_where_the_perturbation_stands_and_that_stays_inside_eps():
    recipe, model = plain("free", eps=0.05), Linear(W)
    delta = torch.full((1, 1, 2, 2), 0.02)
    there = float(recipe.loss(model, X, Y, seeded(0), buffers={"delta": delta}).detach())
    assert there == pytest.approx(cross_entropy(MARGIN + 0.02 * sum(W)), rel=1e-5)
    for _ in range(3):
        free_update(recipe, model, delta)
    torch.testing.assert_close(delta.flatten(), -0.05 * torch.tensor(W).sign())
    assert loss_of(recipe, model, X, Y) == pytest.approx(cross_entropy(MARGIN), rel=1e-5)  # no buffer: from nothing


def epochs(*scores):
    return [{"epoch": i + 1, "robust": r, "fgsm": f, "score": r} for i, (r, f) in enumerate(scores)]


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([(0.30, 0.34), (0.38, 0.42), (0.40, 0.46)], None),  # goes well
        ([(0.30, 0.34), (0.05, 0.10)], None),  # everything falls: something else has happened
        ([(0.38, 0.42), (0.10, 0.80), (0.0, 0.95)], "since epoch 2"),  # the single step far above PGD
        (
            [(0.38, 0.42), (0.17, 0.40), (0.16, 0.36)],
            "since epoch 2",
        ),  # PGD falls by 20 points, the single step does not
        ([(0.0, 0.9)], "since epoch 1"),
        ([(0.38, 0.42), (0.02, 0.70), (0.36, 0.41)], "from epoch 2 to epoch 2"),  # it recovered
    ],
)
def test_collapse_is_named_where_it_is_one_and_only_there(scores, expected):
    said = RECIPES["fgsm"]().warning(epochs(*scores))
    assert (expected is None) == (said == "")
    if expected:
        assert said.startswith(f"Catastrophic overfitting {expected}: after epoch")


def test_the_sentence_on_a_collapse_has_the_numbers_and_says_what_is_kept():
    assert RECIPES["nfgsm"]().warning(epochs((0.38, 0.42), (0.031, 0.92))) == (
        "Catastrophic overfitting since epoch 2: after epoch 2, 92.0% of the held-out images withstand a single step, but "
        "only 3.1% withstand PGD. The best epoch, 1, is none of these."
    )


@pytest.mark.parametrize("key", ["fgsm", "nfgsm", "free", "pgd-l2", "pgd-linf", "lwta", "early-stopping", "localized"])
def test_every_recipe_that_takes_single_steps_is_watched_for_a_collapse(key):
    more = {"inner_steps": 1, "finish_steps": 1} if key == "localized" else {}
    recipe = RECIPES[key](**{"start": "", "selection_steps": 1, "width": 4} | more)
    assert recipe.single_step and "fgsm" in recipe.half
    x, y = torch.rand(6, 3, 32, 32, generator=seeded(0)), torch.arange(6)
    assert "fgsm" in recipe.score(build(recipe, CPU).eval(), x, y, seeded(0))


def test_pgd_training_is_not():
    recipe = RECIPES["pgd-linf-scratch"](width=4)
    assert not recipe.single_step and recipe.warning([{"robust": 0.0, "score": 0.0}]) == ""


def test_a_collapsed_network_passes_the_single_step_and_fails_pgd():
    """Logit 1 leads by a sawtooth of the first pixel: one full step lands on a tooth's top, smaller ones fall off it."""

    class Sawtooth(Linear):
        def forward(self, pixels):
            lead = torch.cos((pixels[:, 0, 0, 0] - 0.5) * 2 * math.pi / 0.1) + 0.3 * (pixels[:, 0, 0, 0] - 0.5)
            return torch.stack((-lead, lead), 1)

    recipe = plain("fgsm", eps=0.1, selection_steps=10)
    x, y = torch.full((40, 1, 2, 2), 0.501), torch.ones(40, dtype=torch.int64)
    scores = recipe.score(Sawtooth(W), x, y, seeded(0))
    assert scores["fgsm"] == 1.0 and scores["robust"] < 0.2
    assert "Catastrophic overfitting since epoch 1" in recipe.warning([{"epoch": 1, **scores}])


def test_early_stopping_counts_epochs_since_the_first_best():
    recipe = RECIPES["early-stopping"](patience=2, epochs=9)
    ends = [
        recipe.early_stop([{"score": s} for s in scores])
        for scores in ([], [0.3], [0.3, 0.3], [0.3, 0.2, 0.3], [0.3, 0.2, 0.31])
    ]
    assert ends == [False, False, False, True, False]
    history = [{"robust": s, "score": s} for s in (0.30, 0.40, 0.39, 0.40)]
    assert recipe.warning(history) == (
        "Stopped early, after epoch 4 of 9: held-out robust accuracy has not risen since epoch 2."
    )
    assert recipe.warning(history[:3]) == ""


def test_early_stopping_s_rate_falls_in_two_steps():
    recipe = RECIPES["early-stopping"](lr=0.08, warmup=0.1)
    rates = [recipe.learning_rate(update, 100) for update in range(100)]
    assert rates[0] == pytest.approx(0.008) and rates[9:50] == [pytest.approx(0.08)] * 41
    assert rates[50:75] == [pytest.approx(0.008)] * 25 and rates[75:] == [pytest.approx(0.0008)] * 25


def test_early_stopping_minimises_the_loss_of_attacked_images():
    recipe = plain("early-stopping", eps=0.05, inner_steps=7, finish_steps=7)
    reach = 0.05 * sum(map(abs, W))
    assert loss_of(recipe, Linear(W), X, Y) == pytest.approx(cross_entropy(MARGIN - reach), rel=1e-4)
