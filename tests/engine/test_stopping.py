"""A cancel is obeyed within a second: by every attack, and within one long pass, forward or backward."""

import threading
import time

import pytest
import torch

from explorer.attacks import ATTACKS
from explorer.core import Cancelled, Goal
from explorer.core.ball import EPS_LIMIT, WHOLE
from explorer.data import raw
from explorer.engine import AttackRequest, Budget, attack_work
from explorer.engine.model_cache import MapsWork
from explorer.engine.stopping import stop_if_unwanted, stops_between_layers

SOON = 10
LIMITLESS = Budget(passes=10**12, draws=10**4, frames=10**9)
PASS = 0.03  # seconds of one pass of the slow model


def request(engine, attack):
    """The attack's strong preset on the image that the model is surest of, with hardly any room to move in."""
    pixels, labels = raw("cifar10", "test", "sample")[:2]
    logits = engine.model("cifar10/tiny")(pixels[:200].float() / 255)
    row = int(Goal.untargeted(labels[:200].long()).margin(logits).argmin())
    cls = ATTACKS[attack]
    norm = cls.threats[0]
    eps = EPS_LIMIT[norm] if cls.budget == "minimal" else 1 if norm in WHOLE else 1e-4
    return AttackRequest("cifar10", row, "cifar10/tiny", attack, cls.presets["strong"], norm=norm, eps=eps).checked()


def slowed(engine):
    """Each pass of the tiny model takes PASS seconds from now on; a list that grows with them."""
    passes = []

    def forward(module, inputs):
        passes.append(len(inputs[0]))
        time.sleep(PASS)

    engine.model("cifar10/tiny").head.register_forward_pre_hook(forward)
    return passes


def stopped(future):
    """Seconds from the cancel to the end."""
    began = time.monotonic()
    future.cancel()
    assert future.wait(SOON)
    return time.monotonic() - began


@pytest.mark.parametrize("attack", ATTACKS.keys())
def test_every_attack_stops_within_a_second(engine, attack):
    """At its strong preset; some of them have seconds of passes between two steps."""
    asked = request(engine, attack)
    passes = slowed(engine)
    future = engine.submit("a", attack_work(engine, asked, LIMITLESS))
    while len(passes) < 5 and not future.finished:  # the first steps of some come at once
        time.sleep(0.005)
    assert stopped(future) < 1 and future.error is None
    if asked.passes * PASS > 2:
        assert future.state == "cancelled"


class Chain(torch.nn.Module):
    """Many layers, each of which takes `pause` seconds, forward or backward."""

    def __init__(self, layers, pause, backward):
        super().__init__()
        self.layers = torch.nn.Sequential(*(torch.nn.Linear(4, 4) for _ in range(layers)))
        self.pause, self.backward, self.passed = pause, backward, 0
        for layer in self.layers:
            layer.register_forward_hook(self._slow)
        self.requires_grad_(False)

    def _slow(self, module, inputs, output):
        if self.backward:
            output.register_hook(lambda gradient: self._wait())
        else:
            self._wait()

    def _wait(self):
        self.passed += 1
        time.sleep(self.pause)

    def forward(self, x):
        return self.layers(x)


@pytest.mark.parametrize("backward", [False, True])
def test_one_long_pass_is_left_between_two_layers(engine, backward):
    model, closed = stops_between_layers(Chain(400, 0.02, backward)), threading.Event()

    def work():
        try:
            yield 0
            x = torch.ones(1, 4).requires_grad_()
            torch.autograd.grad(model(x).sum(), x)
            yield 1
        finally:
            closed.set()

    future = engine.submit("a", work)
    next(future.events())
    while model.passed < 3:
        time.sleep(0.005)
    assert stopped(future) < 1 and model.passed < 200
    assert future.state == "cancelled" and future.error is None and closed.is_set() and future.latest == 0


def test_a_closed_tab_and_a_closed_engine_end_a_long_pass_too(make_engine):
    for end in ("tab", "engine"):
        engine, here, model = make_engine(), threading.Event(), stops_between_layers(Chain(400, 0.02, False))
        here.set()
        future = engine.submit("a", lambda model=model: iter([0, model(torch.ones(1, 4))]), alive=here.is_set)
        while model.passed < 3:
            time.sleep(0.005)
        began = time.monotonic()
        here.clear() if end == "tab" else engine.close()
        assert future.wait(SOON) and time.monotonic() - began < 1
        assert future.state == "cancelled" and model.passed < 200


def test_one_s_cancel_is_not_the_others(engine):
    model, future, other = stops_between_layers(Chain(40, 0.002, False)), None, None

    def work():
        while True:
            yield model(torch.ones(1, 4))

    def short():
        for _ in range(5):
            yield model(torch.ones(1, 4))

    future = engine.submit("a", work)
    next(future.events())
    other = engine.submit("b", short)
    future.cancel()
    assert other.wait(SOON) and other.state == "done" and other.count == 5
    assert future.wait(SOON) and future.state == "cancelled"
    with pytest.raises(Cancelled):
        list(future.events())


def test_outside_of_work_nothing_is_asked(engine):
    stop_if_unwanted()
    x = raw("cifar10", "test", "sample")[0][:2].float() / 255
    model = engine.model("cifar10/tiny")
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model(leaf).sum(), leaf)
    assert bool(gradient.abs().sum() > 0)


def test_a_map_that_was_left_half_drawn_is_begun_anew():
    """Else the reference features gathered so far would be taken for all of them."""

    class Broken:
        def advance(self):
            raise Cancelled("stopped")

    begun = []
    work = MapsWork(lambda: begun.append(1) or Broken())
    for _ in range(2):
        with pytest.raises(Cancelled):
            work.advance()
    assert len(begun) == 2 and work.plane is None
