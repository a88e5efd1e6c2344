"""The sentences about a finished attack say what the verdict says, and no more."""

import dataclasses

import numpy as np
import pytest
import torch

from explorer.core import Trace
from explorer.data import dataset
from explorer.engine import AttackRequest, Result
from explorer.evaluation.verdict import Verdict
from explorer.models import zoo
from explorer.ui.text import attack as verdicts

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
FROG, CAT = 6, 3


def asked(**changes):
    return AttackRequest(
        **({"dataset": "cifar10", "image": 2, "model": zoo.cards()[0].name, "seed": 5} | changes)
    ).checked()


@pytest.fixture(scope="module")
def request_():
    return asked()


def trace(target=None):
    rows = np.zeros((3, 10), np.float32)
    return Trace(
        frames=np.zeros((3, 3, 32, 32), np.float32),
        logits=rows,
        features=rows,
        loss=np.zeros(3, np.float32),
        linf=np.zeros(3),
        l2=np.zeros(3),
        reached=np.zeros(3, bool),
        degenerate=np.zeros(3, bool),
        label=FROG,
        target=target,
        classes=CLASSES,
        planned=3,
    )


def result(
    sees=CAT, reached=True, saved=True, inside=True, share=1.0, draws=1, degenerate=0.0, best=2, norm="linf", **more
):
    about = {
        "ending": "fooled" if reached and inside else "holds",
        "stalled_share": degenerate,
        "forwards": 21,
        "backwards": 20,
        "seconds": 0.42,
        "device": "CPU, 2 threads",
    } | more
    verdict = Verdict(
        reached=torch.tensor([reached]),
        reached_8bit=torch.tensor([saved]),
        predicted=torch.tensor([sees]),
        predicted_8bit=torch.tensor([sees]),
        inside=torch.tensor([inside]),
        linf=torch.tensor([8 / 255], dtype=torch.float64),
        l2=torch.tensor([1.25], dtype=torch.float64),
        distance=torch.tensor([8 / 255 if norm == "linf" else 1.25], dtype=torch.float64),
        draws=draws,
        share=torch.tensor([share], dtype=torch.float64),
    )
    return Result(best=best, verdict=verdict, conditions=about)


def test_a_fooled_model_is_named_with_both_classes_and_the_distance(request_):
    reached, sentence = verdicts.headline(trace(), result(), request_)
    assert reached
    assert "a cat instead of a frog" in sentence and "L∞ 8/255" in sentence


def test_class_names_stand_in_a_sentence_as_in_the_player(request_):
    clothes = dataset("fashion_mnist").classes  # "Dress", "Shirt": as that dataset writes them
    _, sentence = verdicts.headline(dataclasses.replace(trace(), classes=clothes), result(), request_)
    assert "a dress instead of a shirt" in sentence


def test_a_picture_that_was_wrong_before_is_no_success_of_the_attack(request_):
    walk = trace()
    before = dataclasses.replace(walk, reached=np.ones(3, bool), logits=np.eye(3, 10, k=5, dtype=np.float32))
    _, sentence = verdicts.headline(before, result(ending="wrong before"), request_)
    assert "Wrong from the start" in sentence and "this frog for a dog" in sentence


def test_a_model_that_holds_is_not_called_robust(request_):
    reached, sentence = verdicts.headline(trace(), result(sees=FROG, reached=False, saved=False), request_)
    assert not reached
    assert "still sees a frog" in sentence and "no proof" in sentence


def test_a_missed_target_says_what_is_seen_instead(request_):
    reached, sentence = verdicts.headline(
        trace(target=CAT), result(sees=5, reached=False, ending="target missed"), request_
    )
    assert not reached
    assert "sees a dog, not a cat" in sentence


def test_a_result_outside_the_ball_does_not_count(request_):
    reached, sentence = verdicts.headline(trace(), result(inside=False), request_)
    assert not reached and "does not count" in sentence


def test_the_smallest_change_is_told_in_its_norm():
    found = dataclasses.replace(trace(), reached=np.array([False, False, True]), minimal=True)
    for norm, words in (("l2", "has length 1.25 (L2)"), ("linf", "moves no pixel by more than 8/255 (L∞)")):
        reached, sentence = verdicts.headline(found, result(norm=norm), asked(attack="deepfool", norm=norm))
        assert reached and f"The smallest change found {words}." in sentence and "a cat instead of a frog" in sentence
    lost = verdicts.headline(found, result(sees=FROG, reached=False), asked(attack="deepfool"))
    assert lost[0] is False and "Not confirmed" in lost[1]


def test_a_search_that_found_nothing_says_so():
    nothing = result(sees=FROG, reached=False, saved=False)
    reached, sentence = verdicts.headline(trace(), nothing, asked(attack="deepfool"))
    assert not reached and "No change was found that makes the model see anything but a frog" in sentence
    sentence = verdicts.headline(trace(target=CAT), nothing, asked(attack="deepfool", target=CAT))[1]
    assert "makes the model see a cat" in sentence and "no proof" in sentence


def test_a_search_has_no_allowed_distance_to_be_inside_of(request_):
    text = "\n".join(verdicts.details(trace(), result(), asked(attack="deepfool"), stochastic=False))
    assert "Inside the pixel range" in text
    assert "Inside the allowed distance and the pixel range" in "\n".join(
        verdicts.details(trace(), result(), request_, stochastic=False)
    )


def test_rounding_that_undoes_the_attack_is_said(request_):
    kept = "\n".join(verdicts.details(trace(), result(), request_, stochastic=False))
    lost = "\n".join(verdicts.details(trace(), result(saved=False), request_, stochastic=False))
    assert "survives being saved" in kept and "Rounding undoes it" in lost


def test_costs_seed_and_zero_gradients_are_told(request_):
    text = "\n".join(verdicts.details(trace(), result(degenerate=0.25), request_, stochastic=False))
    for part in ("21 forward", "20 backward", "seed 5", "25%", "White-box", "8/255", "(L2): 1.25."):
        assert part in text


def test_a_random_model_shows_its_share_of_draws_and_warns_of_a_single_one(request_):
    text = "\n".join(verdicts.details(trace(), result(share=0.7, draws=20), request_, stochastic=True))
    assert "of 20 fresh looks at the result, 14 were" in text
    doubt = verdicts.warning(request_, stochastic=True)
    assert "not robust yet" in doubt and "gradients" in doubt
    assert "gradients" not in verdicts.warning(dataclasses.replace(request_, attack="square"), stochastic=True)
    assert verdicts.warning(dataclasses.replace(request_, hyper={"draws": 20}), stochastic=True) is None
    assert verdicts.warning(request_, stochastic=False) is None


@pytest.mark.parametrize(
    ("value", "says"), [(0.418, "0.42 s"), (4.06, "4.1 s"), (99.4, "99 s"), (99.7, "100 s"), (1234.5, "1,234 s")]
)
def test_seconds_are_never_written_in_powers_of_ten(value, says):
    assert verdicts.seconds(value) == says


def test_an_attack_on_several_models_tells_weights_and_reach(request_):
    rows = [
        {"name": "this model", "weight": 0.25, "loss": 1.0, "reached": True},
        {"name": "cifar10/b", "weight": 0.75, "loss": -0.5, "reached": False},
    ]
    told = "\n".join(verdicts.details(trace(), result(domains=rows), request_, False))
    assert "Learned weights when the result was found: this model 0.25, cifar10/b 0.75" in told
    assert "reaches its goal only for this model." in told and "Learned weights" not in "\n".join(
        verdicts.details(trace(), result(), request_, False)
    )
    for reached, where in ((True, "everywhere"), (False, "nowhere")):
        every = [row | {"reached": reached} for row in rows]
        assert f"its goal {where}." in "\n".join(verdicts.details(trace(), result(domains=every), request_, False))


@pytest.mark.parametrize(("best", "words"), [(0, "before any change"), (1, "at the start"), (2, None)])
def test_which_picture_of_the_walk_is_judged_is_said_where_it_is_not_the_last(best, words, request_):
    lines = verdicts.details(trace(), result(best=best), request_, stochastic=False)
    said = [line for line in lines if "is judged" in line]
    sentence = f"What is judged is the picture {words}, the best that was found, not the last one of the walk."
    assert said == ([] if words is None else [sentence])
    long = dataclasses.replace(trace(), frames=np.zeros((9, 3, 32, 32), np.float32))
    assert "the picture after step 1," in verdicts.details(long, result(best=2), request_, stochastic=False)[0]


def test_of_a_random_model_that_is_mostly_wrong_nothing_false_is_said(request_):
    right_on_average = dataclasses.replace(trace(), logits=np.eye(3, 10, k=FROG, dtype=np.float32))
    _, sentence = verdicts.headline(right_on_average, result(ending="wrong before"), request_)
    assert "Wrong from the start" in sentence and "for a frog" not in sentence
