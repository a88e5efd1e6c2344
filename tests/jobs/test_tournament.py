"""Tournament: pictures by all entries and a word, the same board twice, a refused entry loses its place and nothing else."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import binomtest

from explorer.core import BadCheckpoint, InvalidValue
from explorer.evaluation.tournament import TESTS, board, seed_of
from explorer.jobs import Spec
from explorer.jobs import tournament as kind
from explorer.models import zoo

ENTRIES = ["cifar10/lenet", "cifar10/lenet-at"]
SETTINGS = {"models": ENTRIES, "model": ENTRIES[0], "word": "banana", "images": 12}
QUICK = ("natural", "linf")


def rows(settings):
    """Of the quick tests, made cell by cell."""
    found = []
    for question in kind.KIND.questions(settings, torch.device("cpu"), lambda: False):
        if question.conditions["test"] in QUICK:
            cells = [question.make(index) for index in range(len(question.pictures))]
            found.append(kind.KIND.row(question.conditions, cells))
    return found


@pytest.fixture(scope="module")
def played():
    settings = kind.KIND.checked(SETTINGS)
    return settings, rows(settings)


def test_twice_the_same_board(played):
    settings, first = played
    assert rows(settings) == first
    entries = board(first, ENTRIES[0])
    assert [entry.model for entry in entries] == [ENTRIES[1], ENTRIES[0]]  # LeNet falls to PGD
    assert entries[0].shares["natural"].n == 12 and entries[1].shares["linf"].p is None
    assert set(entries[0].shares) == set(QUICK)


def test_settings_are_whole_and_checked(played):
    settings, _ = played
    assert settings["weights"] == {name: zoo.card(name).identity for name in ENTRIES}
    spec = Spec(kind="tournament", settings=SETTINGS).checked()
    assert spec.settings == settings and spec.subject == ENTRIES[0]
    for wrong, sentence in (
        ({"models": ENTRIES[:1]}, "2 to 100 entries"),
        ({"models": ENTRIES * 2}, "each once"),
        ({"models": [*ENTRIES, "fashion_mnist/ibp"]}, "same dataset"),
        ({"model": "cifar10/lenet-cw"}, "baseline must be one"),
        ({"word": "  "}, "needs a word"),
        ({"images": 5000}, "images"),
        ({"weights": {}}, "has changed"),
    ):
        with pytest.raises(InvalidValue, match=sentence):
            kind.KIND.checked(SETTINGS | wrong)


def test_the_seed_follows_from_all_entries_and_the_word():
    seed = seed_of(["a", "b"], "Banana  split")
    assert seed == seed_of(["b", "a"], "banana split") and 0 <= seed < 2**31
    assert len({seed, seed_of(["a", "c"], "banana split"), seed_of(["a", "b"], "apple")}) == 3


def test_a_hostile_entry_is_named_and_the_run_goes_on(played, monkeypatch):
    settings, first = played
    load = zoo.load

    def hostile(name, device="cpu"):
        if name == ENTRIES[1]:
            raise BadCheckpoint("it eats all memory.")
        return load(name, device)

    monkeypatch.setattr(zoo, "load", hostile)
    entries = board(rows(settings), ENTRIES[0])
    assert [(entry.model, entry.refused) for entry in entries] == [
        (ENTRIES[0], ""),
        (ENTRIES[1], "it eats all memory."),
    ]
    assert entries[0].shares["natural"].right == next(r for r in first if r["conditions"]["test"] == "natural")[
        "each"
    ].count("1")


def row(model, test, each, refused=""):
    return {"conditions": {"model": model, "test": test}, "each": each, "refused": refused}


def test_pairs_are_tested_as_scipy_does_and_adjusted():
    entries = board(
        [row("base", "linf", "1111100000"), row("a", "linf", "0000011111"), row("b", "linf", "11111000..")], "base"
    )
    p = {entry.model: entry.shares["linf"].p for entry in entries}
    assert p["a"] == pytest.approx(min(1, 2 * binomtest(5, 10).pvalue)) and p["b"] == 1 and p["base"] is None
    assert {entry.model: entry.shares["linf"].n for entry in entries} == {"base": 10, "a": 10, "b": 8}
    won = board([row("base", "linf", "0" * 12), row("a", "linf", "1" * 9 + "0" * 3)], "base")[0].shares["linf"]
    assert won.p == pytest.approx(binomtest(9, 9).pvalue)


def test_cells_of_several_processes_keep_their_places():
    cells = [{"at": 2, "each": "01", "refused": ""}, {"at": 0, "each": "", "refused": "no."}]
    assert kind._joined(cells) == "..01"
    made = kind.KIND.row({"model": "m", "test": "natural"}, cells)
    assert made["done"] == 2 and made["refused"] == "no." and made["shares"][0]["n"] == 2


def test_random_networks_are_attacked_over_draws():
    assert TESTS["adaptive"].attack(True)[1]["draws"] == 20 and TESTS["adaptive"].attack(False)[0] == "apgd-ce"
