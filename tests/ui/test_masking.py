"""What is said about gradient masking follows from what was seen, and claims no more."""

import dataclasses

import pytest
import torch

from explorer.engine import AttackRequest, Result
from explorer.engine.masking import ATTEMPTS, PICTURES, Tried, remembered, tried
from explorer.evaluation.verdict import Verdict
from explorer.models import zoo
from explorer.ui.text.masking import pattern

BALL = 8 / 255


def one(name, group, reached, **changes):
    values = {"norm": "linf", "limit": BALL, "distance": BALL, "draws": 1, "degenerate": 0.0} | changes
    return Tried(name, group, reached=reached, **values)


PGD = one("PGD (20 steps)", "iterated", False)
SQUARE = one("Square", "black-box", True)


MODELS = [card.name for card in zoo.cards() if card.dataset == "cifar10"]


def asked(**changes):
    return AttackRequest(**({"dataset": "cifar10", "image": 2, "model": MODELS[0]} | changes)).checked()


def result(reached, linf=BALL, degenerate=0.0, inside=True):
    number = {"dtype": torch.float64}
    verdict = Verdict(
        torch.tensor([reached]), torch.tensor([reached]), torch.tensor([3]), torch.tensor([3]), torch.tensor([inside]),
        torch.tensor([linf], **number), torch.tensor([1.0], **number), torch.tensor([linf], **number), 1,
        torch.tensor([float(reached)], **number),
    )  # fmt: skip
    return Result(1, verdict, {"stalled_share": degenerate})


@pytest.mark.parametrize(("now", "before"), [(PGD, [SQUARE]), (SQUARE, [PGD])])
def test_answers_alone_succeed_where_gradients_fail(now, before):
    found = pattern(now, before)
    assert found.flag and "looks like gradient masking" in found.words
    assert "Square reached the goal on this picture by the model's answers alone" in found.words
    assert "PGD (20 steps), which may follow the gradient, did not" in found.words and "L∞ 8/255" in found.words
    assert "transfer" in found.words and "draws per step" in found.words  # what to try next


def test_a_walk_without_a_slope_is_called_blind():
    blind = dataclasses.replace(PGD, degenerate=0.93)
    found = pattern(blind, [])
    assert found.flag and "93%" in found.words and "Square" in found.words and "says little" in found.words
    assert pattern(dataclasses.replace(blind, reached=True), []) is None  # it succeeded all the same
    assert pattern(dataclasses.replace(PGD, degenerate=0.3), []) is None


def test_averaging_that_succeeds_is_told_as_such():
    found = pattern(dataclasses.replace(PGD, reached=True, draws=20), [PGD])
    assert found.flag and "Averaging mattered" in found.words and "20 draws" in found.words


def test_one_step_that_does_better_than_many_is_a_sign():
    found = pattern(one("FGSM", "single step", True), [PGD])
    assert found.flag and "One step did better than many" in found.words


def test_a_stronger_gradient_attack_means_weakness_and_not_masking():
    longer = one("PGD (100 steps)", "iterated", True)
    found = pattern(longer, [PGD])
    assert "PGD (20 steps) was too weak here" in found.words and "masking" not in found.words
    nearer = one("DeepFool", "minimal", True, limit=None, distance=BALL / 2)
    assert "too weak" in pattern(PGD, [nearer]).words


def test_a_success_outside_the_ball_says_nothing():
    far = one("DeepFool", "minimal", True, limit=None, distance=2 * BALL)
    larger = one("Square", "black-box", True, limit=3 * BALL, distance=3 * BALL)
    other_norm = dataclasses.replace(SQUARE, norm="l2")
    assert pattern(PGD, [far, larger, other_norm]) is None


def test_two_kinds_that_fail_raise_no_flag_and_prove_nothing():
    found = pattern(PGD, [dataclasses.replace(SQUARE, reached=False)])
    assert not found.flag and "No flag raised" in found.words and "no proof" in found.words
    assert pattern(PGD, [one("FGSM", "single step", False)]) is None  # only gradients were tried


@pytest.mark.parametrize(
    "words", [pattern(PGD, [SQUARE]).words, pattern(dataclasses.replace(PGD, degenerate=1.0), []).words]
)
def test_nothing_is_called_robust(words):
    assert "is robust" not in words and "proves" not in words


# The memory


def test_the_same_picture_model_and_wish_are_held_against_each_other():
    memory = {}
    assert remembered(memory, result(False), asked())[1] == []
    now, before = remembered(memory, result(True), asked(attack="square"))
    assert now.name == "Square" and [old.name for old in before] == ["PGD (20 steps)"]
    assert pattern(now, before).flag
    for other in (asked(image=3), asked(target="cat"), asked(model=MODELS[1])):
        assert remembered(memory, result(True), other)[1] == []
    assert len(remembered(memory, result(False), asked())[1]) == 1  # itself is not among them


def test_settings_and_seeds_tell_tries_apart():
    first, second = tried(result(False), asked()), tried(result(False), asked(hyper={"steps": 40}, seed=3))
    assert (first.name, second.name) == ("PGD (20 steps)", "PGD (40 steps, seed 3)")
    assert tried(result(True, inside=False), asked()).reached is False
    minimal = tried(result(True, linf=0.01), asked(attack="deepfool", norm="linf"))
    assert minimal.limit is None and minimal.distance == 0.01


def test_the_memory_is_bounded():
    memory = {}
    for image in range(PICTURES + 5):
        remembered(memory, result(False), asked(image=image))
    for seed in range(ATTEMPTS + 5):
        remembered(memory, result(False), asked(image=PICTURES + 4, seed=seed))
    assert len(memory) == PICTURES and max(map(len, memory.values())) == ATTEMPTS
