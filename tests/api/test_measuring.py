"""`explorer.robustness`: the accuracy that evaluation measures, attack after attack, as a value and as a few lines."""

import pytest
import torch

import explorer
from explorer.attacks import ATTACKS
from explorer.core import Ball, InvalidValue, UnknownName, wilson
from explorer.data import Images
from explorer.evaluation import robust_accuracy
from explorer.evaluation.robustness import accuracy_in_turn
from explorer.testing.networks import WithNoise, small_case

EPS = 0.03


@pytest.fixture(scope="module")
def small():
    model, x, y = small_case()
    y = y.clone()
    y[:4] = (y[:4] + 1) % 4  # four that it has wrong
    return model, x, y


@pytest.fixture
def images(small):
    _, x, y = small
    return Images(x, y, ("a", "b", "c", "d"), "images", "given", torch.arange(len(x)), "by a script")


def test_it_is_evaluations_own_number(small, images):
    model, x, y = small
    found = explorer.robustness(model, x, y, ("fgsm", "pgd"), eps=EPS)
    same = accuracy_in_turn(model, images, [ATTACKS["fgsm"](), ATTACKS["pgd"]()], Ball("linf", EPS), batch=48)
    fgsm = robust_accuracy(model, images, ATTACKS["fgsm"](), Ball("linf", EPS), batch=48)
    assert (found.robust, found.low, found.high) == (same.accuracy, same.low, same.high) and found.n == 48
    assert found.after == (("fgsm", fgsm.accuracy), ("pgd", same.accuracy))
    assert found.clean == 44 / 48 > fgsm.accuracy >= found.robust > 0
    clean, first, second = found.measures
    assert (clean.kind, first.attack, second.attack) == ("clean", "fgsm", "pgd") and second.n == first.correct
    assert wilson(clean.correct, 48) == (clean.low, clean.high)


def test_an_attack_with_settings_and_one_of_the_smallest_change(small):
    model, x, y = small
    weak = explorer.robustness(model, x, y, ATTACKS["pgd"](steps=1, random_start=False, rel_step=0.1), eps=EPS)
    assert weak.robust > explorer.robustness(model, x, y, "pgd", eps=EPS).robust
    assert (
        explorer.robustness(model, x, y, "deepfool", eps=EPS).robust
        < explorer.robustness(model, x, y, "deepfool", eps=0.01).robust
    )


def test_attacks_that_nothing_is_left_for_leave_nothing(small):
    model, x, y = small
    found = explorer.robustness(model, x, y, ("pgd", "fgsm"), eps=0.9)
    assert found.after == (("pgd", 0.0), ("fgsm", 0.0)) and found.robust == 0 and len(found.measures) == 2


def test_it_prints_what_it_knows(small):
    model, x, y = small
    lines = str(explorer.robustness(model, x, y, ("fgsm",), eps=8 / 255)).splitlines()
    assert lines[0] == "48 images, linf 8/255; share classified right"
    assert lines[1].split() == ["clean", "91.7", "%", "[80.4,", "96.7]"] and lines[2].split()[:2] == ["after", "fgsm"]
    assert lines[3].endswith(", at most") and len(lines) == 4


def test_a_random_model_without_draws_is_said_to_be_flattered(small):
    inner, x, y = small
    model = WithNoise(inner).eval()
    assert "not adaptive" in str(explorer.robustness(model, x[:8], y[:8], "fgsm"))
    assert "not adaptive" not in str(explorer.robustness(model, x[:8], y[:8], ATTACKS["fgsm"](draws=4)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"attacks": ()}, "attacks must name at least one attack"),
        ({"attacks": "pdg"}, "Did you mean 'pgd'"),
        ({"attacks": "cw"}, "norm must be l2 for CW; got 'linf'"),
        ({"norm": "l3"}, "norm must be one of"),
        ({"eps": torch.full((48,), 0.1)}, "eps must be one number here"),
        ({"eps": 8}, "Did you mean 8/255"),
        ({"batch": 0}, "batch must be"),
        ({"y": [7] * 48}, r"y must lie in \[0, 3\]"),
        ({"x": torch.rand(1, 8, 8)}, "x must be a tensor"),
    ],
)
def test_what_makes_no_sense_is_one_sentence(small, change, said):
    model, x, y = small
    asked = {"x": x, "y": y} | change
    with pytest.raises((InvalidValue, UnknownName), match=said) as refusal:
        explorer.robustness(model, asked.pop("x"), asked.pop("y"), **asked)
    assert "\n" not in str(refusal.value)


def test_an_attack_of_ones_own_needs_no_key(small):
    class Mine(ATTACKS["fgsm"]):
        """FGSM that nobody registered."""

    model, x, y = small
    found, same = (explorer.robustness(model, x, y, attacks, eps=EPS) for attacks in (Mine(), "fgsm"))
    assert found.after == (("Mine", same.robust),) and found.measures[1].attack == "Mine"
