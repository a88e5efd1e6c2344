"""What a proof was paid for with, from cards: each number where it was measured, at its distance, in its norm, by its kind."""

import dataclasses

import pytest

from explorer.core import wilson
from explorer.evaluation.paid import DISTANCES, paid
from explorer.models import zoo


def measured(kind, correct, norm=None, eps=None, **more):
    low, high = wilson(correct, 100)
    return {"kind": kind, "n": 100, "correct": correct, "accuracy": correct / 100, "low": low, "high": high, "norm": norm, "eps": eps,
            "attack": None, "note": "", **more}  # fmt: skip


CARD = dataclasses.replace(
    zoo.card("cifar10/baseline"),
    title="A model",
    measures=[
        measured("clean", 80),
        measured("certified", 60, "l2", 0.25, certificate="lipschitz"),
        measured("certified", 40, "l2", 0.5, certificate="lipschitz"),
        measured("certified", 30, "l2", 0.5, sigma=0.25),
        measured("certified", 20, "linf", 2 / 255, certificate="interval"),
        measured("white-box", 55, "l2", 0.5, attack="pgd"),
        measured("white-box", 50, "l2", 0.5, attack="apgd-ce+apgd-t"),
        measured("white-box", 10, "l2", 0.5, attack="fgsm"),  # too weak a test to be told
        measured("white-box", 5, "linf", 8 / 255, attack="pgd"),
    ],
)


def test_each_kind_has_its_rows_and_the_lowest_thorough_attack_counts():
    rows = {(row.certificate, row.distance): row for row in paid([CARD], "l2")}
    assert set(rows) == {("gaussian", 0.5), ("lipschitz", 0.25), ("lipschitz", 0.5)}
    row = rows["lipschitz", 0.5]
    assert (row.clean.accuracy, row.attacked.accuracy, row.certified.accuracy) == (0.8, 0.5, 0.4)
    assert rows["gaussian", 0.5].certified.accuracy == 0.3 and rows["lipschitz", 0.25].attacked is None


@pytest.mark.parametrize("norm", DISTANCES)
def test_a_norm_has_no_other_s_numbers(norm):
    found = [(row.certificate, row.distance, row.attacked) for row in paid([CARD, zoo.card("cifar10/baseline")], norm)]
    assert norm == "l2" or found == {"linf": [("interval", 2 / 255, None)], "patch": []}[norm]
