"""Tournament: pictures by all entries and a word, the same board twice, a refused entry loses its place and nothing else."""

from __future__ import annotations

import hashlib

import pytest
import torch
from scipy.stats import binomtest

from explorer.attacks import ATTACKS
from explorer.core import BadCheckpoint, InvalidValue
from explorer.evaluation import robust_accuracy
from explorer.evaluation.masking import CHECKS
from explorer.evaluation.tournament import CLASS, LINF, MASKING, TESTS, TITLES, TOGETHER, board, matrix, seed_of
from explorer.jobs import Spec
from explorer.jobs import tournament as kind
from explorer.jobs.kinds import pictures
from explorer.models import zoo
from tests.confining import confining

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


# The class's attacks

RIGHT = """
import torch.nn.functional as F


def attack(model, x, y, eps):
    x = x.clone().requires_grad_(True)
    F.cross_entropy(model(x), y).backward()
    return (x + eps * x.grad.sign()).clamp(0, 1).detach()
"""
FAR = "def attack(model, x, y, eps):\n    return (x + 3 * eps).clamp(0, 1)\n"
BROKEN = "def attack(model, x, y, eps):\n    raise RuntimeError('no such layer')\n"


def of(name, source):
    return {"name": name, "source": source}


def class_rows(settings, model):
    """Of the class's attacks on one entry: each starts a process."""
    found = []
    for question in kind.KIND.questions(settings, torch.device("cpu"), lambda: False):
        if (question.conditions["test"], question.conditions["model"]) == (CLASS, model):
            found.append(kind.KIND.row(question.conditions, [question.make(k) for k in range(len(question.pictures))]))
    return found


@confining
def test_an_attack_of_the_class_is_judged_by_the_true_network_and_a_broken_one_loses_its_place_alone():
    attacks = [of("group a", RIGHT), of("group b", FAR), of("group c", BROKEN)]
    settings = kind.KIND.checked({**SETTINGS, "attacks": attacks})
    rows = class_rows(settings, ENTRIES[0])
    found = matrix(rows)
    model, fgsm = zoo.load(ENTRIES[0]), ATTACKS["fgsm"]()
    (question,) = [
        one for one in kind.KIND.questions(settings, torch.device("cpu"), lambda: False)
        if (one.conditions["test"], one.conditions["model"]) == ("natural", ENTRIES[0])
    ]  # fmt: skip
    natural = question.make(0)["each"].count("1")
    images, _ = pictures("cifar10", 12, question.conditions["seed"])
    due = robust_accuracy(model, images, fgsm, LINF).correct
    assert found.shares["group a", ENTRIES[0]].right == due < natural
    assert (
        found.outside["group b", ENTRIES[0]] == 12 and found.shares["group b", ENTRIES[0]].right == natural
    )  # outside: fools nobody
    assert "no such layer" in found.refused["group c", ENTRIES[0]] and ("group c", ENTRIES[0]) not in found.shares
    (entry,) = board([*rows, row(ENTRIES[0], "natural", "111")], ENTRIES[0])
    assert entry.refused == "" and [*entry.shares] == ["natural"]  # no network pays for an attack's fault


def test_attacks_are_checked_without_being_read_and_decide_about_the_pictures():
    asked = {**SETTINGS, "attacks": [of("a", "raise SystemExit")]}
    settings = kind.KIND.checked(asked)
    assert settings["attacks"][0]["sha256"] == hashlib.sha256(b"raise SystemExit").hexdigest()
    assert (
        kind._seed(settings)
        != kind._seed(kind.KIND.checked(SETTINGS))
        == seed_of(settings["weights"].values(), "banana")
    )
    for wrong, sentence in (
        ([of("a", "x"), of("a", "y")], "the same name"),
        ([of("", "x")], "name must have"),
        ([of(TOGETHER, "x")], "is a line of the matrix"),
        ([of("a\n", "x")], "name must have"),
        ([of("a", "")], "must be a Python file"),
        ([of("a", "x" * (257 << 10))], "at most 256 kB"),
        (["a"], "list of at most 30"),
        ("a", "list of at most 30"),
    ):
        with pytest.raises(InvalidValue, match=sentence):
            kind.KIND.checked({**SETTINGS, "attacks": wrong})


def test_the_matrix_counts_what_stays_right_under_all_and_names_flags():
    mine = {"conditions": {"model": "m", "test": CLASS, "attack": "a"}, "each": "1100", "refused": "", "outside": 1}
    checks = [
        {"check": "zero", "raised": True},
        {"check": "transfer", "raised": False},
        {"check": "unbounded", "raised": None},
    ]
    told = {"conditions": {"model": "m", "test": MASKING}, "checks": checks, "refused": ""}
    found = matrix([row("m", "natural", "1111"), row("m", "linf", "101."), row("m", "platform", "0000"), mine, told])
    assert found.attacks == (TESTS["natural"].title, TESTS["linf"].title, "a", TOGETHER)
    assert (found.shares[TOGETHER, "m"].right, found.shares[TOGETHER, "m"].n) == (1, 3)
    assert found.flags == {"m": (2, (TITLES["zero"],))} and found.outside == {("a", "m"): 1}


def test_the_networks_are_asked_whether_they_are_real_and_a_hostile_one_only_loses_its_flags(monkeypatch):
    settings = kind.KIND.checked({**SETTINGS, "checks": 10})
    asked = [
        one
        for one in kind.KIND.questions(settings, torch.device("cpu"), lambda: False)
        if one.conditions["test"] == MASKING
    ]
    assert [one.conditions["model"] for one in asked] == ENTRIES
    first = kind.KIND.row(asked[0].conditions, [asked[0].make(0)])
    assert first["checks"][0]["check"] == CHECKS[0].key and "said" not in first
    monkeypatch.setattr(zoo, "load", lambda *_: (_ for _ in ()).throw(BadCheckpoint("it eats all memory.")))
    refused = kind.KIND.row(asked[1].conditions, [asked[1].make(0)])
    assert refused["refused"] == "it eats all memory." and matrix([refused]).flags == {}
