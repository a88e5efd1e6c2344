"""Photographs and added datasets on the pages: chosen, attacked, and their classes found."""

import io
from pathlib import Path

import pytest
import streamlit as st
from PIL import Image
from streamlit.testing.v1 import AppTest

from explorer.data import adding
from explorer.ui.inputs import own_pictures
from tests.data import own
from tests.ui.app import ENTRY, ended, texts
from tests.ui.test_pages import end_work, open_app

PHOTO = {"data": "photos", "image": "6", "model": "photos/efficientnet-lite0", "with": "steps:1", "eps": "8/255"}


@pytest.fixture
def photo():
    app = ended(open_app(PHOTO))
    yield app
    end_work(app)


def test_a_photograph_is_fooled_and_its_chooser_has_only_classes_that_have_pictures(photo):
    assert not photo.exception and "Fooled." in texts(photo)
    target = next(box for box in photo.selectbox if box.key == "target")
    assert len(target.options) == 1000  # any wrong class, and all but the true one
    shown = next(box for box in photo.selectbox if box.key == "class").options
    assert shown[0] == "all classes" and len(shown) == 12  # eleven classes: two are palaces


def sent(name="photo.jpg", size=(400, 300), kind="JPEG", **options):
    buffer = io.BytesIO()
    Image.effect_noise(size, 60).convert("RGB").save(buffer, kind, **options)

    class File(io.BytesIO):
        file_id = f"{name}-{size}"

    file = File(buffer.getvalue())
    file.name = name
    return file


@pytest.fixture
def session(monkeypatch):
    """A session's state, and an engine that keeps what it is given."""
    state, kept = {"image": 0}, {}

    class Engine:
        def keep_upload(self, key, pixels):
            kept[key] = pixels

    monkeypatch.setattr(st, "session_state", state)
    monkeypatch.setattr(own_pictures, "engine", Engine)
    return state


def test_a_crop_that_is_moved_is_another_picture_and_stays_the_chosen_one(session):
    file = sent()
    session[own_pictures.FILES] = [file]
    assert own_pictures._take("photos", [file]) == []
    (before,) = own_pictures.own_pictures("photos")
    own_pictures.choose(before)
    session[own_pictures.shows_key(before.picture)] = "toaster"
    session[own_pictures._key("photos", file.file_id, "across")] = 100
    own_pictures._look_again("photos", before)
    (now,) = own_pictures.own_pictures("photos")
    assert now.picture != before.picture and session["image"] == now.picture
    assert session[own_pictures.shows_key(now.picture)] == "toaster" and now.look.across == 1.0
    assert any("Cropped at 100, 0" in note for note in now.upload.notes)


def test_a_file_that_is_refused_is_told_and_what_was_read_stays(session):
    good, bad = sent(), sent("drawing.bmp", kind="BMP")
    own_pictures._take("photos", [good])
    assert "is a BMP" in own_pictures._take("photos", [good, bad])[0]
    assert len(own_pictures.own_pictures("photos")) == 1


def test_an_added_dataset_is_offered_for_training(tmp_path, monkeypatch):
    monkeypatch.setenv("EXPLORER_DATA", str(tmp_path))
    adding.add("three", own.image_folder(tmp_path / "pictures", {"train": (3, 2), "test": (1, 1)}, 32))
    app = AppTest.from_file(ENTRY, default_timeout=60)
    app.switch_page(str(Path(ENTRY).parents[1] / "pages" / "training.py")).run()
    box = next(box for box in app.selectbox if box.key == "training.dataset")
    assert "three" in box.options
    box.set_value("three").run()
    assert not app.exception


def test_where_a_dataset_has_one_model_two_attacks_on_it_are_compared():
    app = AppTest.from_file(ENTRY, default_timeout=60)
    app.session_state["wanted page"] = "compare"
    app.session_state["attack"] = "fgsm"
    app.run()
    next(box for box in app.selectbox if box.key == "dataset").set_value("photos").run()
    assert not app.exception and not app.error
    assert (
        app.session_state["models"] == ["photos/efficientnet-lite0"] and len(app.session_state["compare.attacks"]) == 1
    )
    end_work(app)
