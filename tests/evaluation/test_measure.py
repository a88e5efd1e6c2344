"""Measures as a card keeps them."""

import json

import pytest

from explorer.core import wilson
from explorer.evaluation.measure import Measure, count, merged, same_conditions


def measure(**changes):
    facts = {
        "kind": "white-box", "seed": 0, "batch": 250, "data": "d", "chosen": "c", "precision": "float32", "device": "cpu",
        "seconds": 1.0, "verdict_draws": 1, "attack": "pgd", "hyper": {"steps": 50, "rel_step": 0.1}, "norm": "linf",
        "eps": 8 / 255, "restarts": 1, "draws": 1,
    }  # fmt: skip
    return Measure(**(facts | count(430, 1000) | changes))


def stored(**changes):
    return json.loads(json.dumps(measure(**changes).to_dict()))


def test_the_interval_is_wilson_s():
    facts = count(430, 1000)
    assert facts["accuracy"] == 0.43 and (facts["low"], facts["high"]) == wilson(430, 1000)


def test_it_survives_json():
    assert Measure(**stored(note="ä")) == measure(note="ä")


def test_a_new_measure_replaces_the_old_one_in_its_place():
    old = [stored(kind="clean", attack=None), stored(), {"kind": "certified", "eps": 0.25, "sigma": 0.25}]
    new = [stored(seed=1, n=2000, batch=100, device="gpu", chosen="more"), stored(norm="l2", eps=0.5)]
    result = merged(old, new)
    assert [m.get("n") for m in result] == [1000, 2000, None, 1000] and result[3]["norm"] == "l2"
    assert merged([], new) == new and merged(old, []) == old


@pytest.mark.parametrize("changes", [
    {"kind": "adaptive"}, {"attack": "fgsm"}, {"hyper": {"steps": 20}}, {"norm": "l2"}, {"eps": 0.5}, {"verdict_draws": 20},
    {"source_model": "cifar10/baseline"}, {"sigma": 0.25}, {"draws": 20},
])  # fmt: skip
def test_other_conditions_are_another_measure(changes):
    assert not same_conditions(stored(), stored(**changes))
