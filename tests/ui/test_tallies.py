"""The sentences about many pictures say what was counted, and no more."""

import dataclasses

import numpy as np
import torch

from explorer.engine.batch_request import ManyRequest
from explorer.engine.batch_result import BatchResult, FoolingRate, Predictions
from explorer.engine.transfer import KINDS, PerturbationTransfer
from explorer.evaluation.verdict import Verdict
from explorer.models import zoo
from explorer.ui.text import batch as tallies

N = 10
ABOUT = {"stochastic": False, "verdict_draws": 1, "stalled_share": 0.0, "forwards": 840, "backwards": 800,
         "seconds": 1.5, "device": "CPU, 1 thread", "precision": "float32"}  # fmt: skip


def request(**changes):
    return ManyRequest(
        **({"dataset": "cifar10", "model": zoo.cards()[0].name, "count": N, "seed": 5} | changes)
    ).checked()


def made(fooled=3, wrong=2, finished=True, about=None, distance=None, **changes):
    """Ten pictures: the first `wrong` wrong before, then `fooled` fooled, the others hold."""
    right = np.arange(N) >= wrong
    hit = right & (np.arange(N) < wrong + fooled)
    attacked = int(right.sum())
    nothing = np.zeros(N)
    true = torch.ones(attacked, dtype=torch.bool)
    verdict = Verdict(
        reached=torch.from_numpy(hit[right]), reached_8bit=torch.from_numpy(hit[right]), inside=true,
        predicted=true.long(), predicted_8bit=true.long(), linf=true.double(), l2=true.double(),
        distance=true.double(), draws=1, share=true.double(),
    )  # fmt: skip
    seen = Predictions(nothing.astype(int), nothing, nothing)
    return BatchResult(
        request=request(**changes), rows=np.arange(N), labels=nothing.astype(int), originals=nothing, before=seen,
        right=right, images=nothing, after=seen, fooled=hit, distance=nothing if distance is None else distance,
        curve={"reached": np.zeros((3, attacked), bool)}, planned=21, seconds=1.0,
        verdict=verdict if finished else None, conditions=(ABOUT | (about or {})) if finished else {},
    )  # fmt: skip


def spaces(text):
    return text.replace("\N{NO-BREAK SPACE}", " ")


def test_the_headline_counts_only_what_was_right_at_first():
    assert tallies.headline(made()) == "**Fooled: 3 of the 8 pictures that the model got right**."
    assert spaces(tallies.measured(made())) == "That is 38 %, 95 % interval 14 % to 69 %. "
    assert tallies.separated(made()) == {
        "wrong": "2 wrong before any attack", "fooled": "3 fooled by the attack", "holds": "5 hold",
    }  # fmt: skip


def test_pictures_chosen_by_hand_get_no_interval():
    strip = made(pick="hand", rows=tuple(range(N)))
    assert tallies.measured(strip) == "" and "stand for no others" in "\n".join(tallies.details(strip))
    assert "interval covers the choice" in "\n".join(tallies.details(made()))


def test_while_it_runs_nothing_is_final():
    running = made(finished=False)
    assert tallies.headline(running) == "After step 2 of 20: **fooled so far: 3 of 8**."
    assert tallies.measured(running) == "" and tallies.separated(running)["holds"] == "5 hold so far"
    assert tallies.headline(dataclasses.replace(running, curve={})).startswith("Before the first step")


def test_nothing_right_is_nothing_to_attack():
    strip = dataclasses.replace(made(fooled=0, wrong=N), verdict=None)
    assert "wrong on all 10 pictures before anything is changed" in tallies.headline(strip)
    assert len(tallies.details(strip)) == 2 and tallies.measured(strip) == ""


def test_the_smallest_changes_are_told_with_those_not_found():
    distance = np.array([9, 9, 0.1, 0.2, 0.6, 9, 9, 9, 9, 9.0])
    strip = made(attack="deepfool", norm="l2", distance=distance)
    assert tallies.headline(strip) == "**A change was found for 3 of the 8 pictures that the model got right**."
    words = spaces(tallies.measured(strip))
    assert words.endswith("Their size (L2): median 0.2, mean 0.3. 5 not found, and in neither number.")
    assert "8-bit" not in "\n".join(tallies.details(strip))


def test_the_target_is_named():
    assert "Fooled into an airplane: 3 of" in tallies.headline(made(target="airplane"))


def test_details_name_every_condition():
    text = "\n".join(tallies.details(made(about={"stalled_share": 0.25})))
    for part in (
        "drawn at random",
        "(seed 0)",
        "none could",
        "3 of the 3 still",
        "25.0%",
        "White-box",
        "840",
        "seed 5",
        "CPU",
    ):
        assert part in text
    assert "majority" not in text and "Black-box" in "\n".join(tallies.details(made(attack="square")))
    assert "bfloat16" not in text
    assert "computed in bfloat16" in "\n".join(tallies.details(made(about={"precision": "bfloat16"})))
    drawn = "\n".join(tallies.details(made(about={"stochastic": True, "verdict_draws": 20})))
    assert "majority of 20 fresh draws" in drawn


def test_what_lies_outside_does_not_count():
    strip = made()
    inside = strip.verdict.inside.clone()
    inside[0] = False
    strip = dataclasses.replace(strip, verdict=dataclasses.replace(strip.verdict, inside=inside))
    assert "1 results lie outside the allowed distance" in "\n".join(tallies.details(strip))


def applied(given=4, finished=True, hits=(5, 1, 2), m=9, wrong=1):
    right = np.arange(m) >= wrong
    fooled = {kind: right & (np.arange(m) < wrong + hit) for kind, hit in zip(KINDS, hits, strict=True)}
    about = {"others_chosen": "drawn at random (seed 0)", "seconds": 2.0, "device": "CPU"}
    return PerturbationTransfer(
        change=np.ones((3, 2, 2)), given=given, norm="linf", size=8 / 255, n=20, rows=np.arange(m), labels=np.zeros(m),
        right=right, before=np.zeros(m), after={}, fooled=fooled, images=np.zeros((m, 3, 2, 2)), seconds=1.0,
        conditions=about if finished else {},
    )  # fmt: skip


def test_what_carries_over_stands_beside_noise():
    text = spaces(tallies.applied_headline(applied()))
    assert "it fools 5 of 8" in text and "Noise of the same size fools 1" in text and "shuffled 2." in text
    assert "62 %, 95 % interval" in text
    assert "So far 9 of 20" in tallies.applied_headline(applied(finished=False)) and "So far" not in text
    assert "nothing can carry over" in tallies.applied_headline(applied(wrong=9))
    lines = "\n".join(tallies.applied_details(applied()))
    assert (
        "on picture 4 alone, on this same model" in lines
        and "1 of them were wrong before" in lines
        and "8/255" in lines
    )
    assert "all pictures of the strip together" in "\n".join(tallies.applied_details(applied(given=None)))
    assert applied().fooling_rate("change") == FoolingRate(1, 5, 3)
