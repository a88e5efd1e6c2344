"""The smallest eps: closed forms of linear models, the order of the probes, and what is said when things go otherwise."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from explorer.core import Classifier, InvalidValue, current_rng, seeded
from explorer.core.ball import EPS_LEAST, EPS_LIMIT
from explorer.engine import AttackRequest, Failed, attack_work
from explorer.engine.smallest import CHECKS, Probe, Search, next_eps, readable, smallest_work

UPLOAD = "upload:00000000000000aa"
HYPER = {"steps": 4, "rel_step": 0.5, "random_start": False}


class TwoClasses(Classifier):
    """Ten linear logits of which only the first two matter: class 0 until w.(x - x0) exceeds `margin`."""

    def __init__(self, x0, margin, noise=0.0):
        super().__init__([0.5] * 3, [0.25] * 3, (3, 32, 32), 10)
        self.head = nn.Linear(3072, 10)
        w = torch.randn(3072, generator=seeded(7))
        self.stochastic, self.noise = noise > 0, noise
        with torch.no_grad():
            self.head.weight.zero_()
            self.head.weight[1] = w
            self.head.bias.fill_(-1000.0)
            self.head.bias[0] = 0.0
            self.head.bias[1] = -float((w.double() * x0.double().flatten()).sum()) - margin
        self.lengths = {"linf": float(w.double().abs().sum()), "l2": float(w.double().norm())}
        self.freeze()

    def embed(self, normalised):
        return (normalised * self.std + self.mean).flatten(1)

    def forward(self, pixels):
        return self.both(pixels)[0]

    def both(self, pixels):
        logits, features = super().both(pixels)
        if self.noise:
            draw = self.noise * torch.randn(len(pixels), generator=current_rng(pixels.device))
            logits = torch.cat([logits[:, :1] + draw[:, None], logits[:, 1:]], dim=1)
        return logits, features


@pytest.fixture
def x0():
    return 0.3 + 0.4 * torch.rand(3, 32, 32, generator=seeded(3))


@pytest.fixture
def searched(engine, monkeypatch, x0):
    def search(margin, noise=0.0, width=0.02, picture=x0, **changes):
        model = TwoClasses(x0, margin, noise)
        engine.keep_upload(UPLOAD, picture)
        monkeypatch.setattr(engine, "model", lambda name: model)
        values = {"dataset": "cifar10", "image": UPLOAD, "model": "cifar10/tiny", "label": 0, "hyper": HYPER} | changes
        items = list(smallest_work(engine, AttackRequest(**values), width)())
        return model, [item for item in items if item is not None]

    return search


@pytest.mark.parametrize(("norm", "start", "true"), [
    ("linf", 8 / 255, 0.0123), ("linf", 1 / 255, 0.0456), ("l2", 0.5, 0.1234), ("l2", 0.05, 0.6789)])  # fmt: skip
def test_a_linear_models_smallest_eps_lies_in_the_interval(norm, start, true, searched, x0):
    length = TwoClasses(x0, 0.0).lengths[norm]
    _, found = searched(true * length, norm=norm, eps=start)
    last = found[-1]
    assert last.ended == "done" and last.failed_above == ()
    assert last.held.eps < true < last.fooled.eps
    assert (last.fooled.eps - last.held.eps) / last.fooled.eps <= 0.02
    assert last.checked >= len(CHECKS)
    assert last.fooled.predicted == 1 and last.held.predicted == 0
    for probe in last.probes:  # the margin falls by eps times the length of w
        assert probe.margin == pytest.approx((true - probe.eps) * length, abs=2e-3 * length * max(true, probe.eps))
    assert last.clean.margin == pytest.approx(true * length, abs=2e-3 * length * true) and last.clean.eps == 0
    assert last.passes == sum(p.forwards + p.backwards for p in last.probes) == len(last.probes) * 9


def test_it_is_told_after_each_probe_and_a_narrower_width_takes_more(searched):
    _, coarse = searched(30.0, width=0.2)
    assert [len(item.probes) for item in coarse] == list(range(len(coarse)))
    assert not any(item.ended for item in coarse[:-1])
    _, fine = searched(30.0, width=0.01)
    assert len(fine[-1].probes) > len(coarse[-1].probes)


def test_a_random_model_is_judged_on_fresh_draws(searched):
    _, found = searched(30.0, noise=5.0)
    last = found[-1]
    assert last.draws == 20 and any(0 < probe.share < 1 for probe in last.probes)
    assert all(probe.reached == (probe.share > 0.5) for probe in last.probes)


def test_a_picture_that_is_wrong_already_needs_no_search(searched):
    _, found = searched(-1.0)
    assert found[-1].ended == "done" and found[-1].clean.reached and len(found[-1].probes) == 1


def test_each_probe_is_the_walk_that_the_page_plays_at_that_eps(engine, monkeypatch):
    request = AttackRequest(dataset="cifar10", image=17, model="cifar10/tiny-lwta", hyper={"steps": 3}, seed=3)
    probes = list(smallest_work(engine, request, 0.4)())[-1].probes
    probe = probes[-1]
    asked = dataclasses.replace(request, eps=probe.eps)
    shown = next(s for s in attack_work(engine, asked)() if s is not None and s.result is not None)
    assert shown.result.verdict.reached[0] == probe.reached and shown.result.verdict.share[0] == probe.share
    assert np.isclose(shown.trace.margin[shown.result.best], probe.margin)


def test_near_its_deadline_it_ends_with_what_it_knows(make_engine, monkeypatch):
    engine = make_engine(deadline=1e-9)
    request = AttackRequest(dataset="cifar10", image=17, model="cifar10/tiny", hyper={"steps": 3})
    items = [item for item in smallest_work(engine, request)() if item is not None]
    assert items[-1].ended == "time" and items[-1].probes == ()


def test_work_is_submitted_like_attacks_and_cancelled(engine):
    request = AttackRequest(dataset="cifar10", image=17, model="cifar10/tiny", hyper={"steps": 900})
    future = engine.submit("a", smallest_work(engine, request))
    future.cancel()
    assert future.wait(30) and future.state == "cancelled"


def test_failures_of_the_model_reach_the_future(engine, monkeypatch, x0):
    model = TwoClasses(x0, 1.0)
    with torch.no_grad():
        model.head.bias[0] = float("nan")
    engine.keep_upload(UPLOAD, x0)
    monkeypatch.setattr(engine, "model", lambda name: model)
    request = AttackRequest(dataset="cifar10", image=UPLOAD, model="cifar10/tiny", label=0, hyper=HYPER)
    future = engine.submit("a", smallest_work(engine, request))
    with pytest.raises(Failed, match="not finite"):
        list(future.events())


@pytest.mark.parametrize(("changes", "width", "words"), [
    ({"attack": "deepfool", "norm": "l2"}, 0.02, "distance is the answer"),
    ({}, 0.9, r"width must be a number in \[0.005, 0.5\]; got 0.9"),
    ({}, float("nan"), "width must be"),
    ({"hyper": {"steps": 1000, "restarts": 100}}, 0.02, "at most"),
])  # fmt: skip
def test_what_cannot_be_searched_is_refused_at_once(changes, width, words, engine):
    request = AttackRequest(**({"dataset": "cifar10", "image": 17, "model": "cifar10/tiny"} | changes))
    with pytest.raises(InvalidValue, match=words):
        smallest_work(engine, request, width)


# The order of the probes, without a model


def played(succeeds, norm="linf", eps=8 / 255, width=0.02):
    search = Search(
        AttackRequest(dataset="cifar10", image=17, model="cifar10/tiny", norm=norm, eps=eps).checked(), width
    )
    while (eps := next_eps(search.bracket)) is not None:
        assert eps not in [p.eps for p in search.probes] and len(search.probes) < 60
        probe = Probe(eps, succeeds(eps), False, 0.0, 0.0, 0, 1, 1)
        search = dataclasses.replace(search, probes=(*search.probes, probe))
    return search


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("true", [2e-4, 0.01, 0.0313, 0.2, 0.77])
def test_doubling_or_halving_then_the_middle(norm, true):
    search = played(lambda eps: eps >= true, norm)
    assert (
        search.held.eps < true <= search.fooled.eps and search.fooled.eps - search.held.eps <= 0.02 * search.fooled.eps
    )
    assert search.probes[0].eps == 8 / 255 and len(search.probes) < 25


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_where_nothing_succeeds_it_ends_at_the_whole_range_and_where_all_does_at_the_least(norm):
    never, always = played(lambda eps: False, norm), played(lambda eps: True, norm)
    assert never.fooled is None and never.held.eps == EPS_LIMIT[norm]
    assert always.held is None and always.fooled.eps == EPS_LEAST


def test_a_smaller_eps_that_succeeds_after_a_larger_failed_is_found_and_reported():
    search = played(lambda eps: eps >= 0.02 or 0.009 < eps < 0.0125)  # an attack that overshoots
    assert 0.009 < search.fooled.eps < 0.00925
    assert search.failed_above and all(0.0125 <= p.eps < 0.02 for p in search.failed_above)
    assert search.held.eps <= 0.009


def test_in_l0_whole_numbers_of_pixels_are_tried():
    request = AttackRequest(
        dataset="cifar10", image=17, model="cifar10/tiny", attack="one-pixel", norm="l0", eps=10
    ).checked()
    search = Search(request, 0.02)
    while (eps := next_eps(search.bracket)) is not None:
        assert eps == int(eps) >= 1
        search = dataclasses.replace(search, probes=(*search.probes, Probe(eps, eps >= 23, False, 0.0, 0.0, 0, 1, 1)))
    assert (search.held.eps, search.fooled.eps) == (22, 23)


def test_probed_eps_are_short_numbers():
    search = played(lambda eps: eps >= 0.0123)
    assert all(p.eps == readable("linf", p.eps) for p in search.probes)
