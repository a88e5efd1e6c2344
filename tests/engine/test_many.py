"""Many pictures at once: who is counted how, that the batch is `run`'s, that seeds repeat, and what is kept of it."""

import dataclasses
import json
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from explorer.attacks import ATTACKS
from explorer.core import Ball, Best, Classifier, ExplorerError, Goal, InvalidValue, Step, run, seeded, wilson
from explorer.data import dataset, raw
from explorer.engine import Engine
from explorer.engine.batch import BatchWalk
from explorer.engine.batch_request import ManyRequest
from explorer.engine.batch_result import FoolingRate, Predictions
from explorer.engine.clock import Clock
from explorer.engine.many import many_work
from explorer.engine.request import Budget
from explorer.engine.transfer import KINDS, _Transfer, transfer_work
from explorer.evaluation.verdict import Verdict

LABELS = raw("cifar10", "test", "sample")[1].numpy()
CLASSES = dataset("cifar10").classes
CAT = CLASSES.index("cat")
HAND = tuple(int(row) for row in np.flatnonzero(LABELS != CAT)[:5])


def request(**changes):
    values = {"dataset": "cifar10", "model": "cifar10/tiny", "count": 6, "hyper": {"steps": 3}}
    return ManyRequest(**(values | changes)).checked()


def final(engine, asked, work=many_work):
    return list(engine.submit("a", work(engine, asked)).events())[-1]


@pytest.fixture(scope="module")
def shared_engine():
    engine = Engine("cpu", threads=1)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def strip(shared_engine):
    """Eight pictures that the network gets right, attacked."""
    return final(shared_engine, request(pick="right", count=8, eps=0.02))


# The request


def test_random_pictures_follow_from_the_seed_and_begin_alike():
    few, many_ = request(count=4).candidates[:4], request(count=32).candidates[:32]
    assert few == many_[:4] and len(set(many_)) == 32
    assert request(shuffle=1).candidates != request().candidates
    assert {int(LABELS[row]) for row in request(of="cat").candidates} == {CAT}


def test_pictures_of_the_target_are_never_among_them():
    rows = request(target="cat").candidates
    assert len(rows) == int((LABELS != CAT).sum()) and not (LABELS[list(rows)] == CAT).any()
    cat = int(np.flatnonzero(LABELS == CAT)[0])
    with pytest.raises(InvalidValue, match=f"picture {cat} shows 'cat'"):
        request(pick="hand", rows=(*HAND, cat), target="cat")
    with pytest.raises(InvalidValue, match="pictures' class"):
        request(of="cat", target=CAT)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"count": 0}, r"count must be a whole number in \[1, 32\]; got 0"),
        ({"count": 33}, "got 33"),
        ({"pick": "best"}, "pick must be one of random, right, hand; got 'best'"),
        ({"pick": "hand"}, "rows must name 1 to 32 pictures; got 0"),
        ({"pick": "hand", "rows": tuple(range(33))}, "got 33"),
        ({"pick": "hand", "rows": (3, 3)}, "each picture once"),
        ({"pick": "hand", "rows": (3, len(LABELS))}, "picture must be a whole number"),
        ({"pick": "hand", "rows": "3,x"}, "picture must be a whole number"),
        ({"rows": (3,)}, 'rows go with pick "hand"'),
        ({"shuffle": -1}, "shuffle must be"),
        ({"of": "unicorn"}, "Unknown .*unicorn"),
        ({"eps": 8}, "Did you mean 8/255"),
        ({"hyper": {"steps": 0}}, "steps must be"),
        ({"model": "fashion_mnist/tiny"}, "was made for fashion_mnist"),
        ({"attack": "pgdd"}, "pgdd"),
        ({"precision": "half"}, "precision must be one of auto, float32, bfloat16; got 'half'"),
    ],
)
def test_what_cannot_be_asked_for_says_why(changes, says):
    with pytest.raises(ExplorerError, match=says):
        request(**changes)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"count": 32, "attack": "cw", "norm": "l2", "hyper": {"steps": 1000}}, "x passes may come to at most 320,000"),
        ({"count": 32, "hyper": {"steps": 2, "draws": 11}}, "pictures x draws may come to at most 320 .* got 352"),
        ({"count": 1, "hyper": {"steps": 1000, "restarts": 4}}, "recorded steps"),
    ],
)
def test_a_page_grants_so_much_for_all_pictures_together(engine, changes, says):
    with pytest.raises(InvalidValue, match=says):
        many_work(engine, request(**changes))
    assert request(**changes).within(Budget(passes=10**9, draws=10**4, frames=10**6)) == request(**changes)


def test_what_the_page_offers_is_granted():
    assert request(count=32, attack="cw", norm="l2", hyper={"searches": 1, "steps": 1000}).within()
    assert request(count=16, hyper={"steps": 20, "draws": 20}).within()
    assert request(count=32, attack="autoattack").within()


def test_a_link_to_few_pictures_need_not_say_how_many():
    link = {"data": "photos", "model": "photos/efficientnet-lite0"}
    assert ManyRequest.from_query(link).count == 12
    with pytest.raises(InvalidValue, match="at most 12 here"):
        ManyRequest.from_query(link | {"count": "13"})


CHOICES = st.fixed_dictionaries(
    {},
    optional={
        "pick": st.sampled_from(["random", "right"]),
        "count": st.integers(1, 32),
        "of": st.integers(0, 9),
        "shuffle": st.integers(0, 2**31 - 1),
        "norm": st.sampled_from(["linf", "l2"]),
        "eps": st.integers(1, 255).map(lambda k: k / 255),
        "target": st.integers(0, 9),
        "seed": st.integers(0, 2**63 - 1),
        "hyper": st.fixed_dictionaries({}, optional={"steps": st.integers(1, 1000), "restarts": st.integers(1, 9)}),
    },
)


@given(CHOICES)
def test_a_link_makes_the_same_request_again(values):
    try:
        made = request(**values)
    except InvalidValue as error:
        assert "target must differ" in str(error)
        return
    assert ManyRequest.from_query(made.to_query()) == made


def test_a_link_of_chosen_pictures():
    made = request(pick="hand", rows=HAND, attack="deepfool", norm="l2")
    query = made.to_query()
    assert query["rows"] == ",".join(map(str, HAND)) and "count" not in query and "eps" not in query
    assert ManyRequest.from_query(query | {"embed": "true"}) == made
    thirty = request(pick="hand", rows=tuple(range(1900, 1932)))
    assert ManyRequest.from_query(thirty.to_query()) == thirty
    with pytest.raises(InvalidValue, match="must name data and model; model is missing"):
        ManyRequest.from_query({"data": "cifar10"})


def test_one_picture_alone_is_the_same_attack():
    made = request(eps=0.05, seed=9, target="cat")
    row = made.candidates[2]
    one = made.single(row)
    assert (one.image, one.eps, one.seed, one.hyper, one.target) == (row, 0.05, 9, made.hyper, CAT)
    assert one.label == LABELS[row]


def test_words_say_how_the_pictures_were_chosen():
    assert request().title() == "PGD against cifar10/tiny, L∞ 8/255, 3 steps, on 6 pictures"
    assert "at random of class dog from" in request(of="dog", shuffle=4).chosen_words()
    assert "(seed 4)" in request(of="dog", shuffle=4).chosen_words()
    assert "among those the model gets right" in request(pick="right").chosen_words()
    assert request(pick="hand", rows=HAND).chosen_words() == "chosen by hand"
    assert "none that shows the target (cat)" in request(target="cat").chosen_words()


# Counting


def test_shares_are_counted_by_hand():
    right = np.array([True, True, True, False, True, False])
    fooled = np.array([True, False, True, True, True, False])  # a picture wrong before is never "fooled"
    tally = FoolingRate.of(right, fooled)
    assert (tally.wrong, tally.fooled, tally.holds) == (2, 3, 1)
    assert (tally.n, tally.right, tally.share) == (6, 4, 0.75) and tally.interval == wilson(3, 4)
    nothing = FoolingRate.of(np.zeros(3, bool), np.zeros(3, bool))
    assert nothing.share is None and nothing.interval is None and nothing.wrong == 3


def test_what_was_seen_is_read_off_the_logits():
    logits = np.array([[2.0, 1.0, 0.0], [0.0, 3.0, 1.0]], np.float32)
    seen = Predictions.of(logits, np.array([0, 2]))
    assert seen.predicted.tolist() == [0, 1] and seen.margin.tolist() == [1.0, -2.0]
    assert seen.sure[0] == pytest.approx(np.exp(2) / (np.exp(2) + np.exp(1) + 1))
    assert Predictions.of(logits, np.array([0, 2]), np.array([1, 1])).predicted.tolist() == [1, 1]


# The walk


def test_only_what_is_right_is_attacked_and_the_batch_is_runs(shared_engine):
    asked = request(count=24, eps=0.02, precision="float32")
    items = [item for item in many_work(shared_engine, asked)() if item is not None]
    first, last = items[0], items[-1]
    assert not first.fooled.any() and (first.images == first.originals).all() and not first.finished
    model = shared_engine.model(asked.model)
    rows = list(asked.candidates[:24])
    assert last.rows.tolist() == rows and (last.labels == LABELS[rows]).all()
    x = torch.from_numpy(last.originals)
    assert (x == raw("cifar10", "test", "sample")[0][rows].float() / 255).all()
    seen = model(x).argmax(1).numpy()
    assert (last.right == (seen == LABELS[rows])).all() and 0 < last.right.sum() < 24
    x0, y = x[last.right], torch.from_numpy(last.labels[last.right])
    goal = Goal.untargeted(y)
    outcome = run(ATTACKS["pgd"](steps=3).walk(model, x0, goal, Ball("linf", 0.02), seeded(0)), goal)
    assert (last.images[last.right] == outcome.x.numpy()).all()
    assert (last.images[~last.right] == last.originals[~last.right]).all()
    assert (last.fooled[last.right] == (model(outcome.x).argmax(1) != y).numpy()).all()
    states = np.array(last.states)
    assert ((states == "wrong") == ~last.right).all() and ((states == "fooled") == last.fooled).all()
    assert len(items) == 2 + 4 and last.planned == 4 and len(last.curve["reached"]) == 4
    assert [len(item.curve["reached"]) for item in items[1:]] == [1, 2, 3, 4, 4]


def test_curves_only_rise_and_end_at_the_count(strip):
    share = strip.curve["reached"].sum(1)
    assert (np.diff(share) >= 0).all() and share[-1] == strip.fooling_rate.fooled and strip.right.all()
    assert (strip.distance[strip.right] <= 0.02).all() and bool(strip.verdict.inside.all())
    assert strip.curve["distance"][-1] == pytest.approx(strip.distance)
    assert ((strip.after.margin < 0) == strip.fooled).all()


def test_conditions_can_be_stored_and_name_everything(strip):
    about = json.loads(json.dumps(dict(strip.conditions)))
    assert about["pictures"] == about["attacked"] == strip.rows.tolist()
    assert about["norm"] == "linf" and about["eps"] == 0.02 and about["seed"] == 0 and about["verdict_draws"] == 1
    assert about["forwards"] == 8 * 4 and about["backwards"] == 8 * 3 and about["versions"] and about["weights"]
    assert "among those the model gets right" in about["chosen"] and about["threat"] == "white-box"


def test_the_script_makes_the_same_images(strip, monkeypatch, capsys):
    names = {}
    exec(compile(strip.request.to_python(tuple(strip.rows.tolist()), "float32"), "script", "exec"), names)
    assert (names["outcome"].x.numpy() == strip.images).all() and "tensor" in capsys.readouterr().out
    aimed = request(pick="hand", rows=HAND, target="cat", hyper={"steps": 1})
    exec(compile(aimed.to_python(HAND, "float32"), "script", "exec"), names)
    assert (names["goal"].labels == CAT).all() and names["goal"].is_targeted


def test_sixteen_pictures_climb_in_bfloat16_and_are_judged_in_float32(shared_engine, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    fast, few = final(shared_engine, request(count=16, eps=0.02)), final(shared_engine, request(count=15, eps=0.02))
    exact = final(shared_engine, request(count=16, eps=0.02, precision="float32"))
    assert [one.conditions["precision"] for one in (fast, few, exact)] == ["bfloat16", "float32", "float32"]
    assert not (fast.images == exact.images).all() and abs(fast.fooled.sum() - exact.fooled.sum()) <= 1
    model, right = shared_engine.model(fast.request.model), fast.right
    logits = model(torch.from_numpy(fast.images))
    assert (fast.fooled[right] == (logits.argmax(1).numpy() != fast.labels)[right]).all()
    assert (
        ManyRequest.from_query(exact.request.to_query()) == exact.request and "precision" not in fast.request.to_query()
    )
    names = {}
    exec(compile(fast.request.to_python(tuple(fast.rows[right].tolist()), "bfloat16"), "script", "exec"), names)
    assert (names["outcome"].x.numpy() == fast.images[right]).all()


def test_a_seed_repeats_and_another_does_not(shared_engine, monkeypatch):
    monkeypatch.setattr("explorer.evaluation.verdict.STOCHASTIC_DRAWS", 4)
    asked = request(model="cifar10/tiny-lwta", count=16, hyper={"steps": 2, "draws": 2})
    a, b = final(shared_engine, asked), final(shared_engine, asked)
    assert (a.images == b.images).all() and (a.after.sure == b.after.sure).all() and a.states == b.states
    c = final(shared_engine, dataclasses.replace(asked, seed=1))
    assert a.rows.tolist() == c.rows.tolist() and (a.before.sure != c.before.sure).any()


def test_a_random_model_is_judged_on_fresh_draws(shared_engine):
    asked = request(model="cifar10/tiny-lwta", pick="right", count=2, eps=0.1, hyper={"steps": 2})
    made = final(shared_engine, asked)
    assert made.conditions["verdict_draws"] == 20 and made.conditions["stochastic"] and made.right.all()
    verdict = made.verdict
    tied = (verdict.share == 0.5).numpy() & (verdict.predicted.numpy() != made.labels[made.right])
    assert (made.fooled[made.right] == (verdict.share > 0.5).numpy() | tied).all()


def test_a_target_must_be_reached(shared_engine):
    made = final(shared_engine, request(count=24, target="cat", eps=0.1))
    assert (made.fooled == (made.right & (made.after.predicted == CAT))).all()
    assert (made.labels != CAT).all()


def test_the_smallest_change_reports_distances(shared_engine):
    asked = request(pick="right", count=5, attack="deepfool", norm="l2", hyper={"steps": 10})
    made = final(shared_engine, asked)
    changed = np.sqrt(((made.images - made.originals).astype(np.float64) ** 2).sum((1, 2, 3)))
    assert made.distance == pytest.approx(changed) and made.request.is_minimal
    assert made.found.tolist() == sorted(made.distance[made.fooled]) and len(made.found) == made.fooling_rate.fooled > 0


def test_pictures_chosen_by_hand_are_taken_as_they_are(shared_engine):
    made = final(shared_engine, request(pick="hand", rows=HAND[::-1], hyper={"steps": 1}))
    assert tuple(made.rows) == HAND[::-1]


def test_right_pictures_are_right(strip, shared_engine):
    assert strip.right.all() and strip.fooling_rate.wrong == 0 and len(strip.rows) == 8
    order = {row: at for at, row in enumerate(strip.request.candidates)}
    places = [order[row] for row in strip.rows.tolist()]
    assert places == sorted(places)
    too_many = request(pick="right", of=int(np.bincount(LABELS[strip.rows], minlength=10).argmin()), count=32)
    future = shared_engine.submit("a", many_work(shared_engine, too_many))
    assert future.wait(60)
    assert future.state == "done" or "were asked for" in future.error


def test_nothing_right_is_no_attack(shared_engine):
    seen = shared_engine.model("cifar10/tiny")(raw("cifar10", "test", "sample")[0][:64].float() / 255).argmax(1).numpy()
    wrong = tuple(int(row) for row in np.flatnonzero(seen != LABELS[:64])[:3])
    made = final(shared_engine, request(pick="hand", rows=wrong))
    assert (
        made.finished
        and made.fooling_rate == FoolingRate(3, 0, 0)
        and made.verdict is None
        and made.states == ["wrong"] * 3
    )
    with pytest.raises(InvalidValue, match="was not changed"):
        transfer_work(shared_engine, made, wrong[0])


def test_numbers_that_are_not_finite_stop_it():
    x = torch.zeros(2, 3, 4, 4)
    logits = torch.tensor([[0.0, 1.0], [float("nan"), 0.0]])
    with pytest.raises(FloatingPointError, match="logits of step 0"):
        begun(Cheap(), request(), x, torch.tensor([0, 0])).add(step(x, logits))


def begun(model, asked, x0, labels):
    """A batch whose pictures are all taken for right."""
    yes, no = torch.ones(len(x0), dtype=torch.bool), torch.zeros(len(x0), dtype=torch.bool)
    batch = BatchWalk(model, asked)
    verdict = Verdict(no, no, labels, labels, yes, no.double(), no.double(), no.double(), 1, no.double())
    batch.begin(x0, labels, labels, verdict)
    return batch


def step(x, logits, index=0, total=1):
    n = len(x)
    zero = torch.zeros(n, dtype=torch.int64)
    goal = Goal.untargeted(zero)
    return Step(
        index=index, total=total, x=x, logits=logits, loss=goal.loss(logits), distance=x.flatten(1).norm(dim=1).double(),
        reached=goal.reached(logits), degenerate=zero.bool(), forwards=zero + 1, backwards=zero,
    )  # fmt: skip


def test_a_random_models_best_point_is_chosen_by_its_loss():
    lucky, worse = torch.tensor([[0.0, 0.1]]), torch.tensor([[0.0, 0.0]])
    x = torch.zeros(1, 3, 4, 4)
    for stochastic, kept in ((False, 0.0), (True, 1.0)):
        best = Best(by_loss=stochastic)
        best.add(step(x, lucky))
        following = step(x + 1, worse, 1)
        best.add(dataclasses.replace(following, loss=following.loss + 5))
        assert float(best.x.max()) == kept
        assert bool(best.success[0]) != stochastic


# Memory


class Cheap(Classifier):
    """One linear layer: a thousand steps of it take a second."""

    def __init__(self):
        super().__init__([0.5] * 3, [0.25] * 3, (3, 32, 32), 10)
        self.head = nn.Linear(3 * 32 * 32, 10)
        rng = torch.Generator().manual_seed(0)
        self.head.weight.data = torch.randn(10, 3072, generator=rng) * 0.02
        self.freeze()

    def embed(self, normalised):
        return normalised.flatten(1)


@pytest.mark.parametrize(("key", "hyper"), [("cw", {"searches": 1, "steps": 1000}), ("pgd", {"steps": 1000})])
def test_a_thousand_steps_on_32_pictures_are_kept_in_far_less_than_200_megabytes(key, hyper):
    model, rows = Cheap(), list(range(32))
    x0 = raw("cifar10", "test", "sample")[0][rows].float() / 255
    labels = model(x0).argmax(1)
    asked = request(pick="hand", rows=tuple(rows), attack=key, norm="l2", hyper=hyper)
    batch = begun(model, asked, x0, labels)
    handed_out = []
    tracemalloc.start()
    try:
        for _ in batch.walk():
            handed_out = batch.curve.arrays()
        peak = tracemalloc.get_traced_memory()[1]  # numpy's share; the tensors are in nbytes
    finally:
        tracemalloc.stop()
    assert batch.nbytes < 4_000_000 and batch.nbytes + peak < 200_000_000
    assert len(handed_out["margin"]) == len(batch.curve) and batch.best.x.shape == (32, 3, 32, 32)


# On others


@pytest.fixture(scope="module")
def put(shared_engine, strip):
    given = int(strip.rows[0])
    return given, final(shared_engine, strip, lambda engine, made: transfer_work(engine, made, given, n=40, seed=2))


def test_others_are_others_and_all_lie_in_the_same_ball(shared_engine, strip, put):
    given, made = put
    assert (
        len(made.rows) == made.n == 40 and not set(made.rows) & set(strip.rows) and len(set(made.rows.tolist())) == 40
    )
    assert (made.change == strip.images[0] - strip.originals[0]).all() and made.given == given
    originals = raw("cifar10", "test", "sample")[0][made.rows].float() / 255
    assert bool((Ball("linf", 0.02).distance(torch.from_numpy(made.images), originals) <= 0.02).all())
    assert made.images.min() >= 0 and made.images.max() <= 1
    expected = (originals + torch.from_numpy(made.change)).clamp(0, 1)
    assert float((torch.from_numpy(made.images) - expected).abs().max()) < 1e-6


def test_others_are_counted_like_the_strip(shared_engine, put):
    _, made = put
    model = shared_engine.model("cifar10/tiny")
    seen = model(torch.from_numpy(made.images)).argmax(1).numpy()
    clean = model(raw("cifar10", "test", "sample")[0][made.rows].float() / 255).argmax(1).numpy()
    assert (made.right == (clean == made.labels)).all() and (made.before == clean).all()
    assert (
        made.fooling_rate("change") == FoolingRate.of(made.right, seen != made.labels)
        and (made.after["change"] == seen).all()
    )
    assert {made.fooling_rate(kind).right for kind in KINDS} == {int(made.right.sum())}
    assert json.loads(json.dumps(dict(made.conditions)))["applied_to"] == 40


def test_the_same_seed_takes_the_same_others_and_the_same_noise(shared_engine, strip, put):
    given, made = put
    again = final(shared_engine, strip, lambda engine, s: transfer_work(engine, s, given, n=40, seed=2))
    assert (made.rows == again.rows).all()
    assert all((made.after[kind] == again.after[kind]).all() for kind in KINDS)
    other = final(shared_engine, strip, lambda engine, s: transfer_work(engine, s, given, n=40, seed=3))
    assert (made.rows != other.rows).any()


def test_the_shuffled_change_keeps_every_value_and_its_channels_together(shared_engine, strip):
    job = _Transfer(shared_engine, strip.request, strip.change(int(strip.rows[1])), 1, (), 0, Clock())
    laid = job._laid("shuffled", 3)
    colours = [sorted(map(tuple, one.flatten(1).T.tolist())) for one in (*laid, job.change[0])]
    assert colours[0] == colours[1] == colours[3] and (laid[0] != laid[1]).any()
    assert job.ball == strip.request.one.threat


def test_a_smallest_change_is_put_on_others_within_its_own_length(shared_engine):
    asked = request(pick="right", count=3, attack="deepfool", norm="l2", hyper={"steps": 10})
    made = final(shared_engine, asked)
    given = int(made.rows[made.fooled][0])
    put_on = final(shared_engine, made, lambda engine, s: transfer_work(engine, s, given, n=8))
    assert put_on.size == pytest.approx(float(made.distance[made.rows == given][0]), rel=1e-6)


@pytest.mark.parametrize(
    ("given", "options", "says"),
    [
        (None, {}, "change of its own"),
        (-5, {}, "picture must be one of"),
        (0, {"n": 0}, "n must be a whole number"),
        (0, {"n": 201}, "n must be a whole number"),
        (0, {"seed": -1}, "seed must be"),
    ],
)
def test_what_cannot_be_put_on_others_says_why(shared_engine, strip, given, options, says):
    given = int(strip.rows[0]) if given == 0 else given
    with pytest.raises(InvalidValue, match=says):
        transfer_work(shared_engine, strip, given, **options)
    with pytest.raises(InvalidValue, match="not ended"):
        transfer_work(shared_engine, dataclasses.replace(strip, conditions={}), int(strip.rows[0]))


def test_one_change_for_all_is_put_on_others(shared_engine):
    asked = request(pick="right", count=6, attack="universal", eps=0.1, hyper={"steps": 5})
    made = final(shared_engine, asked)
    assert made.shared is not None and np.abs(made.shared).max() <= 0.1
    expected = np.clip(made.originals + made.shared, 0, 1)
    assert np.abs(made.images - expected).max() < 1e-6
    put_on = final(shared_engine, made, lambda engine, s: transfer_work(engine, s, None, n=20))
    assert put_on.given is None and (put_on.change == made.shared).all()


def test_cancel_ends_it(engine):
    future = engine.submit("a", many_work(engine, request(count=32, hyper={"steps": 1000})))
    next(future.events())
    future.cancel()
    assert future.wait(10) and future.state == "cancelled" and not future.latest.finished
