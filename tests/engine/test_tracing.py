"""Recorded walks: what each frame holds, that nothing is computed twice, and that nobody disturbs anybody."""

import dataclasses
import hashlib
import json
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from explorer.attacks import ATTACKS
from explorer.certify.certifiers.lipschitz import LipschitzConstant
from explorer.core import Classifier, Goal, InvalidValue, UnknownName, current_rng, run, seeded, use_generator
from explorer.core.rng import derived_seed
from explorer.data import raw
from explorer.engine import AttackRequest, Budget, attack_work, captions, model_cache
from explorer.engine.predicting import predict_work
from explorer.engine.tracing import FIRST_LOOK, Recorder, Tap, picture
from explorer.models.lipschitz_net import LipschitzNet

SOON = 60
LABEL = int(raw("cifar10", "test", "sample")[1][17])
OTHER = (LABEL + 1) % 10
ARRAYS = ("frames", "logits", "features", "loss", "linf", "l2", "reached", "degenerate")


def request(**changes):
    values = {"dataset": "cifar10", "image": 17, "model": "cifar10/tiny", "hyper": {"steps": 4}} | changes
    return AttackRequest(**values).checked()


def snapshots(engine, asked, session="a"):
    return list(engine.submit(session, attack_work(engine, asked)).events())


def final(engine, asked):
    return snapshots(engine, asked)[-1]


def work_items(engine, asked):
    """All items, none missed: the work gone through by hand."""
    return list(attack_work(engine, asked)())


class Watched(Classifier):
    """A small network that counts its passes; `noise` makes it stochastic."""

    def __init__(self, noise=0.0):
        super().__init__([0.5] * 3, [0.25] * 3, (3, 32, 32), 10)
        self.stochastic, self.noise, self.images = noise > 0, noise, 0
        self.body = nn.Sequential(nn.Conv2d(3, 6, 5, stride=4), nn.Tanh(), nn.Flatten())
        self.head = nn.Linear(6 * 49, 10)
        rng = torch.Generator().manual_seed(3)
        for p in self.parameters():
            p.data = torch.randn(p.shape, generator=rng) * 0.2
        self.freeze()

    def embed(self, normalised):
        self.images += len(normalised)
        seen = self.body(normalised)
        return seen + self.noise * torch.randn(seen.shape, generator=current_rng(seen.device)) if self.noise else seen


def recorded(model, asked):
    x0 = raw("cifar10", "test", "sample")[0][17:18].float() / 255
    recorder = Recorder(model, x0, asked, {})
    return recorder, list(recorder.record())


# The tap


def test_a_tap_is_the_model_to_an_attack():
    model = Watched()
    tap, x = Tap(model), torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(tap(x), model(x))
    assert (tap.num_classes, tap.input_shape, tap.stochastic, tap.device) == (10, (3, 32, 32), False, model.device)
    assert not tap.training and torch.equal(tap.features(x), model.features(x))
    with pytest.raises(AttributeError):
        tap.nonsense


def test_a_tap_gives_the_features_of_the_very_pass_and_means_over_draws():
    model = Watched(noise=1.0)
    tap, x = Tap(model), torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    logits = tap(torch.cat([x[:1], x[1:], x[:1]]))
    seen = tap.take(x[:1])
    assert torch.allclose(model.head(seen), (logits[0] + logits[2]) / 2, atol=1e-5)
    assert tap.take(x[:1]) is None  # taken once
    tap(x[1:])
    assert tap.take(x[:1]).isnan().all()  # another was looked at


# One walk


def test_a_lipschitz_network_s_frames_hold_their_certified_radius_and_no_other_network_s():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LipschitzNet([0.5] * 3, [0.25] * 3, width=16, depths=(1,)).freeze()
    with torch.no_grad():
        model.head.bias.copy_(torch.linspace(0, 0.3, 10))
    trace = recorded(model, request(norm="l2", eps=0.5))[1][-1]
    alone = LipschitzConstant().certificates(model, torch.from_numpy(trace.frames.copy()))
    assert trace.certified.tolist() == pytest.approx([one.radius for one in alone if one is not None], rel=1e-9)
    inside = trace.l2 < trace.certified[0]
    assert trace.proven == inside.tolist().index(False) - 1 and 0 <= trace.proven < len(trace) - 1
    assert (trace.predicted[: trace.proven + 1] == trace.predicted[0]).all()
    other = recorded(Watched(), request())[1][-1]
    assert other.certified is None and other.proven is None


def test_frames_hold_what_the_model_itself_says(engine):
    trace = final(engine, request()).trace
    model = engine.model("cifar10/tiny")
    x = torch.from_numpy(trace.frames.copy())
    with torch.no_grad():
        logits, features = zip(*(model.both(frame[None]) for frame in x), strict=True)
    assert len(trace) == trace.planned == 6
    assert np.allclose(trace.logits, torch.cat(logits).numpy(), atol=1e-5)
    assert np.allclose(trace.features, torch.cat(features).numpy(), atol=1e-5)
    goal = Goal.untargeted(torch.tensor([LABEL]))
    assert np.allclose(trace.loss, [float(goal.loss(one)) for one in logits], atol=1e-5)
    assert trace.reached.tolist() == [bool(goal.reached(one)) for one in logits]
    assert np.array_equal(trace.frames[0] * 255, raw("cifar10", "test", "sample")[0][17].numpy())
    delta = trace.frames.astype(np.float64) - trace.frames[0]
    assert np.array_equal(trace.linf, np.abs(delta).max((1, 2, 3))) and (trace.linf <= 8 / 255).all()
    assert np.allclose(trace.l2, np.sqrt((delta**2).sum((1, 2, 3))))
    assert (trace.label, trace.target, trace.linf[0]) == (LABEL, None, 0)


def test_the_untouched_image_comes_first_and_alone(engine):
    first = next(iter(attack_work(engine, request())()))
    assert len(first.trace) == 1 and first.trace.planned == 6
    assert first.feature_path is None and first.result is None and first.seconds > 0


def test_the_walk_grows_frame_by_frame_and_what_was_shown_never_changes(engine):
    items = [item for item in work_items(engine, request()) if item is not None]
    assert [len(item.trace) for item in items] == [1, 2, 3, 4, 5, 6, 6, 6]
    for earlier, later in pairwise(items):
        for name in ARRAYS:
            assert np.array_equal(getattr(earlier.trace, name), getattr(later.trace, name)[: len(earlier.trace)])
    assert [item.result is not None for item in items] == [False] * 6 + [True] * 2
    assert [item.feature_path is not None for item in items] == [False] * 7 + [True]
    assert all(a.seconds <= b.seconds for a, b in pairwise(items))
    assert {item.cold for item in items[1:]} == {items[1].seconds}


def test_the_map_is_drawn_from_the_first_frame_once_it_is_known(engine):
    final(engine, request())
    items = work_items(engine, request(target=OTHER))
    assert len(items) == 7 and all(len(item.feature_path.path) == len(item.trace) for item in items)
    walk = items[-1].feature_path
    assert walk.points.shape == (100, 2) and walk.centroids.shape == (10, 2) and set(walk.toward) == {OTHER}


@pytest.mark.parametrize(("noise", "hyper"), [(0.0, {}), (0.0, {"restarts": 2}), (0.5, {"draws": 5})])
def test_no_pass_is_spent_twice(noise, hyper):
    model = Watched(noise)
    asked = request(hyper={"steps": 4} | hyper)
    recorder, traces = recorded(model, asked)
    before = 20 if model.stochastic else 1  # the untouched image has as many looks as a verdict takes
    assert model.images == before + asked.draws * (len(traces[-1]) - 1)  # then one look at each frame
    result = recorder.finish(1.0, "CPU")
    assert result.conditions["forwards"] == asked.draws * (len(traces[-1]) - 1)


def test_the_first_answer_of_a_stochastic_model_is_that_of_twenty_fresh_draws():
    few, many = (recorded(Watched(2.0), request(hyper={"steps": 1, "draws": draws}))[1][0] for draws in (1, 64))
    model, x0 = Watched(2.0), raw("cifar10", "test", "sample")[0][17:18].float() / 255
    with torch.no_grad(), use_generator(seeded(derived_seed(0, FIRST_LOOK))):
        logits = model(x0.repeat(20, 1, 1, 1))
    for trace in (few, many):  # whatever the attack's own draws
        assert np.allclose(trace.logits[0], logits.mean(0), atol=1e-5)
        wrong = int((logits.argmax(1) != LABEL).sum())
        assert (trace.wrong_before, bool(trace.reached[0])) == (wrong > 10, wrong > 10)
        assert trace.conditions["draws_before"] == 20
    weight, bias = Watched().head.weight.numpy(), Watched().head.bias.numpy()
    assert np.allclose(many.features @ weight.T + bias, many.logits, atol=1e-3)  # the same draws


def leaning(share, target=None, attack="pgd", label=LABEL):
    """A walk against a model that sees the true class in about this share of its looks, whatever the picture."""

    class Coin(Watched):
        def embed(self, normalised):
            seen = torch.rand(len(normalised), 1, generator=current_rng(normalised.device))
            return torch.cat([(seen < share).float(), (seen >= share).float()], 1) + 0 * normalised.sum()

    model = Coin(1.0)
    model.head = nn.Linear(2, 10)
    weight = torch.zeros(10, 2)
    weight[LABEL, 0], weight[OTHER, 1] = 1.0, 0.9
    model.head.weight.data, model.head.bias.data = weight, torch.zeros(10)
    recorder, traces = recorded(model.freeze(), request(hyper={}, attack=attack, target=target))
    return traces[-1], recorder.finish(1.0, "CPU")


@pytest.mark.parametrize("target", [None, OTHER])
def test_a_picture_that_most_draws_have_wrong_is_never_called_fooled(target):
    trace, result = leaning(0.2, target)
    assert trace.wrong_before and trace.reached[1:].any() and trace.first_reached is None
    assert bool(result.verdict.reached[0]) and result.ending == "wrong before"


def test_one_unlucky_draw_makes_no_picture_wrong_before():
    trace, result = leaning(0.85)
    assert not trace.wrong_before and not trace.reached[0] and result.ending == "holds"
    assert leaning(0.85, OTHER)[1].ending == "target missed"


def test_a_picture_of_which_nobody_said_what_it_shows_is_not_wrong(engine):
    engine.keep_upload("upload:0123abcd", torch.rand(3, 32, 32, generator=seeded(0)))
    trace = final(engine, request(image="upload:0123abcd", model="cifar10/tiny-lwta")).trace
    assert not trace.wrong_before and trace.label == trace.predicted[0]


def test_fooled_is_said_of_a_picture_that_was_right():
    model, label = Watched(), int(Watched()(raw("cifar10", "test", "sample")[0][17:18].float() / 255).argmax())
    recorder, _ = recorded(model, dataclasses.replace(request(eps=1.0), label=label))
    assert recorder.finish(1.0, "CPU").ending == "fooled"


@pytest.mark.parametrize("hyper", [{}, {"random_start": False}, {"loss": "margin"}, {"restarts": 3}, {"draws": 3}])
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("model", ["cifar10/tiny", "cifar10/tiny-lwta"])
def test_the_same_result_as_the_attack_run_by_itself(engine, model, norm, hyper):
    asked = request(model=model, norm=norm, eps=8 / 255 if norm == "linf" else 0.5, hyper={"steps": 4} | hyper, seed=5)
    end = final(engine, asked)
    x0 = picture(engine, asked)
    goal = Goal.untargeted(torch.tensor([LABEL]))
    walk = ATTACKS["pgd"](**asked.hyper).walk(engine.model(model), x0, goal, asked.threat, seeded(5))
    outcome = run(walk, goal)
    assert torch.equal(outcome.x[0], torch.from_numpy(end.trace.frames[end.result.best].copy()))
    assert bool(outcome.success) == bool(end.trace.reached[end.result.best])


def test_the_script_gives_the_same_image(engine, capsys):
    smallest = request(attack="deepfool", norm="l2", hyper={})
    for asked in (
        smallest,
        request(seed=3),
        request(target=OTHER, attack="fgsm", hyper={}),
        request(norm="l2", eps="1/3"),
    ):
        names = {}
        exec(compile(asked.to_python(), "script", "exec"), names)
        end = final(engine, asked)
        assert np.array_equal(names["outcome"].x[0].numpy(), end.trace.frames[end.result.best])
    assert "tensor" in capsys.readouterr().out


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_search_for_the_smallest_change_ends_at_the_nearest_frame(engine, norm):
    asked = request(attack="deepfool", norm=norm, hyper={})
    end = final(engine, asked)
    goal = Goal.untargeted(torch.tensor([LABEL]))
    walk = ATTACKS["deepfool"]().walk(
        engine.model("cifar10/tiny"), picture(engine, asked), goal, asked.threat, seeded(0)
    )
    outcome = run(walk, goal, minimal=True)
    assert end.trace.minimal and end.trace.planned == len(end.trace) < asked.frames
    assert torch.equal(outcome.x[0], torch.from_numpy(end.trace.frames[end.result.best].copy()))
    assert float(outcome.distance) == end.trace.distance[end.result.best]
    assert end.result.conditions["eps"] is None and end.result.conditions["budget"] == "minimal"
    assert bool(end.result.verdict.inside) and end.result.conditions["threat"] == "white-box"


def test_restarts_are_marked_and_planned(engine):
    trace = final(engine, request(hyper={"steps": 2, "restarts": 3})).trace
    assert len(trace) == trace.planned == 10 and trace.conditions["starts"] == [1, 4, 7]


def test_the_result_carries_its_conditions(engine):
    end = final(engine, request(norm="l2", eps=0.5, target=OTHER, seed=9))
    conditions = json.loads(json.dumps(end.result.conditions))
    known = {"dataset": "cifar10", "image": 17, "model": "cifar10/tiny", "attack": "pgd", "norm": "l2", "eps": 0.5}
    known |= {"target": OTHER, "label": LABEL, "seed": 9, "forwards": 5, "backwards": 4, "device": "CPU, 1 thread"}
    assert known.items() <= conditions.items()
    assert conditions["hyper"]["steps"] == 4 and len(conditions["weights"]) == 64 and conditions["seconds"] > 0
    assert conditions["versions"]["torch"] == torch.__version__ and 0 <= conditions["stalled_share"] <= 1
    assert end.trace.conditions == end.result.conditions
    verdict = end.result.verdict
    assert bool(verdict.inside) and float(verdict.l2) == pytest.approx(end.trace.l2[end.result.best])
    assert verdict.draws == 1 and int(verdict.predicted) == end.trace.predicted[end.result.best]


def test_a_request_beyond_the_budget_is_refused_before_it_is_queued(engine):
    big = request(hyper={"steps": 1000, "restarts": 20})
    with pytest.raises(InvalidValue, match="at most"):
        attack_work(engine, big)
    attack_work(engine, big, Budget(passes=10**6, frames=10**6))


def test_a_longer_walk_than_announced_still_fits():
    class Longer(type(request().method)):
        def walk(self, *args):
            yield from super().walk(*args)
            yield from super().walk(*args)

    asked = request()
    object.__setattr__(asked, "__class__", type("Stretched", (AttackRequest,), {"method": Longer(steps=4)}))
    _, traces = recorded(Watched(), asked)
    assert len(traces[-1]) == 11 and np.array_equal(traces[5].frames, traces[-1].frames[:6])


def test_an_attack_that_shows_an_image_it_did_not_look_at():
    class Blind(type(request().method)):
        def walk(self, model, x0, goal, ball, rng):
            for step in super().walk(model, x0, goal, ball, rng):
                model(x0 * 0)
                step.x.mul_(0.5)
                yield step

    asked = request(hyper={"steps": 1})
    object.__setattr__(asked, "__class__", type("Blinded", (AttackRequest,), {"method": Blind(steps=1)}))
    model = Watched()
    _, traces = recorded(model, asked)
    with torch.no_grad():
        expected = model.features(torch.from_numpy(traces[-1].frames.copy()))
    assert np.allclose(traces[-1].features, expected.numpy(), atol=1e-5)


def test_numbers_that_are_not_finite_stop_the_walk():
    model = Watched()
    model.head.bias[0] = float("nan")
    with pytest.raises(FloatingPointError, match="logits of step 0"):
        recorded(model, request())


# Uploads


def upload(engine, shape=(3, 32, 32), **changes):
    key = "upload:" + "ab" * 8
    engine.keep_upload(key, torch.rand(shape, generator=torch.Generator().manual_seed(0)))
    return request(image=key, **changes)


def test_an_upload_without_a_label_is_what_the_model_takes_it_for(engine):
    trace = final(engine, upload(engine)).trace
    assert trace.label == trace.predicted[0] == trace.conditions["label"]
    assert final(engine, upload(engine, label="truck")).trace.label == 9
    future = engine.submit("a", attack_work(engine, upload(engine, target=trace.label)))
    assert future.wait(SOON) and "target must differ from what the model sees" in future.error


def test_uploads_that_are_gone_or_have_another_shape(engine):
    for asked in (request(image="upload:00000000"), upload(engine, shape=(1, 28, 28))):
        future = engine.submit("a", attack_work(engine, asked))
        assert future.wait(SOON) and future.state == "failed" and "Traceback" not in future.error


# Together


def fingerprint(model):
    state = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        state.update(name.encode() + tensor.numpy().tobytes())
    modes = [m.training for m in model.modules()]
    return state.hexdigest(), modes, [p.grad for p in model.parameters()], [p.requires_grad for p in model.parameters()]


def test_ten_sessions_at_once_get_what_they_get_alone_and_leave_no_mark(make_engine):
    asked = [
        request(seed=k, image=17 + k, model=f"cifar10/tiny{'-lwta' if k % 2 else ''}", norm=("linf", "l2")[k % 3 == 0])
        for k in range(8)
    ]
    asked += [request(attack="fgsm", hyper={}), request(target=OTHER, hyper={"steps": 4, "draws": 3})]
    alone = make_engine()
    serial = [final(alone, one) for one in asked]
    engine = make_engine()
    models = [engine.model(name) for name in ("cifar10/tiny", "cifar10/tiny-lwta")]
    before, state = [fingerprint(model) for model in models], torch.get_rng_state()
    futures = [engine.submit(f"session {k}", attack_work(engine, one)) for k, one in enumerate(asked)]
    assert all(future.wait(SOON) for future in futures)
    for future, expected in zip(futures, serial, strict=True):
        got = future.latest
        for name in ARRAYS:
            assert np.array_equal(getattr(got.trace, name), getattr(expected.trace, name))
        assert np.array_equal(got.feature_path.path, expected.feature_path.path)
        assert np.array_equal(got.feature_path.points, expected.feature_path.points)
        assert got.result.best == expected.result.best
        assert torch.equal(got.result.verdict.share, expected.result.verdict.share)
    assert [fingerprint(model) for model in models] == before
    assert torch.equal(torch.get_rng_state(), state)


def test_ten_sessions_share_one_map(engine, monkeypatch):
    made, gathering = [], model_cache.Gathering
    monkeypatch.setattr(model_cache, "Gathering", lambda *a, **k: made.append(1) or gathering(*a, **k))
    futures = [engine.submit(f"s{k}", attack_work(engine, request(seed=k))) for k in range(10)]
    assert all(t.wait(SOON) for t in futures) and len(made) == 1
    first, *others = (t.latest.feature_path.points for t in futures)
    assert all(np.shares_memory(first, other) for other in others)


def test_an_attack_cancelled_half_way_leaves_the_model_as_it_was(engine):
    model = engine.model("cifar10/tiny")
    before = fingerprint(model)
    future = engine.submit("a", attack_work(engine, request(hyper={"steps": 1000})))
    for item in future.events():
        if len(item.trace) > 3:
            break
    future.cancel()
    assert future.wait(1) and future.state == "cancelled" and 3 < len(future.latest.trace) < 1002
    assert fingerprint(model) == before


def test_classes_of_many_pictures_as_one_item(engine):
    x = raw("cifar10", "test", "sample")[0][:6].float() / 255
    (seen,) = engine.submit("a", predict_work(engine, "cifar10/tiny", x)).events()
    assert torch.equal(seen, engine.model("cifar10/tiny")(x).argmax(1))
    draws = [next(engine.submit("a", predict_work(engine, "cifar10/tiny-lwta", x)).events()) for _ in range(2)]
    assert torch.equal(*draws)


def test_an_attack_on_several_models_says_how_it_weighs_them(engine):
    """On every frame but the first, and of the frame that counts in the conditions."""
    hyper = {"steps": 4, "models": "cifar10/other"}
    request = AttackRequest("cifar10", 3, "cifar10/tiny", attack="minmax", hyper=hyper).checked()
    assert AttackRequest.from_query(request.to_query()) == request
    last = list(attack_work(engine, request)())[-1]
    trace, domains = last.trace, last.result.conditions["domains"]
    assert len(trace.notes) == len(trace) == 6 and trace.notes[0] == ""
    assert trace.notes[1].startswith("Weights: this model 50 %, cifar10/other 50 %; goal reached in ")
    told = captions(trace, last.result)
    assert "Weights" not in told[0] and all("Weights: this model" in line for line in told[1:])
    assert [d["name"] for d in domains] == ["this model", "cifar10/other"]
    assert sum(d["weight"] for d in domains) == pytest.approx(1, abs=1e-3)
    assert domains[0]["reached"] == bool(trace.reached[trace.best])
    assert min(d["loss"] for d in domains) == pytest.approx(float(trace.loss[trace.best]), abs=1e-3)
    assert last.result.conditions["forwards"] == 2 * 5 and request.passes == 2 * 9


def test_other_models_must_fit_the_attacked_one():
    def asked(models):
        return AttackRequest("cifar10", 3, "cifar10/tiny", attack="minmax", hyper={"models": models}).checked()

    with pytest.raises(InvalidValue, match="models must be other models than the attacked one; got 'cifar10/tiny'"):
        asked("cifar10/tiny")
    with pytest.raises(
        InvalidValue, match="models must be made for cifar10, as cifar10/tiny is; got 'fashion_mnist/tiny'"
    ):
        asked("fashion_mnist/tiny")
    with pytest.raises(UnknownName, match="Unknown model 'cifar10/tinny'"):
        asked("cifar10/tinny")
