"""The comparison's judgement, with libraries made up for it: who leaves the ball, who fails, who is nearer."""

import json
from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn

from explorer.attacks import ATTACKS
from explorer.core import Ball, Cancelled, Classifier, InvalidValue, UnknownName, seeded
from explorer.data import Images
from explorer.evaluation.beside import Comparison, Target, beside, chosen, comparisons, ours
from explorer.evaluation.peers.setting import ADAPTERS, Setting

BALL = Ball("linf", 0.05)


@dataclass(frozen=True)
class Fake:
    """A library of the tests' own."""

    name: str = "fake"
    version: str = "1.0"
    reason: str | None = None

    def missing(self):
        return self.reason


class Linear(Classifier):
    def __init__(self):
        super().__init__([0.5], [0.25], (1, 4, 4), 3)
        self.head = nn.Linear(16, 3)
        with torch.no_grad():
            self.head.weight.copy_(torch.randn(3, 16, generator=seeded(1)) / 10)
            self.head.bias.zero_()
        self.freeze()

    def embed(self, normalised):
        return normalised.flatten(1)


@pytest.fixture(scope="module")
def model():
    return Linear()


@pytest.fixture(scope="module")
def images(model):
    """Ten images; the model takes the last two for something else."""
    x = 0.3 + 0.4 * torch.rand(10, 1, 4, 4, generator=seeded(2))
    y = model(x).argmax(1)
    y[8:] = (y[8:] + 1) % 3
    return Images(x, y, ("a", "b", "c"), "made up", "test", torch.arange(10), "this test")


@pytest.fixture
def library(monkeypatch):
    """`library(how, "pgd", "linf")`: a fake library whose adapter is `how`."""

    def made(how, key="pgd", norm="linf", name="fake"):
        monkeypatch.setitem(ADAPTERS, (name, key, norm), how)
        return Fake(name)

    return made


def compared(model, images, comparison, *peers, **options):
    (result,) = beside(model, images, [comparison], peers=peers, **options)["comparisons"]
    return result


PGD = Comparison("pgd", ATTACKS["pgd"](steps=5, rel_step=0.5), BALL, images=10, rounds=2)
DEEPFOOL = Comparison("deepfool", ATTACKS["deepfool"](), Ball("l2", 100.0), images=10, rounds=1)


def test_the_same_attack_is_the_same(model, images, library):
    seeds = []

    def same(model, x, y, s):
        seeds.append(s.seed)
        return ours(model, x, y, s)

    result = compared(model, images, PGD, library(same), seed=5)
    mine, theirs = result["rows"]
    assert (mine["library"], theirs["library"], theirs["version"]) == ("explorer", "fake", "1.0") and seeds == [5, 6]
    assert (result["images"], result["right"], result["rounds"]) == (10, 8, 2)
    for name in ("successes", "success", "robust_accuracy", "forwards", "backwards", "outside", "changes"):
        assert mine[name] == theirs[name]
    assert (mine["forwards"], mine["backwards"]) == (6, 5) and mine["passes_ratio"] == 1
    assert theirs["same_verdicts"] == [8, 8] and len(theirs["seconds_each"]) == 2 and theirs["time_ratio"] > 0
    assert mine["robust_accuracy"] == (8 - mine["success"] * 8) / 10
    assert all(wanted["reached"] for wanted in result["wanted"])
    json.dumps(result, allow_nan=False)


def test_an_image_outside_the_ball_fools_nobody_and_is_told(model, images, library):
    def far(model, x, y, s):
        return 1 - x  # 0.4 away at most

    row = compared(model, images, PGD, library(far))["rows"][1]
    assert row["outside"] == 8 and row["success"] == 0 and 0.1 < row["excess"] < 0.4


def test_neither_does_one_outside_the_pixel_range(model, images, library):
    def bright(model, x, y, s):
        return x.masked_fill(torch.arange(4) == 0, 1.5)

    row = compared(model, images, DEEPFOOL, library(bright, "deepfool", "l2"))["rows"][1]
    assert row["outside"] == 8 and row["success"] == 0 and row["excess"] == 0.5
    assert row["mean_distance"] is None and row["median_distance"] is None and row["common"] == 0


def test_pixels_that_are_no_numbers_end_a_librarys_part(model, images, library):
    def nothing(model, x, y, s):
        return x * float("nan")

    row = compared(model, images, PGD, library(nothing))["rows"][1]
    assert row["failed"] == "FloatingPointError: it returned pixels that are no numbers"


def test_a_rounding_error_is_told_and_forgiven(model, images, library):
    def rounded(model, x, y, s):
        return ours(model, x, y, s) + 1e-7

    mine, theirs = compared(model, images, PGD, library(rounded))["rows"]
    assert theirs["outside"] > 0 and theirs["excess"] < 1e-6 and theirs["successes"] == mine["successes"]


def test_a_library_that_breaks_is_told_and_the_others_go_on(model, images, library):
    def broken(model, x, y, s):
        raise ValueError("not today\nor ever")

    bad, good = library(broken, name="bad"), library(ours, name="good")
    result = compared(model, images, PGD, bad, good)
    assert result["rows"][1] == {"library": "bad", "version": "1.0", "failed": "ValueError: not today"}
    assert result["rows"][2]["library"] == "good" and {w["library"] for w in result["wanted"]} == {"good"}


def test_a_library_that_takes_too_long_is_stopped_and_ours_is_not(model, images, library):
    def endless(model, x, y, s):
        while True:
            model(x)

    result = compared(model, images, replace(PGD, minutes=0.0005), library(endless))
    assert result["rows"][1]["failed"] == "TimeoutError: it was not done after 0.0005 minutes"
    assert result["rows"][0]["successes"] and result["wanted"] == []


def test_each_comparison_is_told_once_it_is_done(model, images):
    told = []
    found = beside(model, images, [PGD, DEEPFOOL], peers=(), told=told.append)["comparisons"]
    assert [c["key"] for c in told] == [PGD.key, DEEPFOOL.key] and told == found
    told.clear()
    with pytest.raises(Cancelled):
        beside(model, images, [PGD, DEEPFOOL], peers=(), told=told.append, should_stop=lambda: bool(told))
    assert [c["key"] for c in told] == [PGD.key]


def test_an_error_of_ours_is_not_hidden(model, images, monkeypatch):
    def broken(*any_of_them):
        raise ValueError("ours")
        yield

    monkeypatch.setattr(ATTACKS["pgd"], "walk", broken)
    with pytest.raises(ValueError, match="ours"):
        compared(model, images, PGD)


def test_a_missing_library_is_named_and_left_out(model, images, library):
    here = library(ours)
    result = beside(model, images, [PGD], peers=(here, Fake("away", reason="No module named 'away'")))
    assert result["missing"] == {"away": "No module named 'away'"} and result["libraries"] == {"fake": "1.0"}
    assert [row["library"] for row in result["comparisons"][0]["rows"]] == ["explorer", "fake"]


@pytest.mark.parametrize(("times", "reached"), [(1.2, True), (0.99, False)])
def test_distances_are_compared_where_both_succeed(times, reached, model, images, library):
    """The library fails on the first image and is `times` as far on the others."""

    def scaled(model, x, y, s):
        longer = x + times * (ours(model, x, y, s) - x)
        longer[0] = x[0]
        return longer

    result = compared(model, images, DEEPFOOL, library(scaled, "deepfool", "l2"))
    mine, theirs = result["rows"]
    assert mine["successes"] == [8] and theirs["successes"] == [7] and theirs["common"] == 7
    for middle in ("mean", "median"):
        assert theirs["on_common"][middle] == pytest.approx(times * theirs["ours_on_common"][middle], rel=1e-3)
    distances = [w["reached"] for w in result["wanted"] if "distance" in w["what"]]
    assert distances == [reached, reached] and result["minimal"] and result["eps"] is None
    assert theirs["median_distance"] >= theirs["on_common"]["median"]  # what is not reached is endlessly far


def test_what_was_set_out_to_be_reached_is_checked(model, images, library):
    def twice(model, x, y, s):
        ours(model, x, y, s)
        return ours(model, x, y, s)

    fake = library(twice)
    easy, hard = (replace(PGD, targets=(Target("fake", "passes", limit),)) for limit in (0.5, 0.49))
    for comparison, reached in ((easy, True), (hard, False)):
        *_, wanted = compared(model, images, comparison, fake)["wanted"]
        assert wanted["value"] == 0.5 and wanted["reached"] is reached


def test_verdicts_that_change_between_the_rounds_are_counted(model, images, library):
    def sometimes(model, x, y, s):
        return ours(model, x, y, s) if s.seed else x

    row = compared(model, images, PGD, library(sometimes))["rows"][1]
    assert row["successes"][0] == 0 < row["successes"][1] == row["changes"]


def test_it_tells_how_far_it_is_and_can_be_stopped(model, images, library):
    seen, fake = [], library(ours)
    compared(model, images, PGD, fake, progress=lambda *at: seen.append(at))
    assert [at[1:] for at in seen] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert [at[0] for at in seen] == ["pgd: explorer", "pgd: fake", "pgd: fake", "pgd: explorer"]  # taking turns
    with pytest.raises(Cancelled):
        compared(model, images, PGD, fake, should_stop=lambda: True)


def test_it_needs_an_image_that_is_classified_right(model, images):
    wrong = replace(images, y=(images.y + 1) % 3)
    with pytest.raises(InvalidValue, match="classifies right"):
        compared(model, wrong, replace(PGD, images=8))


def test_comparisons_are_chosen_by_their_own_key_or_by_their_attacks():
    assert chosen(None) == list(comparisons()) and len({c.key for c in comparisons()}) == len(comparisons())
    assert [c.key for c in chosen(["deepfool", "pgd-l2-10"])] == ["pgd-l2-10", "deepfool"]
    assert len(chosen(["pgd"])) == 8
    with pytest.raises(UnknownName, match="Did you mean 'pgd'"):
        chosen(["pdg"])


def test_equal_settings_are_translated_in_pixel_units():
    (fifty,) = chosen(["pgd-linf-50"])
    assert Setting(fifty.attack, fifty.ball, 10, 0).step == pytest.approx(2.5 * fifty.ball.eps / 50)
    (momentum,) = chosen(["mifgsm"])
    assert Setting(momentum.attack, momentum.ball, 10, 0).step == pytest.approx(momentum.ball.eps / 10)
