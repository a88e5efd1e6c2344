"""The one engine that all sessions share."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from explorer.core import InvalidValue
from explorer.ui import session

ROOT = Path(__file__).parents[2]


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
    assert session.between_looks(0.15, cost=0.05) == pytest.approx(30 * 0.05 / session.SHARE)  # dear to draw
    waiting[0] = 1
    assert session.between_looks(0.15, cost=0.05) == 0.15  # nobody else waits


def test_what_a_look_costs_is_measured(fresh):
    def page():
        from explorer.ui.session import look_again

        look_again(lambda: sum(range(300_000)), every=0.5, key="dear")

    session._costs.clear()
    AppTest.from_function(page).run()
    assert 0 < session._costs()["dear"] < 1


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


def _page() -> None:
    import streamlit as st

    from explorer.ui.session import look_again

    look_again(st.text, "looked at", every=0.5 if st.toggle("under way", True) else None, key="part")
    st.text("what follows")


def test_a_part_that_looks_again_has_a_place_of_its_own_and_another_name_at_rest(monkeypatch):
    named = []
    real = session.st.fragment
    monkeypatch.setattr(session.st, "fragment", lambda draw, **options: named.append(options) or real(draw, **options))
    page = AppTest.from_function(_page).run()
    _, part, after = page.main.children.values()
    assert (
        part.type == "flex_container" and after.value == "what follows"
    )  # its place stays, whatever becomes of the part
    assert [child.type for child in part.children.values()] == [
        "flex_container"
    ]  # the part's own, which Streamlit may drop
    page.toggle[0].set_value(False).run()
    assert [text.value for text in page.text] == ["looked at", "what follows"]
    assert [options["run_every"] for options in named] == [0.5, None] and named[0]["key"] != named[1]["key"]


def test_a_flood_of_one_session_waits_and_nobody_else_does(monkeypatch):
    slept = []
    monkeypatch.setattr(session, "exists", lambda: True)
    monkeypatch.setattr(session.time, "sleep", slept.append)
    session._limits.clear()
    for _ in range(30):
        session.slow_down("page")
    assert not slept
    session.slow_down("page")
    assert len(slept) == 1 and 0 < slept[0] <= session.LONGEST
    monkeypatch.setattr(session, "session_id", lambda: "another")
    session.slow_down("page")
    assert len(slept) == 1
    session._limits.clear()


@pytest.mark.parametrize(("given", "found"), [({}, "5000"), ({"GOMP_SPINCOUNT": "7"}, "7")])
def test_threads_of_the_app_give_way_before_torch_is_imported(given, found):
    """libgomp reads its environment as torch is imported: afterwards it is too late."""
    code = "import os, sys; from explorer.core import threads; threads.give_way(); print(os.environ['GOMP_SPINCOUNT'], *sys.modules)"
    env = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"} | given
    ran = subprocess.run([sys.executable, "-c", code], env=env, cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.split()[0] == found and "torch" not in ran.stdout.split()
    source = (ROOT / "app.py").read_text("utf-8")
    assert source.index("threads.give_way()") < source.index("import explorer.ui")


def test_a_dear_look_waits_for_its_turn_among_others_but_not_within_the_pages_drawing(fresh, monkeypatch):
    clock, slept = [100.0], []
    context = type("Context", (), {"session_id": "me", "fragment_ids_this_run": ["look"]})()
    monkeypatch.setattr(session, "get_script_run_ctx", lambda: context)
    monkeypatch.setattr(session.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(session.time, "sleep", lambda s: (slept.append(s), clock.append(clock.pop() + s)))
    monkeypatch.setattr(session.st, "session_state", {"dear looked at": 99.5})
    session._costs().update(dear=0.1, cheap=0.0)
    session._audiences().pop("dear looked at", None)
    session._wait_for_turn("dear")
    assert not slept  # alone
    session._audiences()["dear looked at"].update({f"another {k}": 100.0 for k in range(5)})
    session._wait_for_turn("dear")
    assert clock[0] == pytest.approx(99.5 + 6 * 0.1 / session.SHARE, abs=0.11)
    session._costs()["dear"] = 10.0
    session._wait_for_turn("dear")
    assert clock[0] == pytest.approx(99.5 + session.LONGEST_TURN, abs=0.11)
    slept.clear()
    context.fragment_ids_this_run, session.st.session_state["dear looked at"] = [], clock[0]
    session._wait_for_turn("dear")
    assert not slept
    session._audiences().clear()
    session._costs().clear()
