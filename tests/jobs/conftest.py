"""A store whose runs are real processes that wait, hold their device for a moment and end, without torch."""

from __future__ import annotations

import time

import pytest

from explorer.jobs import LIVE, Spec, Store
from explorer.jobs.launch import Local
from tests.durability.common import end_all, wait_for
from tests.durability.starts import STAND_IN

SHORT = Spec("baseline", device="cpu", every=0.0)
LONG = Spec("baseline", device="cpu", every=600.0)


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "runs", local=Local(STAND_IN))
    yield store
    end_all(store.runs())


@pytest.fixture
def until():
    """Look at the run until it has one of these statuses."""

    def until(run, *statuses):
        wait_for(lambda: run.tend().status in statuses, every=0.05)
        return run.state

    return until


@pytest.fixture
def ended(until):
    def ended(run):
        wait_for(lambda: run.refresh().status not in LIVE, every=0.05)
        time.sleep(0)
        return run.state

    return ended
