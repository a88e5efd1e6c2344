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
