"""An attack of one's own on the Attack page: its walk on the player, the verdict from outside, the clinic's findings in words."""

from __future__ import annotations

import pytest
from streamlit.testing.v1 import AppTest

from explorer.core import confinement
from explorer.ui import own_attack
from explorer.ui.text.own_attack import EXAMPLE
from tests.confining import confining
from tests.ui.app import ended, open_page, texts

RUNNING = """
import torch
import torch.nn.functional as F

def attack(model, x, y, eps):
    for _ in range(5):
        x = x.clone().requires_grad_(True)
        (g,) = torch.autograd.grad(F.cross_entropy(model(x), y), x)
        x = (x + (eps * g.sign()).clamp(-eps, eps)).clamp(0, 1).detach()
    return x
"""


@pytest.fixture(autouse=True)
def fresh(tmp_path, monkeypatch):
    monkeypatch.setenv("EXPLORER_RUNS", str(tmp_path / "runs"))
    own_attack.runner.clear()
    yield
    own_attack.runner.clear()


def opened(**query: str) -> AppTest:
    link = {"data": "cifar10", "model": "cifar10/lenet", "image": "317", **query}
    return ended(open_page(query=link, **{"own.open": True}))


def ran(app: AppTest, name: str, text: str) -> AppTest:
    app.file_uploader(key="own.file").upload(name, text.encode()).run()
    app.button(key="own.run").click().run()
    job, _ = app.session_state["own.job"]
    assert job.wait(120)
    app.run()
    assert not app.exception
    return app


@confining
def test_a_right_attack_is_played_judged_and_nothing_is_found():
    app = ran(opened(), "mine.py", EXAMPLE)
    said = texts(app)
    assert "It asked the model 10 times, and 10 times for a gradient" in said, said
    assert "No fault was found" in said and said.count("**Fooled.**") >= 2  # the page's own walk, and this one
    (run,) = [app.session_state["own.job"][0].found[-1]]
    trace = run.result.traces[0]
    assert trace.conditions["attack"] == "mine.py:attack" and len(trace) == 12 and run.result.left_at is None


@confining
def test_what_leaves_the_ball_does_not_count_and_the_clinic_says_why():
    app = ran(opened(), "mine.py", RUNNING)
    said = texts(app)
    assert "lies outside the allowed distance (within L∞ 8/255) and does not count" in said, said
    assert "is the first outside L∞ 8/255" in said and "clipped against the running image" in said


@confining
@pytest.mark.parametrize(
    ("name", "text", "words"),
    [("mine.py", "def other(x):\n    return x", "no function attack"), ("mine.py", "1 +", "SyntaxError")],
)
def test_what_cannot_be_run_is_one_sentence(name, text, words):
    app = ran(opened(), name, text)
    (error,) = [error.value for error in app.error]
    assert words in error and "\n" not in error


def test_bad_files_are_refused_before_anything_starts_and_without_confinement_nothing_is_offered(monkeypatch):
    monkeypatch.setattr(confinement, "bwrap", lambda: "/usr/bin/bwrap")
    app = opened()
    app.file_uploader(key="own.file").upload("mine.py", b"").run()
    app.button(key="own.run").click().run()
    assert "mine.py is empty." in texts(app) and own_attack.runner().latest is None
    monkeypatch.setattr(confinement, "bwrap", lambda: None)
    app.run()
    assert "--unconfined" in texts(app) and not [one for one in app.file_uploader if one.key == "own.file"]
