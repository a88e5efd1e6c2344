"""Where a model stands: the lowest number of thorough attacks counts, and runs of a few pictures are told apart."""

from dataclasses import replace

import pytest

from explorer.evaluation.standing import is_smoke, standing
from explorer.models import zoo
from explorer.ui.text.choosers import model_label


def measure(kind, accuracy, **more):
    about = {"kind": kind, "accuracy": accuracy, "low": accuracy - 0.02, "high": accuracy + 0.02, "n": 1000, "note": ""}
    return about | {"norm": None, "eps": None, "attack": None} | more


@pytest.fixture
def card():
    return replace(zoo.card("cifar10/pgd-linf"), measures=[], title="Mine")


def test_the_lowest_number_of_a_thorough_attack_counts(card):
    card = replace(card, measures=[
        measure("clean", 0.8),
        measure("white-box", 0.1, attack="fgsm", norm="linf", eps=8 / 255),
        measure("white-box", 0.5, attack="pgd", norm="linf", eps=8 / 255),
        measure("white-box", 0.425, attack="apgd-ce+apgd-t", norm="linf", eps=8 / 255),
        measure("fixed draw", 0.2, attack="pgd", norm="linf", eps=8 / 255),
        measure("white-box", 0.3, attack="pgd", norm="l2", eps=0.5, note="not adaptive: one draw"),
    ])  # fmt: skip
    now = standing(card)
    assert (now.kind, now.clean.accuracy, now.linf.accuracy, now.l2.accuracy) == ("robust", 0.8, 0.425, 0.3)
    assert now.linf.adaptive and not now.l2.adaptive and now.certified is None
    assert model_label(card).startswith("Mine · robust to 8/255: 43 % · adversarial training")


def test_what_falls_is_not_called_robust_and_what_was_not_measured_gets_no_number(card):
    fallen = replace(card, measures=[measure("white-box", 0.03, attack="pgd", norm="linf", eps=8 / 255)])
    assert standing(fallen).kind == "falls" and "falls at 8/255: 3 % left" in model_label(fallen)
    assert standing(card).kind == "not measured" and "nothing measured" in model_label(card)
    assert standing(zoo.card("cifar10/baseline")).kind == "no defence"
    certified = replace(card, measures=[measure("certified", 0.49, norm="l2", eps=0.5)])
    assert standing(certified).kind == "certified" and "certified at 0.5: 49 %" in model_label(certified)


def test_a_run_of_few_pictures_is_a_smoke_run(card):
    assert not any(is_smoke(known) for known in zoo.cards() if known.training.get("images", 0) > 10_000)
    assert is_smoke(replace(card, training=card.training | {"images": 384}))
    assert not is_smoke(replace(card, recipe="somebody else's", training={}))
