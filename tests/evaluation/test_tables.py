"""The table of models says what the cards say, and of several attacks the lowest number."""

from dataclasses import replace

import pytest

from explorer.evaluation import tables
from explorer.models import zoo


def measure(kind, accuracy, **more):
    about = {"kind": kind, "accuracy": accuracy, "low": accuracy - 0.02, "high": accuracy + 0.02, "n": 1000}
    return about | {"norm": None, "eps": None, "attack": None} | more


@pytest.fixture
def card():
    return replace(zoo.cards()[0], measures=[])


def test_what_was_not_measured_is_said(card):
    assert set(tables.headlines(card).values()) == {"not measured"}


def test_the_strongest_attack_counts(card):
    card = replace(card, measures=[
        measure("clean", 0.8),
        measure("white-box", 0.6, attack="fgsm", norm="linf", eps=8 / 255),
        measure("white-box", 0.5, attack="pgd", norm="linf", eps=8 / 255),
        measure("adaptive", 0.42, attack="pgd", norm="linf", eps=8 / 255),
        measure("transfer", 0.45, attack="pgd", norm="linf", eps=8 / 255),
        measure("white-box", 0.02, attack="pgd", norm="linf", eps=16 / 255),
        measure("white-box", 0.1, attack="pgd", norm="l2", eps=0.5, note="not adaptive: one draw"),
        measure("certified", 0.3, norm="l2", eps=0.5),
        measure("certified", 0.4, norm="l2", eps=0.25),
    ])  # fmt: skip
    assert list(tables.headlines(card).values()) == [
        "80.0 % [78.0, 82.0], n=1,000",
        "42.0 % [40.0, 44.0], n=1,000",
        "10.0 % [8.0, 12.0], n=1,000, **not adaptive**",
        "40.0 % [38.0, 42.0], n=1,000",
    ]


def test_every_model_has_a_row(card):
    lines = tables.markdown(zoo.cards()).splitlines()
    assert len(lines) == 2 + len(zoo.cards())
    assert all(line.count("|") == lines[0].count("|") for line in lines)
