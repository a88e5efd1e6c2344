"""The report card for gradient masking: flags on eight planted maskers, none on six honest networks, and words that claim no more."""

import pytest

from explorer.core import Linf
from explorer.data import load
from explorer.evaluation.masking import CHECKS, Bench, Raised, ask, summary
from explorer.models import zoo
from tests.evaluation import maskers

N = 24
SURE = {  # of each masker, a check that must see it
    "Rounding": "zero", "Scaled": "zero", "Noise": "random", "FixedTemperature": "random", "Clipped": "differences",
    "Softmax": "probabilities", "Median": "blind", "Resized": "random",
}  # fmt: skip


def card_of(model, name, eps=2 / 255, checks=CHECKS, twin=None):
    bench = Bench(model, load(name, n=N, source="sample"), Linf(eps), twin=twin)
    return {check.key: ask(bench, check) for check in checks}


@pytest.mark.parametrize("kind", maskers.MASKERS, ids=lambda kind: kind.__name__)
def test_a_planted_masker_raises_a_flag_with_its_picture(kind):
    needed = [check for check in CHECKS if check.key == SURE[kind.__name__]]
    found = card_of(maskers.planted(kind), "cifar10", checks=needed)
    (one,) = found.values()
    assert one.raised and 0 <= one.picture < N and ATTACK_NAMED(one)
    assert "raised a flag" in summary(found)


def ATTACK_NAMED(one):
    return one.attack in ("pgd", "fgsm", "square", "uniform-noise")


@pytest.mark.parametrize("name", maskers.HONEST)
def test_an_honest_network_raises_none(name):
    twins = [other for other in maskers.HONEST if other != name and other.split("/")[0] == name.split("/")[0]]
    found = card_of(zoo.load(name), name.split("/")[0], eps=8 / 255, twin=zoo.load(twins[0]))
    assert {key: one.said for key, one in found.items() if one.raised} == {}
    said = summary(found)
    assert said.startswith("No flag was raised") and "does not show" in said and "robust" not in said.lower()


def test_attacks_that_need_no_gradient_win_where_pixels_are_rounded():
    wins = [check for check in CHECKS if check.key in ("black-box", "transfer")]
    found = card_of(
        maskers.planted(maskers.Rounding), "cifar10", eps=8 / 255, checks=wins, twin=zoo.load(maskers.HONEST[0])
    )
    assert all(one.raised for one in found.values())


def test_what_cannot_be_asked_is_not_called_unflagged():
    bench = Bench(zoo.load(maskers.HONEST[0]), load("cifar10", n=4, source="sample"), Linf(8 / 255))
    transfer = next(check for check in CHECKS if check.key == "transfer")
    assert ask(bench, transfer).raised is None
    assert "by 0 checks" in summary({"transfer": Raised(None, "")})
