"""The clinic names the faults of a public script and ten planted ones, and is silent on right attacks. One process for all."""

from pathlib import Path

import pytest

from explorer.core import InvalidValue
from explorer.testing.clinic import examine_attack
from explorer.testing.own_attack import own_attack
from tests.confining import confining

FILE = Path(__file__).with_name("attacks_of_students.py")
FAULTY = {  # function: norm, clause, words
    "public_linf": ("linf", "stays inside the ball", "clipped against the running image"),
    "public_l2": ("l2", "stays inside the ball", "rescaled to length eps"),
    "unclamped": ("linf", "pixel range", "leaves [0, 1]"),
    "downhill": ("linf", "is strong", "the sign of its step is wrong"),
    "in_place": ("linf", "leaves no trace", "changed in place"),
    "left_training": ("linf", "leaves no trace", "training mode"),
    "fine_tunes": ("linf", "leaves no trace", "weight changed"),
    "clock": ("linf", "repeats", "two runs of one seed differ"),
    "noise": ("linf", "beats noise", "random noise"),
    "batch_norm": ("linf", "treats each image alone", "over the whole batch"),
    "divides_by_zero": ("linf", "bears a zero gradient", "become NaN"),
    "timid": ("linf", "beats noise", "random noise"),
}
RIGHT = {
    "right_pgd": "linf",
    "right_random_start": "linf",
    "right_fgsm": "linf",
    "right_momentum": "linf",
    "right_l2": "l2",
}

pytestmark = confining


@pytest.fixture(scope="module")
def attack(kept_processes):
    with own_attack(FILE, None, "right_pgd") as found:
        kept_processes.add(found._process.pid)
        yield found


def faults(attack, function, norm):
    attack.choose(function)
    return [f for f in examine_attack(attack, norm) if f.clause != "counts all batches"]


@pytest.mark.parametrize("function", FAULTY)
def test_a_fault_is_named(attack, function):
    norm, clause, words = FAULTY[function]
    found = faults(attack, function, norm)
    assert any(f.clause == clause and words in f.sentence for f in found), found


@pytest.mark.parametrize("function", RIGHT)
def test_nothing_is_said_of_a_right_attack(attack, function):
    assert faults(attack, function, RIGHT[function]) == []


def test_a_test_that_counts_the_last_batch_only_is_named_and_no_other(attack):
    attack.choose("right_fgsm")
    (fault,) = [f for f in examine_attack(attack, "linf") if f.clause == "counts all batches"]
    assert fault.sentence.startswith("test_natural counts the last batch only") and "100 % where 25 %" in fault.sentence


def test_what_cannot_be_run_is_one_sentence(attack):
    with pytest.raises(InvalidValue, match="no function attack"):
        attack.choose(None)
    with pytest.raises(InvalidValue, match="no 'nothing'"):
        attack.choose("nothing")
