"""A slice says what the model says at each of its points, and where those points lie."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from explorer.core import Ball, InvalidValue, seeded
from explorer.engine import AttackRequest
from explorer.engine.slices import EXTENTS, SIZES, Plan, outline, sideways, slice_work
from explorer.engine.tracing import picture

SMALL = {"size": 31}


def asked(**changes):
    return AttackRequest(**({"dataset": "cifar10", "image": 17, "model": "cifar10/tiny"} | changes)).checked()


@pytest.fixture
def cut(engine):
    """`cut(request, plan) -> slices, x0, x_adv`: toward a random corner of the ball."""

    def made(request, plan, eps=0.1):
        x0 = picture(engine, request)[0]
        signs = torch.rand(x0.shape, generator=seeded(2)).sub(0.5).sign()
        x_adv = Ball("linf", eps).project((x0 + eps * signs)[None], x0[None])[0]
        return list(slice_work(engine, request, x_adv.numpy(), request.label, plan)()), x0, x_adv

    return made


def test_every_value_is_that_of_the_models_own_answer(engine, cut):
    request, plan = asked(), Plan(**SMALL, seed=4)
    items, x0, x_adv = cut(request, plan)
    found, model = items[-1], engine.model("cifar10/tiny")
    along = x_adv.double() - x0.double()
    across = sideways(along, "linf", 4)
    assert found.ended == "done" and found.seen.all() and found.stride == 1 and found.passes == 31 * 31
    for row, column in [(0, 0), (15, 10), (15, 20), (3, 27), (30, 30), (22, 8)]:
        raw = x0.double() + plan.along[column] * along + plan.across[row] * across
        with torch.no_grad():
            logits = model(raw.clamp(0, 1).float()[None])
        chances = logits.softmax(1)[0]
        others = torch.cat([logits[0, : request.label], logits[0, request.label + 1 :]])
        assert found.probability[row, column] == pytest.approx(float(chances.max()), abs=1e-4)
        assert chances[found.predicted[row, column]] >= chances.max() - 1e-4
        assert found.loss[row, column] == pytest.approx(
            float(F.cross_entropy(logits, torch.tensor([request.label]))), abs=1e-3
        )
        assert found.margin[row, column] == pytest.approx(float(logits[0, request.label] - others.max()), abs=1e-3)
        assert found.cut[row, column] == pytest.approx(float(((raw < 0) | (raw > 1)).float().mean()), abs=1e-6)


@pytest.mark.parametrize("extent", EXTENTS)
@pytest.mark.parametrize("size", SIZES)
def test_both_pictures_lie_on_the_grid(extent, size):
    plan = Plan(extent, size)
    assert 0.0 in plan.along and 1.0 in plan.along and 0.0 in plan.across
    assert (plan.along[0], plan.along[-1]) == EXTENTS[extent]
    assert np.ptp(plan.along) == pytest.approx(np.ptp(plan.across)) and plan.across[0] == -plan.across[-1]


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_sideways_is_orthogonal_as_large_and_repeats(norm):
    direction = torch.randn(3, 32, 32, generator=seeded(0), dtype=torch.float64) * 0.01
    direction[:, :5] = 0
    side = sideways(direction, norm, 1)
    assert abs(float((side * direction).sum())) < 1e-12 * float(side.norm() * direction.norm())
    order = 2 if norm == "l2" else float("inf")
    assert float(side.flatten().norm(p=order)) == pytest.approx(float(direction.flatten().norm(p=order)))
    assert torch.equal(side, sideways(direction, norm, 1)) and not torch.allclose(side, sideways(direction, norm, 2))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_outline_is_the_balls_edge(norm):
    a = torch.randn(3, 8, 8, generator=seeded(0), dtype=torch.float64)
    b = sideways(a, norm, 0)
    edge = outline(a, b, norm, 0.3)
    assert np.allclose(edge[0], edge[-1])
    for along, across in edge[::40]:
        point = (along * a + across * b).flatten()
        assert float(point.abs().max() if norm == "linf" else point.norm()) == pytest.approx(0.3)
    if norm == "l2":  # a circle
        assert np.allclose(np.hypot(*edge.T), 0.3 / float(a.norm()))


def test_the_picture_is_whole_at_once_and_sharpens(cut):
    items, *_ = cut(asked(), Plan(**SMALL))
    strides = [item.stride for item in items]
    assert strides == sorted(strides, reverse=True) and {12, 6, 3, 1} == set(strides)
    first = items[0]
    assert first.seen.sum() == 9 and (first.probability > 0).all()  # nine points speak for all
    assert [item.seen.sum() for item in items] == sorted(item.seen.sum() for item in items)
    last = items[-1]
    for item in items:  # what was seen stays
        assert (item.predicted[item.seen] == last.predicted[item.seen]).all()
    assert not any(item.ended for item in items[:-1])


def test_a_random_model_meets_the_same_draws_everywhere(engine, cut):
    request = asked(model="cifar10/tiny-lwta")
    (*_, found), x0, _ = cut(request, Plan(size=31, draws=4), eps=1e-4)
    steps = np.abs(np.diff(found.probability[15, 8:24]))
    assert steps.max() < 0.05  # neighbours that hardly differ look alike; with draws of their own they would not
    (*_, again), *_ = cut(request, Plan(size=31, draws=4), eps=1e-4)
    assert (again.probability == found.probability).all() and found.passes == 31 * 31 * 4
    model = engine.model("cifar10/tiny-lwta")
    with torch.no_grad():
        free = torch.stack([model(x0.expand(4, -1, -1, -1)).softmax(1).mean(0).max() for _ in range(8)])
    assert float(free.max() - free.min()) > steps.max()


def test_toward_a_target_the_loss_is_that_of_the_target(cut):
    request = asked(target="cat") if asked().label != 3 else asked(target="dog")
    items, *_ = cut(request, Plan(**SMALL))
    found = items[-1]
    assert (found.loss <= 0).all()  # minus the cross-entropy of the target
    assert ((found.margin < 0) == (found.predicted == request.target)).mean() > 0.999


def test_a_minimal_attack_has_no_eps_and_the_outline_goes_through_its_result(cut):
    request = asked(attack="deepfool", norm="l2")
    items, *_ = cut(request, Plan(**SMALL))
    assert not items[-1].outline_is_eps and np.allclose(np.hypot(*items[-1].outline.T), 1.0)


def test_in_l0_the_outline_is_as_near_in_l2_as_the_result(cut):
    request = asked(attack="patch", norm="l0", eps=9, hyper={"steps": 3, "restarts": 1})
    items, *_ = cut(request, Plan(**SMALL))
    assert items[-1].norm == "l2" and not items[-1].outline_is_eps
    assert np.allclose(np.hypot(*items[-1].outline.T), 1.0)


def test_near_the_deadline_it_ends_with_a_coarser_picture(make_engine):
    engine = make_engine(deadline=1e-9)
    request = asked()
    x_adv = (picture(engine, request)[0] + 0.01).clamp(0, 1).numpy()
    items = list(slice_work(engine, request, x_adv, request.label, Plan())())
    assert len(items) == 1 and items[0].ended == "time"


def test_it_is_submitted_and_cancelled_like_an_attack(engine):
    request = asked()
    x_adv = (picture(engine, request)[0] + 0.01).clamp(0, 1).numpy()
    future = engine.submit("a", slice_work(engine, request, x_adv, request.label, Plan(size=121)))
    future.cancel()
    assert future.wait(30) and future.state == "cancelled"


@pytest.mark.parametrize(("values", "words"), [
    ({"extent": "far"}, "extent must be one of"), ({"size": 62}, "size must be one of"), ({"draws": 0}, "draws must be"),
    ({"draws": 65}, "draws must be"), ({"seed": -1}, "seed must be")])  # fmt: skip
def test_a_plan_that_cannot_be_is_refused(values, words):
    with pytest.raises(InvalidValue, match=words):
        Plan(**values)


def test_no_change_no_direction_and_no_draws_of_a_model_that_has_none(engine):
    request = asked()
    x0 = picture(engine, request)[0].numpy()
    with pytest.raises(InvalidValue, match="no direction to look along"):
        slice_work(engine, request, x0, request.label, Plan())
    with pytest.raises(InvalidValue, match="draws must be 1 for cifar10/tiny"):
        slice_work(engine, request, np.clip(x0 + 0.1, 0, 1), request.label, Plan(draws=2))
