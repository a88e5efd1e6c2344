"""A pursuit network by its number of inference steps: what is measured of each, and on which pictures."""

import pytest

from explorer.core import InvalidValue
from explorer.evaluation.inference import inference_measures

PURSUIT, FEEDFORWARD = "fashion_mnist/pursuit", "fashion_mnist/pursuit-feedforward"


def test_each_number_of_steps_is_measured_clean_on_all_pictures_and_attacked_in_four_ways():
    found = list(inference_measures(PURSUIT, [0, 4], n=4, source="sample", twins=[FEEDFORWARD]))
    assert [m.variant for m in found] == ["0 inference steps"] * 5 + [None] * 5  # 4 is what it was trained with
    for few in (found[:5], found[5:]):
        assert [(m.kind, m.attack, m.n) for m in few] == [
            ("clean", None, 2000), ("white-box", "pgd", 4), ("white-box", "pgd", 4), ("white-box", "square", 2), ("transfer", "pgd", 4),
        ]  # fmt: skip
        assert few[2].hyper["loss"] == "margin" and few[4].source_model == FEEDFORWARD
    assert found[0].accuracy < found[5].accuracy


def test_only_a_pursuit_network_has_inference_steps():
    with pytest.raises(InvalidValue):
        next(inference_measures("fashion_mnist/fashion-mlp", [0]))
