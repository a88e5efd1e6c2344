"""The one engine that all sessions share."""

import pytest

from explorer.core import InvalidValue
from explorer.ui import session


@pytest.fixture
def fresh():
    session.engine.clear()
    yield session.engine
    session.engine.clear()


def test_the_engine_takes_as_many_threads_as_asked(fresh, monkeypatch):
    monkeypatch.setenv("EXPLORER_THREADS", "3")
    assert fresh().threads == 3


@pytest.mark.parametrize("text", ["many", "1.5", "-2", "0"])
def test_a_number_of_threads_that_is_none_gets_one_sentence(fresh, monkeypatch, text):
    monkeypatch.setenv("EXPLORER_THREADS", text)
    with pytest.raises(InvalidValue, match="threads|THREADS"):
        fresh()


def test_many_who_wait_look_less_often(fresh, monkeypatch):
    waiting = [0]
    monkeypatch.setattr(type(fresh()), "sessions", property(lambda engine: waiting[0]))
    assert session.between_looks(0.15) == 0.15
    waiting[0] = 4
    assert session.between_looks(0.15) == pytest.approx(0.6)
    waiting[0] = 30
    assert session.between_looks(0.15) == session.LONGEST and session.between_looks(3.0) == 3.0


def test_an_audience_is_who_looked_lately(monkeypatch):
    session._audiences.clear()
    me, now = ["a"], [100.0]
    monkeypatch.setattr(session, "session_id", lambda: me[0])
    monkeypatch.setattr(session.time, "monotonic", lambda: now[0])
    assert session.audience("x", within=10) == 1 == session.audience("x", within=10)
    me[0], now[0] = "b", 109.0
    assert session.audience("x", within=10) == 2 and session.audience("y", within=10) == 1
    now[0] = 111.0
    assert session.audience("x", within=10) == 1
