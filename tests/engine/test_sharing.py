"""Shared work: equal keys are computed once, leaving stops it only when nobody is left, changed weights are another run."""

from __future__ import annotations

import dataclasses
import threading

import pytest

from explorer.core import InvalidValue
from explorer.engine import AttackRequest, Engine
from explorer.engine.same_run import same_run
from explorer.engine.sharing import Sharing
from explorer.models import zoo


@pytest.fixture
def engine():
    made = Engine("cpu", threads=1)
    yield made
    made.close()


class Counted:
    """Work that waits until it is let go, and counts how often it was begun."""

    def __init__(self):
        self.begun, self.began, self.go = 0, threading.Event(), threading.Event()

    def __call__(self):
        self.begun += 1
        self.began.set()
        while not self.go.wait(0.01):
            yield None
        yield self.begun


def join(engine, key, work, session="a", alive=lambda: True):
    return engine.sharing.join(key, alive, lambda anyone: engine.submit(session, work, alive=anyone))


def test_thirty_sessions_share_one_run(engine):
    work = Counted()
    seats = [join(engine, "key", work, f"session {k}") for k in range(30)]
    work.go.set()
    assert all(seat.wait(5) for seat in seats)
    later = join(engine, "key", work)
    assert work.begun == 1 and [seat.latest for seat in (*seats, later)] == [1] * 31 and later.state == "done"
    assert join(engine, "another", work).wait(5) and work.begun == 2


def test_a_finished_run_is_taken_where_that_will_do_alone(engine):
    work = Counted()
    work.go.set()
    join(engine, "key", work).wait(5)
    again = engine.sharing.join(
        "key", lambda: True, lambda alive: engine.submit("b", work, alive=alive), finished=False
    )
    assert again.wait(5) and again.latest == 2


def test_who_leaves_stops_nobody_else(engine):
    work = Counted()
    first, second = join(engine, "key", work), join(engine, "key", work, "b")
    assert work.began.wait(5)
    first.cancel()
    assert first.state == "cancelled" and not second.cancelling
    third = join(engine, "key", work, "c")
    second.cancel()
    assert not third.finished
    third.cancel()
    fresh = join(engine, "key", work, "d")  # the run that is about to stop is nobody's seat
    work.go.set()
    assert fresh.wait(5) and fresh.state == "done" and fresh.latest == 2


def test_it_ends_when_no_session_is_there_any_more(engine):
    work, there = Counted(), [True]
    seat = join(engine, "key", work, alive=lambda: there[0])
    there[0] = False
    assert seat.wait(5) and seat.state == "cancelled"


def test_a_failure_is_not_handed_on(engine):
    def fails():
        raise InvalidValue("no.")
        yield

    assert join(engine, "key", fails).wait(5)
    work = Counted()
    work.go.set()
    again = join(engine, "key", work)
    assert again.wait(5) and again.latest == 1


def test_the_newest_finished_runs_are_kept(engine):
    sharing, work = Sharing(kept=2), Counted()
    work.go.set()
    for key in "abcd":
        sharing.join(key, lambda: True, lambda alive: engine.submit("s", work, alive=alive)).wait(5)
    assert len(sharing._held) <= 3


def test_the_key_holds_settings_and_weights(monkeypatch):
    request = AttackRequest("cifar10", 317, "cifar10/lenet").checked()
    key = same_run(request)
    assert key == same_run(dataclasses.replace(request)) and hash(key) == hash(same_run(request))
    assert key != same_run(dataclasses.replace(request, hyper={"steps": 3}).checked())
    assert key != same_run(dataclasses.replace(request, seed=1))
    card = zoo.card
    monkeypatch.setattr(zoo, "card", lambda name: dataclasses.replace(card(name), sha256="0" * 64))
    assert key != same_run(request)
    assert same_run("something else") is None
