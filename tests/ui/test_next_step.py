"""The next step after a verdict: which experiment follows which, and that its link leads to a page that takes it."""

import pytest

from explorer.engine import AttackRequest
from explorer.engine.certifying import CertifyRequest
from explorer.engine.compare import CompareRequest
from explorer.models import zoo
from explorer.ui.attack.next_step import Seen, next_step

FROG = 6
KNOWN = {card.name for card in zoo.cards()}
BASELINE, ROBUST, RANDOM = "cifar10/baseline", "cifar10/pgd-linf", "cifar10/lwta"
pytestmark = pytest.mark.skipif(not {BASELINE, ROBUST, RANDOM} <= KNOWN, reason="the project's own models are not here")


def after(fooled=False, wrong_before=False, **changes):
    values = {"dataset": "cifar10", "image": 317, "model": BASELINE, "attack": "pgd"} | changes
    return next_step(Seen(AttackRequest(**values).checked(), FROG, fooled, wrong_before))


def test_one_step_that_fails_asks_for_many_at_the_same_distance():
    step = after(attack="fgsm", eps=4 / 255)
    assert "PGD" in step.question and step.page == "attack"
    asked = AttackRequest.from_query(step.link)
    assert (asked.attack, asked.eps, asked.model, asked.image) == ("pgd", 4 / 255, BASELINE, 317)


def test_a_fooled_baseline_asks_for_the_robust_model_on_the_same_picture():
    asked = AttackRequest.from_query(after(fooled=True).link)
    assert (asked.model, asked.image, asked.attack) == (ROBUST, 317, "pgd")


def test_a_robust_model_that_holds_asks_what_can_be_proven():
    step = after(model=ROBUST)
    request = CertifyRequest.from_query(step.link)
    assert step.page == "certify" and request.image == 317 and zoo.card(request.model).sigma is not None


def test_a_random_model_that_holds_asks_for_an_adaptive_attack():
    assert AttackRequest.from_query(after(model=RANDOM).link).draws == 20
    assert after(model=RANDOM, hyper={"draws": 20}).page == "certify"


def test_a_picture_that_was_wrong_before_asks_for_one_that_is_right():
    step = after(fooled=True, wrong_before=True)
    assert step.link is None and "gets right" in step.button


def test_a_target_that_was_missed_asks_for_any_wrong_class():
    assert AttackRequest.from_query(after(target="cat").link).target is None


def test_a_fooled_robust_model_asks_how_little_is_enough_and_then_for_others():
    assert AttackRequest.from_query(after(fooled=True, model=ROBUST).link).is_minimal
    step = after(fooled=True, model=ROBUST, attack="deepfool")
    assert step.page == "compare" and ROBUST in CompareRequest.from_query(step.link).models


def test_a_baseline_that_holds_is_offered_twice_the_change_until_the_picture_would_be_spoiled():
    assert AttackRequest.from_query(after(eps=2 / 255).link).eps == pytest.approx(4 / 255)
    assert after(eps=30 / 255).page == "certify"
