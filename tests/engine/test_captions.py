"""The sentences, word for word."""

import numpy as np
import pytest
import torch

from explorer.core import Trace
from explorer.engine import Result, captions
from explorer.engine.captions import article, noun
from explorer.evaluation.verdict import Verdict

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CLOTHES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
CAT, FROG = 3, 6


def told(seen, linf, *, target=None, l2=None, classes=CLASSES, planned=None, label=FROG, minimal=False, **conditions):
    """A trace in which frame t is taken for class seen[t][0] with probability seen[t][1]."""
    n = len(seen)
    p = np.zeros((n, 10))
    for t, (k, share) in enumerate(seen):
        p[t], p[t, k] = (1 - share) / 9, share
    predicted = p.argmax(1)
    return Trace(
        frames=np.zeros((n, 3, 2, 2), np.float32),
        logits=np.log(p),
        features=np.zeros((n, 2), np.float32),
        loss=np.arange(n, dtype=np.float32),
        linf=np.array(linf),
        l2=np.array(l2 if l2 is not None else linf),
        reached=predicted != label if target is None else predicted == target,
        degenerate=np.zeros(n, bool),
        label=label,
        target=target,
        classes=classes,
        planned=planned or n,
        minimal=minimal,
        conditions={"norm": "linf", "eps": 8 / 255, "image": 17, "hyper": {"random_start": True}} | conditions,
    )


def result(trace, reached=True, kept=True, draws=1, share=1.0):
    one = torch.tensor([CAT])
    flags = {"reached": torch.tensor([reached]), "reached_8bit": torch.tensor([kept]), "inside": torch.tensor([True])}
    sizes = {name: torch.tensor([0.0]).double() for name in ("linf", "l2", "distance")}
    verdict = Verdict(
        **flags, **sizes, predicted=one, predicted_8bit=one, draws=draws, share=torch.tensor([share]).double()
    )
    return Result(trace.best, verdict, {})


E = 8 / 255


def test_a_walk_from_right_to_wrong():
    trace = told([(FROG, 0.977), (FROG, 0.9), (CAT, 0.55), (CAT, 0.919)], [0, E * 0.99, E, E], planned=22)
    assert captions(trace) == [
        "The model takes this frog for a frog, 98 % sure: nothing has been changed yet.",
        "At a random point of the ball, where the attack starts, the model takes this frog for a frog, 90 % sure; "
        "no pixel moved by more than 7.92/255.",
        "After 1 of 20 steps the model takes this frog for a cat, 55 % sure; no pixel moved by more than 8/255.",
        "After 2 of 20 steps the model takes this frog for a cat, 92 % sure; no pixel moved by more than 8/255.",
    ]


def test_wrong_from_the_start():
    trace = told([(CAT, 0.52)], [0], planned=22)
    assert captions(trace) == [
        "The model takes this frog for a cat, 52 % sure: it is wrong before anything has been changed."
    ]


def test_a_target_reached_and_not():
    trace = told([(FROG, 0.9), (0, 0.6), (CAT, 0.6)], [0, 0, E], target=CAT)
    first, start, end = captions(trace, result(trace))
    assert first.startswith("The model takes this frog for a frog")
    assert start == (
        "At the untouched image, where the attack starts, the model takes this frog for an airplane, 60 % sure "
        "(the target is a cat); no pixel has moved."
    )
    assert end == (
        "After its only step the model takes this frog for a cat, 60 % sure (the target); "
        "no pixel moved by more than 8/255."
    )
    missed = told([(FROG, 0.9), (FROG, 0.6), (0, 0.6)], [0, 0, E], target=CAT)
    assert captions(missed, result(missed, reached=False, kept=False))[-1].endswith(
        " The target, a cat, is not reached."
    )


def test_euclidean_length():
    trace = told([(FROG, 0.9), (CAT, 0.6)], [0, 0.1], l2=[0, 0.49999], norm="l2")
    assert captions(trace)[1].endswith("the change has length 0.5 (L2).")


def test_a_search_for_the_smallest_change():
    seen = [(FROG, 0.9), (FROG, 0.9), (CAT, 0.6), (CAT, 0.51)]
    trace = told(seen, [0, 0, 0.2, 0.1], l2=[0, 0, 2.0, 1.5], norm="l2", eps=None, planned=52, minimal=True)
    assert captions(trace, result(trace))[1:] == [
        "At the untouched image, where the search starts, the model takes this frog for a frog, 90 % sure; "
        "no pixel has moved.",
        "At point 1 of the search the model takes this frog for a cat, 60 % sure; the change has length 2 (L2).",
        "At point 2 of the search the model takes this frog for a cat, 51 % sure; the change has length 1.5 (L2). "
        "This is the smallest change found.",
    ]
    failed = told([(FROG, 0.9)] * 3, [0, 0, 0.2], minimal=True)
    assert captions(failed, result(failed, reached=False, kept=False))[1].endswith(
        "no pixel has moved. No change was found that does what was asked."
    )


def test_restarts_are_counted():
    trace = told([(FROG, 0.9)] * 7, [0, E, E, E, E, E, E], restarts=2, starts=[1, 4])
    sentences = captions(trace)
    assert sentences[1].startswith("At a random point of the ball, where try 1 of 2 starts, the model")
    assert sentences[3].startswith("After 2 of 2 steps of try 1 of 2 the model")
    assert sentences[4].startswith("At a random point of the ball, where try 2 of 2 starts, the model")
    assert sentences[6].startswith("After 2 of 2 steps of try 2 of 2 the model")


def test_rounding_and_a_second_look_are_told_where_they_matter():
    trace = told([(FROG, 0.9), (FROG, 0.9), (CAT, 0.6)], [0, E, E])
    assert captions(trace, result(trace)) == captions(trace)
    assert captions(trace, result(trace, kept=False))[-1].endswith("8/255. Rounding to 8 bits undoes the attack.")
    assert captions(trace, result(trace, reached=False, kept=False))[-1].endswith(
        "in full precision, the attack fails."
    )


def test_a_stochastic_model_never_sounds_surer_than_its_draws():
    trace = told([(FROG, 0.9), (CAT, 0.6)], [0, E], draws=1)
    assert "90 % sure in this one draw: nothing" in captions(trace, stochastic=True)[0]
    trace = told([(FROG, 0.9), (CAT, 0.6)], [0, E], draws=8)
    sentences = captions(trace, result(trace, draws=20, share=0.35, reached=False, kept=False), stochastic=True)
    assert "60 % sure over 8 draws" in sentences[1]
    assert sentences[1].endswith(" On fresh draws the model is wrong 7 of 20 times.")
    aimed = told([(FROG, 0.9), (CAT, 0.6)], [0, E], target=CAT)
    assert captions(aimed, result(aimed, draws=20, share=0.95), True)[1].endswith(
        " On fresh draws the model takes it for a cat 19 of 20 times."
    )


def test_an_upload_is_a_picture():
    trace = told([(FROG, 0.9)], [0], image="upload:0123abcd")
    assert captions(trace)[0] == "The model takes this picture for a frog, 90 % sure: nothing has been changed yet."


@pytest.mark.parametrize(
    ("linf", "says"),
    [(E, "8/255"), (E + 1e-9, "8/255"), (7.412 / 255, "7.42/255"), (0.02 / 255, "0.02/255"), (1.0, "255/255")],
)
def test_a_bound_is_rounded_up(linf, says):
    assert f"no pixel moved by more than {says}." in captions(told([(FROG, 0.9), (CAT, 0.6)], [0, linf]))[1]


def test_articles_and_nouns():
    assert [article(name) for name in CLASSES[:3]] == ["an airplane", "an automobile", "a bird"]
    assert [article(name) for name in (CLOTHES[0], CLOTHES[1], CLOTHES[9])] == [
        "a T-shirt/top",
        "a trouser",
        "an ankle boot",
    ]
    assert noun("") == ""
    worn = told([(9, 0.9)], [0], classes=CLOTHES, label=9)
    assert captions(worn)[0].startswith("The model takes this ankle boot for an ankle boot, 90 % sure")


def test_the_first_answer_of_a_random_model_is_that_of_its_fresh_draws():
    told_of = {"draws": 1, "draws_before": 20}
    right, wrong = (told([(FROG, 0.55), (CAT, 0.6)], [0, E], wrong_before=b, **told_of) for b in (False, True))
    first, start = captions(right, stochastic=True)
    assert "55 % sure over 20 draws: nothing has been changed yet." in first and "sure in this one draw" in start
    assert "but most of them see something else: it is wrong before" in captions(wrong, stochastic=True)[0]
    unlucky = told([(CAT, 0.4)], [0], wrong_before=False, **told_of)
    assert captions(unlucky, stochastic=True)[0].endswith("but most of them are right: nothing has been changed yet.")
