"""The panel that adds a model, who may use it, and the pages' work on what was added; the course block; all without a browser."""

from __future__ import annotations

import io
import json
import zipfile

import pytest
import torch
from streamlit.testing.v1 import AppTest

from explorer.core import confinement
from explorer.evaluation.course import CourseReport, CourseRow, Share
from explorer.jobs import Guard, Store
from explorer.jobs.access import PASSWORD
from explorer.models import confined, zoo
from explorer.ui import model_course, session
from explorer.ui.add_model import acts, form
from explorer.ui.add_model.form import slug
from tests.confining import confining
from tests.data.serving import serving
from tests.evaluation.published_weights import NETWORK, offer
from tests.ui.app import open_page, texts

NOISY = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.fc = nn.Linear(3072, 10)

    def forward(self, x):
        return self.fc((x + 0.1 * torch.randn_like(x)).flatten(1))
"""


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("EXPLORER_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("EXPLORER_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(PASSWORD, raising=False)
    kept = (session.store, acts.adder, model_course.reports, model_course.measurer)
    for one in kept:
        one.clear()
    yield tmp_path
    for one in kept:
        one.clear()
    confined.pool.end()


@pytest.fixture
def remote(monkeypatch, place) -> None:
    """An app that can be reached from other computers, with a password."""
    monkeypatch.setenv(PASSWORD, "secret")
    guarded = Store(place / "runs", guard=Guard("0.0.0.0"))
    monkeypatch.setattr("explorer.ui.permission.store", lambda: guarded)


def opened(**state) -> AppTest:
    app = open_page("models", **{"add.open": True, **state})
    assert not app.exception
    return app


def press(app: AppTest, key: str) -> AppTest:
    app.button(key=key).click().run()
    assert not app.exception
    return app


def finished(app: AppTest, job: str = "add.job") -> AppTest:
    kept = app.session_state[job]
    kept = kept[1] if isinstance(kept, tuple) else kept
    assert kept.wait(120)
    app.run()
    assert not app.exception
    return app


def packed(files: dict[str, str]) -> bytes:
    room = io.BytesIO()
    with zipfile.ZipFile(room, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return room.getvalue()


@confining
def test_a_random_submission_comes_in_by_the_page_stands_in_the_choosers_and_leaves_again(place):
    app = opened()
    assert app.button(key="add.add").disabled
    app.file_uploader(key="add.zip").upload("Group A.zip", packed({"model.py": NOISY})).run()
    app = finished(press(app, "add.add"))
    said = texts(app)
    assert "stands in every chooser now, as cifar10/group-a" in said and "of 200 sample images right" in said, said
    assert "draws at random" in said and "an untrained network" in said
    assert app.session_state["models.look"] == "cifar10/group-a"  # its card is open
    assert "cifar10/group-a" in app.dataframe[0].value["Name"].tolist()
    app.session_state["wanted page"] = "attack"
    app.run()
    future = app.session_state["future"]
    future.cancel()
    assert future.wait(60) and any("group-a" in option for option in app.selectbox(key="model").options)
    app.session_state["wanted page"], app.session_state["models.look"] = "models", "cifar10/group-a"
    app.run()
    app = finished(press(app, "add.check"), "add.checked job")
    assert texts(app).count("of 200 sample images right") >= 2
    app = press(app, "add.remove")
    assert "cifar10/group-a was removed." in texts(app)
    assert not list((place / "runs").rglob("model.py")) and not list((place / "runs" / "zoo").rglob("*.*"))
    actions = [json.loads(line)["action"] for line in (place / "runs" / "audit.jsonl").read_text().splitlines()]
    assert actions == ["add model", "check model", "remove model"]


@confining
def test_weights_of_a_network_here_come_in_with_what_was_done_to_them():
    state = {f"module.{key}": value for key, value in zoo.load("cifar10/lenet").state_dict().items()}
    room = io.BytesIO()
    torch.save({"model": state, "epoch": 7}, room)
    app = opened(**{"add.kind": "known"})
    app.file_uploader(key="add.weights").upload("best.pt", room.getvalue())
    app.text_input(key="add.title").set_value("My LeNet").run()
    offered = app.selectbox(key="add.network.ours.cifar10").options
    assert any("preact-resnet18" in option for option in offered)
    app.selectbox(key="add.network.ours.cifar10").select("cifar10/lenet").run()
    app = finished(press(app, "add.add"))
    said = texts(app)
    assert "**My LeNet** stands in every chooser now, as cifar10/my-lenet" in said, said
    assert "stripped the prefix 'module.'" in said and "left out epoch" in said


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"add.title": "lenet"}, "cifar10/lenet is there already"),
        (
            {"add.title": "x", "add.source": "torchvision", "add.range": "own", "add.mean": "half"},
            "mean must be numbers",
        ),
        ({"add.title": "!"}, "name must be"),
    ],
)
def test_what_cannot_be_is_one_sentence_and_starts_nothing(place, state, words, monkeypatch):
    monkeypatch.setattr(confinement, "bwrap", lambda: "/usr/bin/bwrap")
    app = opened(**{"add.kind": "known"} | state)
    app.file_uploader(key="add.weights").upload("w.pt", b"x").run()
    if "add.mean" in state:
        app.text_input(key="add.mean").set_value("half").run()
    app.text_input(key="add.title").set_value(state["add.title"]).run()
    app = press(app, "add.add")
    assert [warning.value for warning in app.warning if words in warning.value], texts(app)
    assert acts.adder().latest is None and not (place / "runs" / "zoo").exists()


@confining
def test_a_network_of_torchvisions_is_downloaded_and_joins_the_photographs(monkeypatch):
    with serving() as server:
        offer(server, monkeypatch)
        monkeypatch.setattr(form, "OFFERED", {NETWORK: "ShuffleNet"})
        app = opened(**{"add.kind": "download"})
        (data,) = server.files.values()
        assert f"Download {len(data) / 2**20:.0f} MB and add" in [button.label for button in app.button]
        assert "non-commercial" in texts(app) and "% top 1" in app.selectbox(key="add.torchvision").options[0]
        assert server.requests == []  # nothing is fetched before somebody asks for it
        server.cut = 0.5
        app = finished(press(app, "add.add"))
        assert "the connection ended after" in texts(app) and not zoo.roots()[0].joinpath("photos").exists()
        server.cut = 1.0
        app = finished(press(app, "add.add"))
    assert "stands in every chooser now, as photos/shufflenet-v2-x0-5" in texts(app), texts(app)
    assert app.session_state["models.look"] == "photos/shufflenet-v2-x0-5"


def test_without_confinement_the_panel_says_why_not_and_offers_nothing(monkeypatch):
    monkeypatch.setattr(confinement, "bwrap", lambda: None)
    app = opened()
    assert "--unconfined" in texts(app) and not app.file_uploader
    monkeypatch.setenv(confinement.ALLOWED, "1")
    app.run()
    assert "It can read every file" in texts(app) or "read every file" in texts(app)
    assert app.file_uploader(key="add.zip")


def test_from_other_computers_the_password_comes_first(remote, monkeypatch):
    monkeypatch.setattr(confinement, "bwrap", lambda: "/usr/bin/bwrap")
    app = opened()
    assert not app.file_uploader
    app.text_input(key="permission.typed.add").set_value("wrong").run()
    assert "not the instructor's password" in texts(app) and not app.file_uploader
    app.text_input(key="permission.typed.add").set_value("secret").run()
    assert app.file_uploader(key="add.zip")
    app.session_state["permission.password"] = "old"  # it was changed since: each act asks again
    app.file_uploader(key="add.zip").upload("a.zip", b"x").run()
    app = press(app, "add.add")
    assert "not the instructor's password" in texts(app) and acts.adder().latest is None


@pytest.mark.parametrize(("text", "name"), [("Group A (v2)", "group-a-v2"), ("ä", ""), ("../x", "x")])
def test_a_title_becomes_a_name(text, name):
    assert slug(text) == name


def test_the_course_block_measures_once_for_everybody_and_shows_both_protocols(monkeypatch):
    rows = (
        CourseRow("natural", Share(630, 1024), Share(20, 32), Share(600, 1024)),
        CourseRow("PGD Linf 0.03", None, None, Share(1, 1024)),
    )
    asked = []

    def report(name, *, samples, progress):
        asked.append((name, samples))
        progress("natural")
        return CourseReport(name, rows, ("They differ because of this.",))

    monkeypatch.setattr(model_course, "course_report", report)
    app = opened(**{"add.open": False, "course.open": True, "models.look": "cifar10/lenet-rat", "course.samples": 5})
    app = press(app, "course.measure")
    assert model_course.measurer().latest.wait(30)
    app.run()
    said = texts(app)
    assert (
        "| natural | 61.5 % [58.5, 64.5], n=1,024 | 62.5 % [45.3, 77.1], n=32 | 58.6 % [55.6, 61.6], n=1,024 |" in said
    ), said
    assert "| PGD L∞ 0.03 | – | – | 0.1 % " in said and "They differ because of this." in said
    assert asked == [("cifar10/lenet-rat", 5)]
    other = opened(**{"add.open": False, "course.open": True, "models.look": "cifar10/lenet-rat", "course.samples": 5})
    assert "61.5 %" in texts(other) and len(asked) == 1
