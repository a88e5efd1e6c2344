"""The sentences about a search and a slice say what was found, and under which conditions."""

import dataclasses

import numpy as np
import pytest

from explorer.engine import AttackRequest
from explorer.engine.slices import Plan, Slice
from explorer.engine.smallest import Probe, Search
from explorer.models import zoo
from explorer.ui.text import attack_tools as readings


def asked(**changes):
    return AttackRequest(
        **({"dataset": "cifar10", "image": 2, "model": "cifar10/baseline", "seed": 7} | changes)
    ).checked()


def probe(levels, reached, kept=True):
    return Probe(levels / 255, reached, kept, -1.0 if reached else 1.0, float(reached), 3, 21, 20)


def search(*probes, clean=False, **changes):
    values = {"request": asked(), "width": 0.02, "device": "CPU, 1 thread", "ended": "done", "seconds": 2.5} | changes
    return Search(clean=dataclasses.replace(probe(0, clean), eps=0.0), probes=probes, **values)


def text(found):
    return "\n".join(readings.smallest_notes(found))


def test_the_interval_its_cost_and_its_limits_are_told():
    found = search(probe(8, True), probe(4, False), probe(6, True), probe(5, False), probe(2, False))
    assert readings.smallest(found) == (True, "PGD reaches its goal at **L∞ 6/255** and not at L∞ 5/255.")
    parts = (
        "upper bound",
        "no proof",
        "still reaches the goal",
        "2 smaller eps were tried",
        "5 attacks, 205 forward",
        "2.5 s",
        "seed 7",
    )
    for part in parts:
        assert part in text(found)
    assert "Not monotone" not in text(found)


def test_below_one_level_the_8_bit_picture_is_spoken_of():
    found = search(probe(0.5, True, kept=False), probe(0.25, False))
    assert "Less than one level of an 8-bit picture" in text(found) and "no longer reaches the goal" in text(found)


def test_a_success_below_a_failure_is_reported():
    found = search(probe(8, True), probe(6, False), probe(3, True), probe(2, False))
    assert "Not monotone" in text(found) and "failed at L∞ 6/255" in text(found)
    assert "nothing spoke against it" not in text(found)


def test_nothing_found_is_no_proof_and_no_time_is_no_answer():
    reached, sentence = readings.smallest(search(probe(8, False), probe(255, False)))
    assert not reached and "up to L∞ 255/255" in sentence and "no proof" in sentence
    assert "before the first attack had ended" in readings.smallest(search(ended="time"))[1]
    assert "wider than asked for" in text(search(probe(8, True), probe(4, False), ended="time"))


def test_a_picture_that_is_wrong_already_and_one_that_falls_to_anything():
    assert "Nothing to search for" in readings.smallest(search(probe(8, True), clean=True))[1]
    least = search(Probe(1e-5, True, False, -1.0, 1.0, 3, 21, 20))
    assert "1e-05" in readings.smallest(least)[1] and "failed nowhere" in readings.smallest(least)[1]


def test_a_random_models_judgement_is_explained():
    assert "20 fresh draws" in text(search(probe(8, True), probe(4, False), draws=20))


def test_eps_is_written_in_its_norm():
    assert readings.eps_words("linf", 6.375 / 255) == "L∞ 6.375/255" and readings.eps_words("l2", 0.43) == "L2 0.43"


@pytest.fixture
def found():
    square = (31, 31)
    return Slice(
        Plan(size=31, seed=5), asked().classes, 6, None, np.zeros(square, np.int16), np.ones(square), np.zeros(square),
        np.ones(square), np.zeros(square), np.ones(square, bool), 1, np.zeros((3, 2)), True, "linf", (8 / 255, 8 / 255),
        (1.24, 1.69), 961, 2.0, "CPU, 1 thread", "done",
    )  # fmt: skip


def test_a_slice_is_explained_with_its_scale_and_its_limits(found):
    words = "\n".join(readings.slice_notes(found, asked()))
    for part in (
        "seed 5",
        "8/255",
        "1.24",
        "1.69",
        "outside [0, 1] are cut",
        "3,072 dimensions",
        "961 forward",
        "Here none were",
    ):
        assert part in words
    assert "random:" not in words
    assert (
        readings.outline_words(found, asked()) == "allowed: L∞ 8/255" and readings.loss_words(found) == "cross-entropy"
    )
    minimal = dataclasses.replace(found, outline_is_eps=False, target=3)
    assert "as near as the change found" in readings.outline_words(minimal, asked())
    assert readings.loss_words(minimal) == "minus the cross-entropy of cat"


def test_cut_values_and_random_models_are_spoken_of(found):
    some = np.zeros((31, 31))
    some[0] = 0.02
    assert "at most 2.0%" in "\n".join(readings.slice_notes(dataclasses.replace(found, cut=some), asked()))
    some[:16] = 0.2
    assert "At 52% of the points" in "\n".join(readings.slice_notes(dataclasses.replace(found, cut=some), asked()))
    random = next(card.name for card in zoo.cards() if card.stochastic and card.dataset == "cifar10")
    many = dataclasses.replace(found, plan=Plan(size=31, draws=8))
    assert "mean probability over 8 draws, the very same everywhere" in "\n".join(
        readings.slice_notes(many, asked(model=random))
    )
