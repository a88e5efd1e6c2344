"""Certificates through the engine: watched, stopped, kept, of one picture and of many; attacks held against them."""

import dataclasses
import time

import numpy as np
import pytest

from explorer.certify import certify, largest_radius
from explorer.certify.store import Store
from explorer.core import Cancelled, InvalidValue, UnknownName
from explorer.data import load
from explorer.engine import Failed
from explorer.engine import attacking_smoothed as attacking
from explorer.engine.attacking_smoothed import SmoothedAttack, attack_smoothed_work
from explorer.engine.certifying import DEADLINE, CertifyRequest, certify_work
from explorer.engine.certifying_set import CertifySetRequest, certify_set_work
from explorer.models import zoo

TINY = {"dataset": "cifar10", "model": "cifar10/tiny", "sigma": 0.1, "n0": 20, "n": 150}


@pytest.fixture
def kept(tmp_path):
    (tmp_path / "certificates").mkdir()
    (tmp_path / "certificates" / "secret").write_text("5a" * 32)  # the same draws in every run of the tests
    return Store(tmp_path / "certificates")


def items(engine, work, **options):
    return list(engine.submit("me", work, **options).events())


def slowed(work):
    """The same items, each seen: a reader of events may miss some."""
    return [item for item in work() if item is not None]


def test_the_last_item_is_the_librarys_certificate(engine, kept):
    request = CertifyRequest(image=3, **TINY)
    found = slowed(certify_work(engine, request, kept))
    last = found[-1]
    x = load("cifar10", split="test", source="sample").x[3]
    again = certify(zoo.load("cifar10/tiny"), x, **request.options, seed=last.certificate.seed)
    assert last.certificate == again and not last.kept and last.conditions["seed"] == again.seed
    assert all(item.certificate is None for item in found[:-1])
    assert [item.progress.done for item in found] == sorted(item.progress.done for item in found)
    assert last.progress.done == 170 and last.course["n_drawn"][-1] == 150
    assert (np.diff(last.course["p_lower"]) >= 0).all() and last.picture.shape == (3, 32, 32)
    assert last.copies.shape == (12, 3, 32, 32) and last.copy_classes.shape == (12,)
    assert np.abs(last.copies - last.picture).std() > 0.01


def test_asking_again_gives_the_same_one_at_once(engine, kept):
    request = CertifyRequest(image=3, **TINY)
    first = items(engine, certify_work(engine, request, kept))[-1]
    again = slowed(certify_work(engine, request, Store(kept.folder)))
    assert len(again) == 1 and again[0].kept and again[0].certificate == first.certificate
    for name in ("n_drawn", "votes", "p_lower", "radius"):
        np.testing.assert_array_equal(again[0].course[name], first.course[name])
    other = items(engine, certify_work(engine, dataclasses.replace(request, n=100), kept))[-1]
    assert other.certificate.seed != first.certificate.seed and other.others == 1


def test_what_was_stopped_certifies_nothing_and_begins_again_with_the_same_draws(engine, kept):
    request = CertifyRequest(image=3, **TINY | {"n": 100_000})
    future = engine.submit("me", certify_work(engine, request, kept), deadline=DEADLINE)
    for item in future.events():
        if item.progress.n_drawn:
            seen = item.progress
            break
    future.cancel()
    began = time.monotonic()
    assert future.wait(20) and future.state == "cancelled" and time.monotonic() - began < 20
    with pytest.raises(Cancelled):
        list(future.events())
    assert kept.find(request.question(load("cifar10", split="test", source="sample").x[3])) is None
    for item in certify_work(engine, request, kept)():
        if item.progress.done == seen.done:
            assert item.progress == seen
            break


def test_long_work_may_have_a_deadline_of_its_own(make_engine, kept):
    engine = make_engine(deadline=0.0001)
    request = CertifyRequest(image=3, **TINY)
    with pytest.raises(Failed, match="Stopped after 0.0001 s"):
        items(engine, certify_work(engine, request, kept))
    assert items(engine, certify_work(engine, request, kept), deadline=DEADLINE)[-1].certificate is not None


def test_a_sound_certificate_of_a_bundled_picture(engine, kept):
    request = CertifyRequest(image=3, **TINY, sound=True)
    found = items(engine, certify_work(engine, request, kept))[-1]
    assert found.certificate.sound and found.conditions["caveat"] == ""
    whole = (found.copies.astype(np.float64) * 255).round()
    np.testing.assert_array_equal((whole / 255).astype(np.float32), found.copies)


def test_links_lead_to_the_same_request():
    for request in (
        CertifyRequest("cifar10", 3, "cifar10/tiny"),
        CertifyRequest(image=5, **TINY, alpha=0.01, precision="bfloat16", sound=True),
        CertifyRequest("cifar10", "upload:0123456789", "cifar10/tiny", sigma=0.5, label=4),
    ):
        again = CertifyRequest.from_query(request.to_query())
        assert again == request and again.cap == request.cap
    assert CertifyRequest("cifar10", 3, "cifar10/tiny").sigma == 0.25
    assert CertifyRequest("cifar10", 3, "cifar10/tiny", sigma="1/4").sigma == 0.25


def test_the_script_makes_the_same_certificate(engine, kept):
    request = CertifyRequest(image=3, **TINY)
    found = items(engine, certify_work(engine, request, kept))[-1].certificate
    scope = {}
    exec(compile(request.to_python(found.seed).replace("print(", "said = ("), "script", "exec"), scope)
    assert scope["certificate"] == found


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"sigma": 0}, InvalidValue, r"sigma must be a number in \[0.0001, 10\]; got 0"),
        ({"sigma": "much"}, InvalidValue, "sigma must be a number; got 'much'"),
        ({"n": 9}, InvalidValue, "n must be at least 10 to certify anything at alpha 0.001; got 9"),
        ({"n": 100_001}, InvalidValue, "n must be a whole number"),
        ({"alpha": 0.6}, InvalidValue, "alpha must be"),
        ({"n0": 0}, InvalidValue, "n0 must be"),
        ({"precision": "int8"}, InvalidValue, "precision must be one of"),
        ({"sound": "maybe"}, InvalidValue, "sound must be 1 or 0"),
        ({"model": "cifar10/tinny"}, UnknownName, "Did you mean 'cifar10/tiny'"),
        ({"image": 10**6}, InvalidValue, "image must be a whole number"),
    ],
)
def test_nonsense_is_refused_in_one_sentence(change, error, said):
    with pytest.raises(error, match=said):
        CertifyRequest(**{"image": 3} | TINY | change)


def test_a_set_is_certified_picture_by_picture_and_goes_on_where_it_was(engine, kept):
    request = CertifySetRequest(**TINY, count=4)
    found = slowed(certify_set_work(engine, request, kept))
    last = found[-1]
    assert last.finished and last.done == last.total == 4 * 170 and len(last.conditions["seeds"]) == 4
    assert [len(item.certificates) for item in found] == sorted(len(item.certificates) for item in found)
    assert set(map(len, (item.curve() for item in found if item.certificates))) == {41}
    assert sum(last.counts.values()) == 4 and last.natural[1] == 4 and 0 <= last.noisy.value <= 1
    right = [c.radius for c, y in zip(last.certificates, last.labels, strict=True) if c.label == y]
    assert last.acr.value == pytest.approx(sum(right) / 4) and last.acr.low <= last.acr.value <= last.acr.high
    assert last.curve([0.0])[0].certified == len(right) and last.curve([10.0])[0].certified == 0
    again = slowed(certify_set_work(engine, request, kept))[-1]
    assert again.certificates == last.certificates
    assert again.kept == sum(not c.skipped for c in last.certificates)
    row, certificate = int(last.rows[0]), last.certificates[0]
    if not certificate.skipped:  # the set's certificate of a picture is the picture's
        assert slowed(certify_work(engine, request.single(row), kept))[-1].certificate == certificate


def test_more_pictures_begin_with_the_same_ones():
    few, many = CertifySetRequest(**TINY, count=3), CertifySetRequest(**TINY, count=20)
    assert many.rows[:3] == few.rows and len(set(many.rows)) == 20
    assert CertifySetRequest(**TINY, count=3, shuffle=1).rows != few.rows
    assert few.cap == largest_radius(0.1, 150, 0.001)


@pytest.mark.parametrize(
    ("change", "said"), [({"count": 0}, "count"), ({"sigma": 0}, "sigma"), ({"n": 5}, "at least 10")]
)
def test_a_set_refuses_nonsense(change, said):
    with pytest.raises(InvalidValue, match=said):
        CertifySetRequest(**TINY | change)


EASY = SmoothedAttack(steps=3, draws=2, n=40, alpha=0.05, width=0.5, twice=True, eps=4.0)


def test_the_search_brackets_the_smallest_change(engine, kept):
    request = CertifyRequest(image=3, **TINY)
    found = slowed(attack_smoothed_work(engine, request, EASY, kept=kept))
    last = found[-1]
    if last.ended == "abstained":
        pytest.skip("the untrained network's vote is undecided here")
    assert last.ended == "done" and last.probes and last.alarm is None
    reached = [probe for probe in last.probes if probe.reached]
    assert reached and last.distance == min(probe.distance for probe in reached)
    assert last.found_class not in (None, last.clean.label) and last.found.shape == (3, 32, 32)
    assert all(probe.distance <= probe.eps for probe in last.probes)
    assert last.abstentions == sum(probe.prediction.label is None for probe in last.probes)
    assert [len(item.probes) for item in found] == sorted(len(item.probes) for item in found)
    assert last.conditions["attacks"] == ["PGD, ce", "PGD, margin"] and last.conditions["norm"] == "l2"


def test_the_quick_attack_tries_once_and_says_what_it_is_doing(engine, kept):
    quick = dataclasses.replace(EASY, twice=False)
    found = slowed(attack_smoothed_work(engine, CertifyRequest(image=3, **TINY), quick, kept=kept))
    last = found[-1]
    if last.ended == "abstained":
        pytest.skip("the untrained network's vote is undecided here")
    assert last.ended == "done" and {probe.attack for probe in last.probes} == {"PGD, ce"}
    assert last.largest_held is not None and last.distance is not None
    reached, held = (next(p.eps for p in sorted(last.probes, key=lambda p: p.eps) if p.reached), last.largest_held)
    assert reached - held <= quick.width * reached and held == max(p.eps for p in last.probes if p.eps < reached)
    told = [item.attempt for item in found if item.attempt is not None]
    assert [t.step for t in told[:4]] == [0, 1, 2, 3] and told[0].eps == quick.eps and last.attempt is None
    assert len(told) == len(last.probes) * (quick.steps + 1)
    assert last.conditions["attacks"] == ["PGD, ce"] and last.conditions["twice"] is False


def test_a_verdict_gives_others_their_turn(engine, kept):
    """Between two items there is one pass, or two: a cancelled attack ends soon, however many copies judge it."""
    passes = []
    engine.model("cifar10/tiny").register_forward_pre_hook(lambda module, inputs: passes.append(len(inputs[0])))
    work = attack_smoothed_work(engine, CertifyRequest(image=3, **TINY), dataclasses.replace(EASY, n=2000), kept=kept)()
    counts = []
    for _ in range(12):  # the verdict on the untouched picture
        next(work)
        counts.append(len(passes))
    assert max(np.diff([0, *counts])) <= 2 and max(passes) <= 128


def test_an_attack_on_a_sound_certificate_is_judged_on_the_grid(engine, kept):
    request = CertifyRequest(image=3, **TINY, sound=True)
    last = slowed(attack_smoothed_work(engine, request, dataclasses.replace(EASY, n=20), kept=kept))[-1]
    assert last.clean.sound and all(probe.prediction.sound for probe in last.probes)
    if last.found is not None:
        whole = (last.found.astype(np.float64) * 255).round()
        np.testing.assert_array_equal((whole / 255).astype(np.float32), last.found)


def test_a_wrong_certificate_raises_an_alarm(engine, kept, monkeypatch):
    """A certificate of radius 50 for the class that the smoothed network does give the picture."""
    monkeypatch.setattr(attacking, "SURE_DRAWS", 40)
    monkeypatch.setattr(attacking, "SURE_ALPHA", 0.05)
    request = CertifyRequest(image=3, **TINY)
    clean = next(item for item in attack_smoothed_work(engine, request, EASY, kept=kept)() if item is not None).clean
    if clean.label is None:
        pytest.skip("the untrained network's vote is undecided here")
    made = slowed(certify_work(engine, request, kept))[-1].certificate
    wrong = dataclasses.replace(made, label=clean.label, radius=50.0)
    last = slowed(attack_smoothed_work(engine, request, EASY, wrong, kept))[-1]
    assert last.alarm is not None and "inside the radius 50.0000" in last.alarm
