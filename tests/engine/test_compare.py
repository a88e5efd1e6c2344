"""Several models beside each other: their walks are those of each alone, and what was transferred is called so."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from explorer.core import BadCheckpoint, Goal, InvalidValue, UnknownName, seeded, use_generator
from explorer.core.rng import derived_seed
from explorer.engine import AttackRequest, Budget, attack_work, captions
from explorer.engine.compare import FRAMES_PER_PASS, CompareRequest, Comparison, compare_work
from explorer.engine.tracing import LAST_WORD
from explorer.evaluation.verdict import verify

TINY, OTHER, LWTA = "cifar10/tiny", "cifar10/other", "cifar10/tiny-lwta"
ARRAYS = ("frames", "logits", "features", "loss", "linf", "l2", "reached", "degenerate")


def request(craft="each", models=(TINY, LWTA), **changes):
    attack = AttackRequest(**({"dataset": "cifar10", "image": 17, "model": TINY, "hyper": {"steps": 6}} | changes))
    return CompareRequest(attack, models, craft).checked()


def items(engine, asked):
    return list(compare_work(engine, asked)())


def final(engine, asked):
    return [item for item in items(engine, asked) if item is not None][-1]


# Each model attacked itself


@pytest.mark.parametrize(
    ("attack", "hyper"), [("pgd", {"steps": 5, "draws": 2}), ("deepfool", {}), ("square", {"queries": 20})]
)
def test_lanes_are_the_single_walks_bit_for_bit(engine, attack, hyper):
    asked = request(attack=attack, hyper=hyper, seed=4)
    lanes = final(engine, asked).lanes
    for lane, model in zip(lanes, asked.models, strict=True):
        (*_, alone) = attack_work(engine, dataclasses.replace(asked.attack, model=model))()
        for name in ARRAYS:
            assert np.array_equal(getattr(lane.snapshot.trace, name), getattr(alone.trace, name))
        assert np.array_equal(lane.snapshot.feature_path.path, alone.feature_path.path)
        assert lane.snapshot.result.best == alone.result.best and not (lane.is_transfer or lane.is_source)
        assert torch.equal(lane.snapshot.result.verdict.share, alone.result.verdict.share)
        assert (
            lane.snapshot.result.conditions["model"] == model and "source_model" not in lane.snapshot.result.conditions
        )


def test_the_walks_grow_together_and_each_item_is_whole(engine):
    found = [item for item in items(engine, request(models=(LWTA, TINY))) if item is not None]
    lengths = [[len(lane.snapshot.trace) for lane in item.lanes] for item in found]
    assert lengths[:8] == [[k, k] for k in range(1, 9)]
    assert [lane.request.model for lane in found[0].lanes] == [LWTA, TINY]
    assert all(lane.snapshot.result is not None and lane.snapshot.feature_path is not None for lane in found[-1].lanes)
    assert found[-1].seconds > found[0].seconds > 0


def test_others_get_their_turn_between_two_models(engine):
    found = items(engine, request())
    for before, after in zip(found, found[1:], strict=False):
        assert not (isinstance(before, Comparison) and isinstance(after, Comparison))


def test_stopped_work_closes_every_walk(engine, monkeypatch):
    closed = []

    def walk(engine, asked, budget):
        def steps():
            try:
                yield from attack_work(engine, asked)()
            finally:
                closed.append(asked.model)

        return steps

    monkeypatch.setattr("explorer.engine.compare.attack_work", walk)
    for craft, models in (("each", {TINY, LWTA}), ("transfer", {TINY})):
        work = compare_work(engine, request(craft))()
        for _ in range(5):
            next(work)
        closed.clear()
        work.close()
        assert set(closed) == models


# Made on one, shown to the others


@pytest.mark.parametrize("models", [(TINY, OTHER), (LWTA, OTHER)])
def test_a_transfer_lane_holds_what_the_model_itself_says_of_the_sources_images(engine, models):
    source, shown = final(engine, request("transfer", models=models)).lanes
    trace, model = shown.snapshot.trace, engine.model(OTHER)
    assert np.array_equal(trace.frames, source.snapshot.trace.frames) and len(trace) == 8
    with torch.no_grad():
        logits, features = model.both(torch.from_numpy(trace.frames.copy()))
    goal = Goal.untargeted(torch.full((8,), trace.label))
    assert np.allclose(trace.logits, logits.numpy(), atol=1e-4)
    assert np.allclose(trace.features, features.numpy(), atol=1e-4)
    assert np.allclose(trace.loss, goal.loss(logits).numpy(), atol=1e-4)
    assert trace.reached.tolist() == goal.reached(torch.from_numpy(trace.logits.copy())).tolist()
    assert np.array_equal(trace.linf, source.snapshot.trace.linf) and not trace.degenerate.any()


def test_the_source_lane_is_the_single_walk(engine):
    asked = request("transfer", models=(TINY, OTHER))
    (*_, alone) = attack_work(engine, asked.attack)()
    lane = final(engine, asked).lanes[0]
    assert all(np.array_equal(getattr(lane.snapshot.trace, n), getattr(alone.trace, n)) for n in ARRAYS)
    assert lane.snapshot.result.conditions["threat"] == "white-box" and lane.is_source and not lane.is_transfer


def test_the_sources_best_image_is_judged_and_the_lane_says_transfer(engine):
    source, shown = final(engine, request("transfer", (OTHER, LWTA), hyper={"steps": 6, "draws": 3}, seed=2)).lanes
    result, best = shown.snapshot.result, source.snapshot.result.best
    about = json.loads(json.dumps(result.conditions))
    assert result.best == best and shown.is_transfer and shown.source == OTHER
    known = {"threat": "transfer", "source_model": OTHER, "model": LWTA, "source_threat": "white-box", "draws": 3,
             "forwards": 20 + 7 * 3, "backwards": 0, "stochastic": True, "verdict_draws": 20, "best": best}  # fmt: skip
    assert known.items() <= about.items()
    assert about["weights"] != about["source_weights"] == source.snapshot.result.conditions["weights"]
    assert shown.snapshot.trace.conditions == result.conditions
    x0, x = (torch.from_numpy(source.snapshot.trace.frames[t : t + 1].copy()) for t in (0, best))
    goal = Goal.untargeted(torch.tensor([source.snapshot.trace.label]))
    fresh = seeded(derived_seed(2, LAST_WORD))
    again = verify(engine.model(LWTA), x, x0, goal, shown.request.threat, fresh)
    assert torch.equal(again.share, result.verdict.share) and torch.equal(again.predicted, result.verdict.predicted)
    assert bool(result.verdict.inside) and result.verdict.draws == 20


def test_a_random_model_is_averaged_over_the_draws_asked_for(engine):
    few, many = (final(engine, request("transfer", hyper={"steps": 2, "draws": n})).lanes[1] for n in (1, 60))
    trace = many.snapshot.trace
    with torch.no_grad(), use_generator(seeded(0)):
        exact = engine.model(LWTA)(torch.from_numpy(trace.frames[1:2].copy()).repeat(600, 1, 1, 1)).mean(0).numpy()
    assert np.abs(trace.logits[1] - exact).mean() < np.abs(few.snapshot.trace.logits[1] - exact).mean()
    assert np.array_equal(trace.logits[0], few.snapshot.trace.logits[0])  # of as many as a verdict, whoever attacks
    again = final(engine, request("transfer", hyper={"steps": 2, "draws": 60})).lanes[1].snapshot
    assert np.array_equal(trace.logits, again.trace.logits) and torch.equal(
        again.result.verdict.share, many.snapshot.result.verdict.share
    )


def test_no_frame_is_looked_at_twice_and_several_go_together(engine, monkeypatch):
    passes = []
    model = engine.model(OTHER)
    both = type(model).both
    monkeypatch.setattr(
        type(model), "both", lambda self, x: (passes.append(len(x)) if self is model else None, both(self, x))[1]
    )
    asked = request("transfer", models=(TINY, OTHER), hyper={"steps": 9})
    lane = final(engine, asked).lanes[1]
    seen = [n for n in passes if n <= FRAMES_PER_PASS]  # reference images of the map come in larger batches
    assert sum(seen) == len(lane.snapshot.trace) == 11 and seen == [1, 4, 4, 2]


def test_a_transfer_is_called_one_in_every_sentence(engine):
    lane = final(engine, request("transfer", models=(TINY, OTHER))).lanes[1]
    told = captions(lane.snapshot.trace, lane.snapshot.result)
    assert all("on tiny" in sentence and "this model" in sentence for sentence in told[1:])
    assert told[lane.snapshot.result.best].count("This image is the one judged.") == 1
    assert told[0].startswith("This model takes")


def test_an_attack_on_several_models_is_not_shown_to_one_of_them(engine):
    asked = request("transfer", (TINY, OTHER), attack="minmax", hyper={"models": LWTA, "steps": 3})
    source, shown = final(engine, asked).lanes
    assert source.snapshot.trace.notes and not shown.snapshot.trace.notes  # they speak of the attack
    with pytest.raises(InvalidValue, match="other models"):
        request("transfer", (TINY, LWTA), attack="minmax", hyper={"models": LWTA})


def test_a_target_is_the_same_for_all(engine):
    asked = request("transfer", models=(TINY, OTHER), target=3)
    source, shown = final(engine, asked).lanes
    assert source.snapshot.trace.target == shown.snapshot.trace.target == 3
    assert (shown.snapshot.trace.reached == (shown.snapshot.trace.predicted == 3)).all()


# The request


def test_a_link_names_the_whole_comparison():
    asked = request("transfer", models=(LWTA, TINY), seed=3, target="cat", eps="4/255")
    assert asked.attack.model == LWTA
    query = asked.to_query()
    assert query["models"] == f"{LWTA},{TINY}" and query["craft"] == "transfer" and "model" not in query
    assert CompareRequest.from_query(query) == asked
    assert CompareRequest.from_query({**query, "page": "x"}) == asked


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"models": TINY}, "2 to 4"),
        ({"models": ""}, "Unknown"),
        ({"models": f"{TINY},{TINY}"}, "differ"),
        ({"models": f"{TINY},cifar10/nothing"}, "nothing"),
        ({"models": f"{TINY},fashion_mnist/tiny"}, "fashion_mnist"),
        ({"models": ",".join(f"m{k}" for k in range(5))}, "got 5"),
        ({"craft": "both"}, "craft must be each or transfer"),
        ({"eps": "8"}, "eps"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_sentence(change, words):
    with pytest.raises((InvalidValue, UnknownName, BadCheckpoint), match=words):
        CompareRequest.from_query(request().to_query() | change)
    with pytest.raises(InvalidValue, match="models is missing"):
        CompareRequest.from_query({"data": "cifar10", "image": "1"})


def test_an_upload_nobody_named_is_not_shown_to_others():
    picture = {"image": "upload:" + "ab" * 8}
    request(**picture)
    with pytest.raises(InvalidValue, match="say what your picture shows"):
        request("transfer", **picture)
    request("transfer", label="cat", **picture)


def test_the_budget_is_of_all_lanes_together(engine):
    asked = request(hyper={"steps": 10, "draws": 2})  # 42 passes and 12 frames a lane
    assert (asked.passes, asked.frames) == (84, 24)
    compare_work(engine, asked, Budget(passes=84, frames=24))
    with pytest.raises(InvalidValue, match="models may come to at most 83 forward and backward passes"):
        compare_work(engine, asked, Budget(passes=83, frames=24))
    with pytest.raises(InvalidValue, match="models may come to at most 23 recorded images"):
        compare_work(engine, asked, Budget(passes=84, frames=23))
    with pytest.raises(InvalidValue, match="draws"):
        compare_work(engine, asked, Budget(draws=1))


def test_a_shown_walk_costs_a_pass_a_frame_and_draw():
    hyper = {"steps": 10, "draws": 2}
    assert request("transfer", hyper=hyper).passes == 42 + 12 * 2  # the second model is random
    assert request("transfer", models=(LWTA, TINY), hyper=hyper).passes == 42 + 12


# Several attacks


def attacks_of(*keys, models=(TINY,), lead=None, **changes):
    values = {"dataset": "cifar10", "image": 17, "model": TINY, "attack": lead or keys[0], "hyper": {"steps": 4}}
    return CompareRequest(AttackRequest(**(values | changes)), models, attacks=keys).checked()


def test_attacks_beside_each_other_are_the_single_walks_under_equal_seeds(engine):
    asked = attacks_of("pgd", "fgsm", "mifgsm", seed=4)
    lanes = final(engine, asked).lanes
    assert [lane.request.attack for lane in lanes] == ["pgd", "fgsm", "mifgsm"]
    assert [lane.request.hyper for lane in lanes] == [{"steps": 4}, {}, {"steps": 4}]  # as far as they have them
    for lane in lanes:
        (*_, alone) = attack_work(engine, lane.request)()
        trace = lane.snapshot.trace
        assert all(np.array_equal(getattr(trace, n), getattr(alone.trace, n)) for n in (*ARRAYS, "passes"))
        about = lane.snapshot.result.conditions
        assert lane.request.seed == 4 and trace.passes[0] == 0
        assert trace.passes[-1] == about["forwards"] + about["backwards"] and (np.diff(trace.passes) > 0).all()


def test_each_attack_is_on_each_model():
    lanes = attacks_of("pgd", "fgsm", models=(TINY, LWTA)).lanes
    assert [(lane.model, lane.attack) for lane in lanes] == [
        (TINY, "pgd"), (TINY, "fgsm"), (LWTA, "pgd"), (LWTA, "fgsm")
    ]  # fmt: skip


@pytest.mark.parametrize("asked", ["pgd,fgsm", "deepfool,fgsm", "fgsm,pgd"])
def test_a_link_with_attacks_means_the_same_comparison(asked):
    keys = asked.split(",")
    lead = "pgd" if "pgd" in keys else "fgsm"
    made = attacks_of(*keys, lead=lead, hyper={"steps": 4} if lead == "pgd" else {}, eps="4/255")
    query = made.to_query()
    assert query["attacks"] == asked and CompareRequest.from_query(query) == made == made.checked()
    assert {lane.eps for lane in made.lanes if not lane.is_minimal} == {4 / 255}


def test_older_links_open_as_ever():
    query = {
        "models": f"{TINY},{LWTA}",
        "craft": "each",
        "data": "cifar10",
        "image": "17",
        "attack": "pgd",
        "with": "steps:6",
    }
    opened = CompareRequest.from_query(query)
    assert opened == request() and opened.attacks == () and "attacks" not in opened.to_query()
    assert CompareRequest.from_query(query | {"attacks": "pgd"}) == opened


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"attacks": "pgd,fgsm,mifgsm", "models": f"{TINY},{LWTA}"}, "models times attacks must be 2 to 4.*got 6"),
        ({"attacks": "pgd,pgd"}, "attacks must differ"),
        ({"attacks": "pgd,nothing"}, "nothing"),
        ({"attacks": "pgd,fgsm", "craft": "transfer"}, "craft must be each"),
        ({"attacks": "pgd,deepfool", "attack": "deepfool"}, "with an eps where one has it: pgd"),
        ({"attacks": "pgd,fgsm", "attack": "mifgsm"}, "attack must be one of attacks"),
        ({"attacks": "fgsm,mifgsm", "with": "steps:4"}, "steps"),
    ],
)
def test_attacks_that_cannot_be_compared_are_refused(change, words):
    query = {"models": TINY, "data": "cifar10", "image": "17"}
    with pytest.raises((InvalidValue, UnknownName), match=words):
        CompareRequest.from_query(query | change)
