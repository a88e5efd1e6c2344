"""Accuracies that can be computed by hand."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from explorer.attacks import ATTACKS
from explorer.attacks.pgd import PGD
from explorer.core import Ball, Cancelled, Classifier, InvalidValue, current_rng, wilson
from explorer.data import Images
from explorer.evaluation import robustness
from explorer.evaluation.robustness import accuracy_in_turn, clean_accuracy, noisy_accuracy, robust_accuracy

EPS = 8 / 255
LINF = Ball("linf", EPS)
FGSM = ATTACKS["fgsm"]()


class Brightness(Classifier):
    """Two classes: 1 where the mean pixel exceeds one half. The Linf distance to the boundary is |mean - 1/2|."""

    def __init__(self, sign=1.0):
        super().__init__([0.5], [0.25], (1, 2, 2), 2)
        self.head = nn.Linear(4, 2)
        with torch.no_grad():
            self.head.weight.copy_(sign * torch.tensor([[-1.0], [1.0]]).expand(2, 4))
            self.head.bias.copy_(sign * torch.tensor([2.0, -2.0]))
        self.seen, self.dtypes = [], []
        self.freeze()

    def embed(self, normalised):
        pixels = normalised * self.std + self.mean
        self.seen.append(len(pixels))
        return pixels.flatten(1)

    def forward(self, pixels):
        logits = super().forward(pixels)
        self.dtypes.append(logits.dtype)
        return logits


class Coin(Brightness):
    """As `Brightness`, but each draw turns the answer around with probability p, whatever it sees."""

    stochastic = True

    def __init__(self, p):
        super().__init__()
        self.p = p

    def forward(self, pixels):
        turned = torch.rand(len(pixels), 1, generator=current_rng(pixels.device)) < self.p
        logits = super().forward(pixels)
        return torch.where(turned, -logits, logits)


def images(distances, wrong=()):
    """Grey images (1,2,2) at these distances from the boundary, in units of EPS; those in `wrong` get the other label."""
    n = len(distances)
    y = torch.arange(n) % 2
    x = 0.5 + torch.where(y == 1, 1.0, -1.0) * torch.tensor(distances) * EPS
    y[list(wrong)] = 1 - y[list(wrong)]
    return Images(
        x.view(n, 1, 1, 1).expand(n, 1, 2, 2).clone(), y, ("dark", "bright"), "grey", "test", torch.arange(n), "made"
    )


MIXED = images([0.5, 0.9, 1.1, 3.0, 2.0, 0.99, 1.01], wrong=[4])  # right: all but one; robust: 1.1, 3.0, 1.01


def same_but_time(a, b):
    return replace(a, seconds=0) == replace(b, seconds=0)


@pytest.mark.parametrize("batch", [1, 3, 250])
@pytest.mark.parametrize("attack", [FGSM, PGD(), PGD(steps=50, restarts=2)], ids=str)
def test_robust_accuracy_is_exact(attack, batch):
    measure = robust_accuracy(Brightness(), MIXED, attack, LINF, batch=batch)
    assert (measure.correct, measure.n, measure.accuracy) == (3, 7, 3 / 7)
    assert (measure.low, measure.high) == wilson(3, 7)
    assert measure.kind == "white-box" and measure.note == "" and measure.verdict_draws == 1
    assert measure.attack == ATTACKS.key_of(attack) and measure.hyper == attack.to_dict()
    assert (measure.norm, measure.eps, measure.draws) == ("linf", EPS, 1) and measure.zero_gradient_share == 0
    assert measure.data == "grey test, made" and measure.chosen == "7 images as given" and measure.batch == batch
    assert measure.precision == "float32" and measure.source_model is None


def test_any_module_is_measured():
    """Which says neither its classes nor its device, nor whether it is stochastic."""
    model = Brightness()
    bare = nn.Sequential(nn.Flatten(), model.head).eval()
    asked = (MIXED, PGD(), LINF)
    assert same_but_time(robust_accuracy(bare, *asked), robust_accuracy(model, *asked))
    transfer = robust_accuracy(bare, *asked, craft_on=nn.Sequential(bare).eval(), source_model="itself")
    assert transfer.correct == 3 and clean_accuracy(bare, MIXED).correct == 6
    with pytest.raises(InvalidValue, match="evaluation mode"):
        clean_accuracy(bare.train(), MIXED)


def test_in_l2():
    """Grey images: the L2 distance is twice (the root of four pixels) the Linf distance."""
    assert robust_accuracy(Brightness(), MIXED, PGD(), Ball("l2", 2 * EPS)).correct == 3
    assert robust_accuracy(Brightness(), MIXED, PGD(), Ball("l2", 1.9 * EPS)).correct == 4


@pytest.mark.parametrize("batch", [2, 250])
def test_the_smallest_change_decides_by_its_length(batch):
    """The distances of the images classified right are 0.5, 0.9, 0.99, 1.01, 1.1 and 3 EPS: 0.99 is in the middle."""
    attack = ATTACKS["deepfool"](overshoot=0.001)
    for eps, correct in ((0.4, 6), (1.0, 3), (2.9, 1), (3.1, 0)):
        measure = robust_accuracy(Brightness(), MIXED, attack, Ball("linf", eps * EPS), batch=batch)
        assert measure.correct == correct
        assert measure.median_distance == pytest.approx(0.99 * EPS * 1.001, rel=1e-3) and measure.accuracy_8bit is None
    assert robust_accuracy(Brightness(), MIXED, FGSM, LINF).median_distance is None


def test_a_distance_that_most_images_do_not_have_is_no_median():
    blind = Brightness()
    with torch.no_grad():
        blind.head.weight.zero_()
    y = torch.zeros(4, dtype=torch.int64)  # the bias alone decides: nothing can be changed
    measure = robust_accuracy(blind, replace(images([1.0] * 4), y=y), ATTACKS["deepfool"](steps=3), Ball("linf", 1.0))
    assert measure.correct == 4 and measure.median_distance is None and measure.zero_gradient_share == 1


def test_clean_accuracy():
    measure = clean_accuracy(Brightness(), MIXED, batch=2, chosen="all 7")
    assert (measure.kind, measure.correct, measure.n, measure.verdict_draws, measure.chosen) == (
        "clean",
        6,
        7,
        1,
        "all 7",
    )
    assert measure.attack is measure.norm is measure.eps is None


def test_ties_do_not_count_as_right():
    """A constant network is right for one class only."""
    model = Brightness()
    with torch.no_grad():
        model.head.weight.zero_(), model.head.bias.zero_()
    assert clean_accuracy(model, MIXED).correct == int((MIXED.y == 0).sum())


def test_the_measure_repeats_under_its_seed():
    def measure(seed):
        return robust_accuracy(Coin(0.4), MIXED, PGD(steps=3), LINF, seed=seed, batch=4)

    assert same_but_time(measure(1), measure(1))
    assert len({measure(seed).correct for seed in range(6)}) > 1


def test_what_is_wrong_anyway_is_not_attacked():
    model = Brightness()
    robust_accuracy(model, images([1.0] * 4, wrong=range(4)), PGD(), LINF)
    assert model.seen == [4, 4]  # the verdict on the images as they are, and rounded


def test_fooled_images_leave_between_restarts():
    model = Brightness()
    robust_accuracy(model, images([0.1, 3.0, 0.1, 3.0, 0.1]), PGD(steps=2, rel_step=1.0, restarts=3), LINF)
    walked = [n for n in model.seen[2:] if n in (5, 2)]
    assert walked[0] == 5 and walked[-1] == 2 and walked.count(2) >= 6
    model.seen.clear()
    robust_accuracy(model, images([0.1] * 5), PGD(steps=50, rel_step=1.0, restarts=3), LINF)
    assert len(model.seen) < 20, "goes on although everything has fallen"


def test_an_attack_that_rounding_undoes():
    """A change of less than half a level vanishes in an 8-bit file."""
    level = images([0.0] * 4)
    x = (
        torch.where(level.y.bool(), 128 / 255, 127 / 255).view(4, 1, 1, 1).expand(4, 1, 2, 2).clone()
    )  # 0.5 from the boundary
    near = replace(level, x=x)
    flat = robust_accuracy(Brightness(), near, PGD(), Ball("linf", 0.6 / 255))
    assert flat.accuracy == 0 and flat.accuracy_8bit == 0  # rounded up to a whole level: survives
    model = Brightness()
    with torch.no_grad():
        model.head.bias.copy_(torch.tensor([4 * 127.7 / 255, -4 * 127.7 / 255]))  # 0.3 of a level from 128
    measure = robust_accuracy(model, replace(near, x=x, y=level.y), PGD(), Ball("linf", 0.45 / 255))
    assert measure.correct == 2 and measure.accuracy_8bit == 1  # the bright ones fall, and rise again


def test_points_outside_the_ball_do_not_count(monkeypatch):
    honest = PGD.walk

    def cheat(self, model, x0, goal, ball, rng):
        yield from honest(self, model, x0, goal, Ball(ball.norm, 4 * ball.eps), rng)

    monkeypatch.setattr(PGD, "walk", cheat)
    assert robust_accuracy(Brightness(), images([1.5, 3.5]), PGD(random_start=False), LINF).correct == 2


def test_a_claim_that_float32_does_not_confirm_does_not_count(monkeypatch):
    honest = PGD.walk

    def boast(self, *arguments):
        for step in honest(self, *arguments):
            yield replace(step, reached=torch.ones_like(step.reached))

    monkeypatch.setattr(PGD, "walk", boast)
    assert robust_accuracy(Brightness(), MIXED, PGD(), LINF).correct == 3


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_logits_that_are_not_finite_are_no_robustness(bad):
    class Fragile(Brightness):
        def forward(self, pixels):
            logits = super().forward(pixels)
            exact = ((pixels - MIXED.x[:1]).abs().flatten(1).amax(1) < 1e-6) | ((pixels * 255) % 1 == 0).flatten(1).all(
                1
            )
            return torch.where(exact[:, None], logits, bad)

    one = images([0.5])
    with pytest.raises(FloatingPointError, match="not finite"):
        robust_accuracy(Fragile(), one, PGD(), LINF)


def test_gradients_that_are_zero_are_counted():
    class Blind(Brightness):
        def forward(self, pixels):
            return super().forward(pixels.detach()) + 0 * pixels.sum()

    assert robust_accuracy(Blind(), images([3.0] * 4), PGD(), LINF).zero_gradient_share == 1


def test_bfloat16_is_for_the_attack_alone():
    model = Brightness()
    measure = robust_accuracy(model, MIXED, PGD(), LINF, precision="bfloat16", batch=7)
    assert measure.correct == 3 and measure.precision == "bfloat16 attack, float32 verdict"
    assert model.dtypes[:2] == [torch.float32] * 2 and torch.bfloat16 in model.dtypes
    assert not torch.is_autocast_enabled("cpu")


# Stochastic networks


def test_noise_is_no_attack():
    """Two draws in ten are wrong whatever the pixels are; the majority is right, and 50 steps do not change that."""
    far = images([3.0] * 40)
    measure = robust_accuracy(Coin(0.2), far, PGD(steps=50), LINF)
    assert measure.verdict_draws == 20 and measure.correct >= 38
    assert clean_accuracy(Coin(0.2), far).correct >= 38


def test_what_falls_falls_on_fresh_draws():
    near = images([0.5] * 40)
    assert robust_accuracy(Coin(0.1), near, PGD(steps=20, draws=8), LINF).correct <= 2


def test_one_draw_is_not_adaptive_and_several_are():
    one = robust_accuracy(Coin(0.1), MIXED, PGD(steps=2), LINF)
    several = robust_accuracy(Coin(0.1), MIXED, PGD(steps=2, draws=4), LINF)
    assert one.kind == "white-box" and "not adaptive" in one.note and one.draws == 1
    assert several.kind == "adaptive" and several.note == "" and several.draws == 4


def test_draws_share_the_batch():
    model = Coin(0.1)
    robust_accuracy(model, images([3.0] * 10), PGD(steps=1, draws=5), LINF, batch=10)
    assert max(model.seen) == 2 * 20  # two images a batch; their verdict takes twenty draws


def test_clean_accuracy_by_majority_and_by_single_draws():
    far = images([3.0] * 200)
    single = clean_accuracy(Coin(0.3), far, draws=1)
    assert (
        single.accuracy == pytest.approx(0.7, abs=0.1)
        and single.verdict_draws == 1
        and single.note == "one draw an image"
    )
    assert clean_accuracy(Coin(0.3), far).note == "majority of 20 draws"


def test_noisy_accuracy():
    """At one sigma (of the mean of four pixels) from the boundary, Phi(1) = 84 % stay right."""
    sigma = 0.1
    far = images([sigma / 2 / EPS] * 2000)
    measure = noisy_accuracy(Brightness(), far, sigma)
    assert measure.kind == "noisy" and measure.sigma == sigma and measure.accuracy == pytest.approx(0.841, abs=0.03)
    assert noisy_accuracy(Brightness(), far, sigma, seed=1).correct != measure.correct
    with pytest.raises(InvalidValue, match="sigma must be above 0"):
        noisy_accuracy(Brightness(), far, 0.0)


# Transfer


def test_transfer_from_a_twin_is_as_strong_and_from_a_stranger_is_nothing():
    twin = robust_accuracy(Brightness(), MIXED, PGD(), LINF, craft_on=Brightness(), source_model="twin")
    assert twin.kind == "transfer" and twin.source_model == "twin" and twin.correct == 3
    stranger = Brightness()
    with torch.no_grad():
        stranger.head.weight.copy_(torch.tensor([[1.0, -1, 1, -1], [-1, 1, -1, 1]]))
    blind = robust_accuracy(Brightness(), MIXED, PGD(), LINF, craft_on=stranger, source_model="stranger")
    assert blind.correct == 6


def test_transfer_attacks_also_what_the_source_gets_wrong():
    """A source that is wrong about every image still tells where to go: away from the label."""
    source = Brightness(sign=1.0)
    with torch.no_grad():
        source.head.bias.copy_(torch.tensor([-40.0, 40.0]))  # says "bright" always
    dark = images([0.5] * 6)
    dark = replace(dark, x=dark.x[::2], y=dark.y[::2], index=dark.index[::2])
    assert set(dark.y.tolist()) == {0}
    assert robust_accuracy(Brightness(), dark, PGD(), LINF, craft_on=source, source_model="s").correct == 0


def test_transfer_names_its_source():
    with pytest.raises(InvalidValue, match="craft_on and source_model go together"):
        robust_accuracy(Brightness(), MIXED, PGD(), LINF, craft_on=Brightness())


# Long runs


def test_progress_and_cancellation():
    seen = []
    robust_accuracy(Brightness(), MIXED, FGSM, LINF, batch=3, progress=lambda *at: seen.append(at))
    clean_accuracy(Brightness(), MIXED, batch=4, progress=lambda *at: seen.append(at))
    assert seen == [(3, 7), (6, 7), (7, 7), (4, 7), (7, 7)]
    calls = iter(range(100))
    with pytest.raises(Cancelled, match="stopped before its end"):
        robust_accuracy(Brightness(), images([3.0] * 4), PGD(steps=1000), LINF, should_stop=lambda: next(calls) > 5)
    assert next(calls) < 10, "stops at the next step, not at the next batch"
    with pytest.raises(Cancelled):
        clean_accuracy(Brightness(), MIXED, should_stop=lambda: True)


@pytest.mark.parametrize("batch", [0, -1])
def test_refuses_an_impossible_batch(batch):
    with pytest.raises(InvalidValue, match=f"batch must be a whole number of at least 1; got {batch}"):
        clean_accuracy(Brightness(), MIXED, batch=batch)
    with pytest.raises(InvalidValue, match="batch must be"):
        robust_accuracy(Brightness(), MIXED, FGSM, LINF, batch=batch)


def test_refuses_no_images():
    none = Images(MIXED.x[:0], MIXED.y[:0], MIXED.classes, "grey", "test", MIXED.index[:0], "made")
    with pytest.raises(InvalidValue, match="at least one image"):
        clean_accuracy(Brightness(), none)


def test_nothing_of_the_process_is_touched():
    model = Coin(0.3)
    state = torch.random.get_rng_state()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    robust_accuracy(model, MIXED, PGD(steps=2), LINF)
    noisy_accuracy(model, MIXED, 0.1)
    assert torch.equal(torch.random.get_rng_state(), state) and torch.is_grad_enabled()
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    assert current_rng(torch.device("cpu")) is None


def test_attacks_in_turn_get_only_the_images_left_standing(monkeypatch):
    asked, some = [], images([0.5, 2.0, 0.5, 3.0, 2.0, 0.2], wrong=(4,))

    def first_three_fall(model, part, attack, ball, *, each, **more):
        asked.append((ATTACKS.key_of(attack), part.index.tolist()))
        held = [bool(i >= 3) for i in range(len(part))]
        each += held
        return replace(robust_accuracy(model, part, FGSM, ball, **more), correct=sum(held))

    monkeypatch.setattr(robustness, "robust_accuracy", first_three_fall)
    found = accuracy_in_turn(Brightness(), some, (FGSM, PGD(steps=2), FGSM), LINF, seed=0)
    assert asked == [("fgsm", [0, 1, 2, 3, 4, 5]), ("pgd", [3, 4, 5])]  # nothing is left for the third
    assert (found.correct, found.n, found.accuracy, found.attack) == (0, 6, 0.0, "fgsm+pgd+fgsm")
    assert found.low == 0.0 and found.accuracy_8bit is None and found.hyper["steps"] == 2


def test_one_attack_in_turn_is_that_attack():
    some = images([0.5, 2.0, 0.5, 3.0, 2.0, 0.2], wrong=(4,))
    alone, twice = (
        robust_accuracy(Brightness(), some, FGSM, LINF),
        accuracy_in_turn(Brightness(), some, (FGSM, FGSM), LINF),
    )
    assert (alone.correct, alone.n, alone.low) == (twice.correct, twice.n, twice.low) == (2, 6, alone.low)
