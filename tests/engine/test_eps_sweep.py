"""A slider's twelve sizes of eps: one batch, each copy in its own ball, judged in float32."""

import json
from itertools import pairwise

import numpy as np
import pytest
import torch

from explorer.core import Ball, Goal, InvalidValue
from explorer.engine import AttackRequest, Budget, attack_work
from explorer.engine.eps_sweep import eps_sweep_work, sizes


def request(**changes):
    values = {"dataset": "cifar10", "image": 17, "model": "cifar10/tiny", "hyper": {"steps": 3}} | changes
    return AttackRequest(**values).checked()


def sweeps(engine, asked):
    return [item for item in eps_sweep_work(engine, asked)() if item is not None]


@pytest.mark.parametrize(("norm", "eps"), [("linf", 8 / 255), ("linf", 7 / 255), ("l2", 0.5), ("l2", 90.0)])
def test_the_sizes_are_twelve_and_hold_the_chosen_one(norm, eps):
    found = sizes(request(norm=norm, eps=eps))
    assert len(found) == 12 and eps in found and all(a < b for a, b in pairwise(found))


def test_in_l0_the_sizes_are_whole():
    found = sizes(request(attack="one-pixel", hyper={}, norm="l0", eps=3))
    assert found == (1, 2, 3, 5, 8, 10, 15, 20, 30, 40)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_every_size_is_attacked_in_its_own_ball(engine, norm):
    asked = request(norm=norm, eps=8 / 255 if norm == "linf" else 0.5)
    items = sweeps(engine, asked)
    first, last = items[0], items[-1]
    assert np.array_equal(first.images, np.repeat(first.original[None], 12, 0)) and not first.finished
    assert [item.done for item in items] == [0, 1, 2, 3, 4, 4] and last.planned == 4
    x0, x = (torch.from_numpy(a.copy()) for a in (np.repeat(last.original[None], 12, 0), last.images))
    ball = Ball(norm, torch.tensor(last.eps))
    assert ball.around(x0).contains(x).all() and (last.distance >= 0.5 * last.eps)[:9].all()
    with torch.no_grad():
        logits = engine.model("cifar10/tiny")(x)
    goal = Goal.untargeted(torch.full((12,), last.label))
    assert last.reached.tolist() == goal.reached(logits).tolist()
    assert last.answers.predicted.tolist() == logits.argmax(1).tolist()
    wrong = last.conditions["wrong_before"]
    says = ["wrong before" if wrong else "fooled" if hit else "holds" for hit in last.reached]
    assert list(last.endings) == says
    assert json.loads(json.dumps(last.conditions))["sizes"] == last.eps.tolist()
    assert last.conditions["backwards"] == 12 * 3


def test_a_random_model_is_judged_on_fresh_draws(engine):
    last = sweeps(engine, request(model="cifar10/tiny-lwta"))[-1]
    again = sweeps(engine, request(model="cifar10/tiny-lwta"))[-1]
    assert last.verdict.draws == 20 and torch.equal(last.verdict.share, again.verdict.share)
    assert np.array_equal(last.images, again.images)


def test_a_search_for_the_smallest_change_answers_for_every_size_with_one_walk(engine):
    label = int(engine.model("cifar10/tiny")(torch.zeros(1, 3, 32, 32)).argmax())
    engine.keep_upload("upload:00000000", torch.zeros(3, 32, 32))
    asked = request(image="upload:00000000", label=label, attack="deepfool", norm="l2", hyper={})
    last = sweeps(engine, asked)[-1]
    (*_, alone) = attack_work(engine, asked)()
    distance = float(alone.result.verdict.l2[0])
    assert alone.result.ending == "fooled"
    assert last.reached.tolist() == (last.eps >= distance).tolist() and set(last.endings) <= {"fooled", "holds"}
    for image, hit in zip(last.images, last.reached, strict=True):
        assert np.array_equal(image, alone.trace.frames[alone.result.best if hit else 0])


def test_what_asks_for_too_much_is_refused_at_once(engine):
    with pytest.raises(InvalidValue, match="sizes x passes may come to at most 83 here; got 84"):
        eps_sweep_work(engine, request(), Budget(passes=83))
    with pytest.raises(InvalidValue, match="one number"):
        sweeps(engine, request(attack="universal", hyper={}))
