"""Verification: a card measured again says "same", and "other" where anything was changed. (`repeats` counts both.)"""

from dataclasses import replace

import pytest

from explorer.core import InvalidValue, wilson
from explorer.data import load
from explorer.evaluation.measure import packed, unpacked
from explorer.evaluation.verifying import NOT_REPEATED, OTHER, SAME, conclusion, contradiction, verify_card
from tests.evaluation import repeats


@pytest.fixture(scope="module")
def card():
    return repeats.card(n=200)


def edited(card, **fields):
    return replace(card, measures=[card.measures[0] | fields])


def test_with_its_own_seed_every_drawn_verdict_is_the_same(card):
    (found,) = verify_card(card, sample=100, draw=5)
    assert (found.state, found.n, found.differing, found.p) == (SAME, 100, 0, None)
    assert "at most 4.5%" in found.bound  # the 99 % bound of 0 in 100


def test_another_seed_and_counts_alone_are_tested(card):
    assert repeats.alarms(card, 3, sample=100) == repeats.alarms(card, 3, sample=100, kept=False) == 0
    (found,) = verify_card(edited(card, verdicts=""), sample=100)
    assert found.state == SAME and found.p > 0.01 and "would have passed" in found.bound


@pytest.mark.parametrize("fault", repeats.FAULTS)
def test_a_planted_fault_is_found(fault):
    assert repeats.found(fault, repeats.planted(fault, n=200), draw=1, sample=200)


def test_an_edited_record_contradicts_itself(card):
    measure = card.measures[0]
    k, n = measure["correct"], measure["n"]
    wrong = {
        "does not follow": {"accuracy": 0.9},
        "do not sum": {"correct": k + 1, "accuracy": (k + 1) / n, **_interval(k + 1, n)},
        "other weights": {"weights": "0" * 64},
        "counts": {"correct": n + 1},
        "hexadecimal": {"verdicts": "xyz"},
    }
    for said, fields in wrong.items():
        assert said in contradiction(card, measure | fields)
    assert contradiction(card, measure) == ""
    assert conclusion(verify_card(edited(card, accuracy=0.9))) == OTHER


def _interval(k, n):
    low, high = wilson(k, n)
    return {"low": low, "high": high}


def test_a_wrong_count_without_verdicts_is_found(card):
    k = card.measures[0]["correct"] + 60
    made = edited(card, correct=k, accuracy=k / 200, verdicts="", **_interval(k, 200))
    (found,) = verify_card(made, sample=200)
    assert found.state == OTHER and "too far apart" in found.reason


def test_what_cannot_be_repeated_is_not_called_the_same(card):
    for fields in ({"chosen": "those that I liked"}, {"variant": "another"}, {"hyper": {"gone": 1}}):
        (found,) = verify_card(edited(card, **fields))
        assert found.state == NOT_REPEATED and found.reason
    for fields in ({"n": None}, {"hyper": 3}):
        (found,) = verify_card(edited(card, **fields))
        assert found.state == OTHER and ("damaged" in found.reason or "counts" in found.reason)
    with pytest.raises(InvalidValue, match="holds"):
        verify_card(card, only="nothing like it")


@pytest.mark.parametrize("each", [[True], [False] * 5, [True, False, True, True, False, False, True]])
def test_verdicts_are_packed_and_unpacked(each):
    assert unpacked(packed(each), len(each)) == each


def test_without_the_full_set_its_first_images_are_the_bundled_ones(monkeypatch):
    """What was measured on the full set is measured again on the very same pictures, in their order."""
    monkeypatch.delenv("EXPLORER_DATA", raising=False)
    part = load("cifar10", source="sample")
    first = replace(part, x=part.x[:100], y=part.y[:100], index=part.index[:100])
    card = repeats.card(n=100, images=first)
    full = {
        "data": "cifar10 test, full test set (parquet)",
        "chosen": "100, evenly from all classes, drawn with seed 0",
    }
    (found,) = verify_card(edited(card, **full), sample=100)
    assert (found.state, found.n, found.differing) == (SAME, 100, 0)
    (found,) = verify_card(edited(card, **full | {"chosen": "100, evenly from all classes, drawn with seed 1"}))
    assert found.state == NOT_REPEATED and "not on this computer" in found.reason
