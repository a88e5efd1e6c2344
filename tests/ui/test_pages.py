"""Every page runs without a browser: its first view, its controls, its refusals."""

import dataclasses
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from explorer.attacks import ATTACKS, BLACK_BOX, GROUPS
from explorer.core import NORMS
from explorer.core.ball import WHOLE
from explorer.data.pictures import to_png
from explorer.defenses import GROUPS as RECIPE_GROUPS
from explorer.defenses import RECIPES
from explorer.engine import AttackRequest, Future
from explorer.models import zoo
from explorer.ui.attack import pace
from explorer.ui.inputs.choices import families, model_labels, model_titles
from explorer.ui.text.choosers import attack_order, model_label
from tests.ui.app import ENTRY, ended, open_page, texts

PAGES = sorted(path.stem for path in (Path(__file__).parents[2] / "pages").glob("*.py"))


open_app = partial(open_page, "")


@pytest.fixture(scope="module")
def played() -> AppTest:
    return ended(open_app())


def test_the_page_opens_with_an_attack_already_played(played):
    assert not played.exception
    assert "Fooled." in texts(played) or "Holds." in texts(played)
    assert played.query_params["model"] == played.session_state["model"]


def test_a_look_at_a_running_walk_sends_little_but_its_new_frames(played):
    sent = [element.proto for element in played.get("bidi_component") if "trace_player" in element.proto.component_name]
    assert len(sent) == 1 and sent[0].ByteSize() < 6_000  # neither the player's script nor its style


def end_work(app):
    """Cancel what a page has begun: all tests share one session, and it may not have many runs at once."""
    futures = [value for value in app.session_state._state.filtered_state.values() if isinstance(value, Future)]
    for future in futures:
        future.cancel()
    assert all(future.wait(60) for future in futures)


@pytest.mark.parametrize("page", PAGES)
def test_every_page_runs(page):
    app = AppTest.from_file(ENTRY, default_timeout=60)
    app.session_state["wanted page"] = page
    app.run()
    assert not app.exception
    assert app.header or app.title  # it says something
    end_work(app)


@pytest.mark.parametrize("page", PAGES)
def test_what_somebody_is_choosing_is_not_taken_back(page):
    """A value set in the script goes to the browser, over what was typed or chosen there in the meantime."""
    app = AppTest.from_file(ENTRY, default_timeout=60)
    app.session_state["wanted page"] = page
    app.run()
    end_work(app)
    app.run()
    app.run()
    controls = [node for node in app._tree if hasattr(getattr(node, "proto", None), "set_value")]
    assert controls or page == "models"
    assert [node.key for node in controls if node.proto.set_value and not node.proto.disabled] == []


@pytest.mark.parametrize(
    ("attack", "norm"),
    [(entry.key, entry.cls.threats[0]) for entry in ATTACKS] + [("fmn", norm) for norm in NORMS[::-1] if norm != "l2"],
)
def test_every_attack_plays_and_every_norm(attack, norm):
    query = {
        "data": "cifar10",
        "image": "2",
        "model": zoo.cards()[0].name,
        "attack": attack,
        "norm": norm,
        "eps": "3" if norm in WHOLE else "0.1",
    }
    weak = ",".join(f"{name}:{value}" for name, value in ATTACKS[attack].presets["weak"].items())
    app = ended(open_app(query | ({"with": weak} if weak else {})))
    assert not app.exception
    assert app.session_state["norm"] == norm and app.session_state["attack"] == attack
    assert ("Black-box" if ATTACKS.entry(attack).group in BLACK_BOX else "White-box") in texts(app)
    assert "settings have changed" not in texts(app)
    minimal = ATTACKS[attack].budget == "minimal"
    assert ("eps" in app.query_params) != minimal and any(
        n.label.startswith("eps") for n in app.number_input
    ) != minimal


def test_choosing_an_attack_offers_its_norms_only(played):
    app = ended(open_app())
    assert app.selectbox(key="norm").options == ["L∞", "L2"]
    app.selectbox(key="attack").set_value("cw").run()
    assert not app.exception and app.selectbox(key="norm").options == ["L2"]
    app.selectbox(key="attack").set_value("pgd").run()
    assert not app.exception and app.selectbox(key="norm").options == ["L∞", "L2"]


def test_the_attack_chooser_begins_with_the_basics_and_is_searched_by_what_an_attack_is(played):
    offered = played.selectbox(key="attack").options
    assert [option.split(" · ")[0] for option in offered[:4]] == ["FGSM", "PGD", "C&W", "DeepFool"]
    groups = [ATTACKS.entry(key).group for key in attack_order()[4:]]
    assert groups == sorted(groups, key=GROUPS.index) and len(offered) == len(list(ATTACKS))
    for wish, title in (
        ("black-box", "Square"),
        ("smallest change", "FAB"),
        ("transfer", "MI-FGSM"),
        ("noise", "Uniform noise"),
    ):
        found = [option.split(" · ")[0] for option in offered if wish in option]
        assert title in found and "PGD" not in found


def test_the_models_stand_in_their_families_and_are_searched_by_what_was_measured(played):
    cards = {model_label(card): card for card in zoo.cards() if card.dataset == "cifar10"}
    options = played.selectbox(key="model").options
    offered = [cards[label] for label in options]
    groups = [RECIPES.entry(card.recipe).group for card in offered]
    assert len(offered) == len(cards) and groups == sorted(groups, key=RECIPE_GROUPS.index)
    assert groups[0] == "no defence" and len(set(groups)) > 3
    assert [card.name for card in families() if card.dataset == "cifar10"] == [card.name for card in offered]
    found = {
        wish: [cards[o].name for o in options if wish in o]
        for wish in ("robust to", "certified at", "random", "baseline")
    }
    assert "cifar10/pgd-linf" in found["robust to"] and "cifar10/baseline" not in found["robust to"]
    assert found["baseline"][0] == "cifar10/baseline" and "cifar10/smoothed-0.5" in found["certified at"]
    assert {"cifar10/lwta", "cifar10/rat", "cifar10/lenet-rat"} <= set(found["random"])


def test_models_that_are_called_alike_are_told_apart_by_their_names(monkeypatch):
    """A recipe trained twice. Streamlit finds a choice again by its label: the other one would be chosen by itself."""
    twin = dataclasses.replace(zoo.card("cifar10/lenet"), name="cifar10/lenet-again")
    monkeypatch.setattr(zoo, "cards", lambda real=zoo.cards: [*real(), twin])
    monkeypatch.setitem(st.session_state, "dataset", "cifar10")
    for labels in (model_labels(), model_titles()):
        assert len(set(labels.values())) == len(labels) and labels[twin.name].endswith("· cifar10/lenet-again")
        assert "cifar10/baseline" not in labels["cifar10/baseline"]


def test_changed_settings_are_announced_and_played_on_the_button(played):
    app = ended(open_app())
    app.number_input(key="pgd.steps").set_value(3).run()
    assert "settings have changed" in texts(app)
    app.button(key="begin").click().run()
    ended(app)
    assert len(app.session_state["future"].latest.trace) == 5  # picture, start, three updates
    assert "settings have changed" not in texts(app)


def test_a_link_plays_the_very_same_walk():
    query = {"data": "cifar10", "image": "7", "model": zoo.cards()[0].name, "attack": "pgd", "norm": "linf",
             "eps": "0.03", "with": "steps:4", "seed": "11"}  # fmt: skip
    first, second = ended(open_app(query)), ended(open_app(query))
    traces = [app.session_state["future"].latest.trace for app in (first, second)]
    assert (traces[0].frames == traces[1].frames).all() and (traces[0].logits == traces[1].logits).all()
    assert "settings have changed" not in texts(first)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"model": "cifar10/nothing"}, "nothing"),
        ({"attack": "pgdd"}, "pgdd"),
        ({"eps": "8"}, "eps"),
        ({"eps": "lots"}, "eps"),
        ({"image": "999999"}, "image"),
        ({"norm": "l7"}, "norm"),
        ({"with": "steps:1000000000"}, "steps"),
        ({"with": "steps:1000,restarts:100"}, "steps"),
        ({"target": "unicorn"}, "unicorn"),
        ({"seed": "-1"}, "seed"),
        ({"image": "upload:0123456789abcdef"}, "upload"),
        ({"data": "imagenet"}, "imagenet"),
    ],
)
def test_a_link_that_cannot_be_followed_says_why_and_the_app_goes_on(change, word):
    query = {
        "data": "cifar10",
        "image": "2",
        "model": zoo.cards()[0].name,
        "attack": "pgd",
        "norm": "linf",
        "eps": "8/255",
    }
    app = open_app(query | change)
    assert not app.exception
    (sentence,) = [w.value for w in app.warning if "could not be followed" in w.value]
    assert word in sentence
    assert "White-box" in texts(ended(app))


def test_next_and_class_choose_pictures(played):
    app = ended(open_app())
    app.selectbox(key="class").set_value("cat").run()
    first = app.session_state["image"]
    next(b for b in app.button if b.label == "Next").click().run()
    assert app.session_state["image"] > first
    assert not app.exception


def test_a_picture_the_model_gets_right_is_found():
    app = ended(open_app())
    next(b for b in app.button if "gets right" in b.label).click().run()
    app.button(key="begin").click().run()
    trace = ended(app).session_state["future"].latest.trace
    assert trace.predicted[0] == trace.label


def test_cancel_stops_within_a_second():
    query = {"data": "cifar10", "image": "2", "model": zoo.cards()[0].name, "attack": "pgd", "norm": "linf", "eps": "8/255",
             "with": "steps:900"}  # fmt: skip
    app = open_app(query)
    future = app.session_state["future"]
    assert not future.finished
    asked = time.monotonic()
    app.button(key="cancel").click().run()
    assert future.wait(10) and time.monotonic() - asked < 5
    assert future.state == "cancelled"


def test_a_picture_is_shown_at_once_and_attacked_at_once_where_that_is_quick(monkeypatch):
    app = ended(open_app())
    monkeypatch.setattr(pace, "is_quick", lambda request: False)
    app.session_state["image"] = 318
    app = ended(app.run())
    snapshot = app.session_state["future"].latest
    assert len(snapshot.trace) == 1 and snapshot.result is None and "Not attacked yet" in texts(app)
    assert "settings have changed" not in texts(app) and app.query_params["image"] == "318"
    monkeypatch.setattr(pace, "is_quick", lambda request: True)
    monkeypatch.setattr(pace, "is_free", lambda mine: True)
    app.session_state["image"] = 319
    app = ended(app.run())
    assert app.session_state["future"].latest.result is not None and app.query_params["image"] == "319"


def test_another_attack_leaves_the_old_result_dimmed_where_it_may_take_long(monkeypatch):
    app = ended(open_app())
    monkeypatch.setattr(pace, "is_quick", lambda request: False)
    app.selectbox(key="attack").set_value("mifgsm").run()
    assert "Below stands the old result" in texts(app) and app.query_params["attack"] == "pgd"


def test_a_walk_of_this_kind_must_have_been_quick_here():
    request = AttackRequest("cifar10", 2, zoo.cards()[0].name, "pgd", {"steps": 37}).checked()

    def ended(seconds, cold=0.1, frames=11):
        return SimpleNamespace(seconds=seconds, cold=cold, trace=SimpleNamespace(frames=range(frames)))

    assert not pace.is_quick(request)
    pace.took(request, ended(0.4))
    assert pace.is_quick(dataclasses.replace(request, image=3)) and not pace.is_quick(
        dataclasses.replace(request, hyper={"steps": 38})
    )
    pace.took(request, ended(1.8))
    assert not pace.is_quick(request)
    pace.took(request, ended(2.2, cold=1.1))  # the first of a model
    assert pace.is_quick(request)
    pace.took(request, ended(2.2, cold=2.2, frames=2))  # of one step: the next one may take as long
    assert not pace.is_quick(request)


def test_a_link_may_name_an_attack_alone():
    app = ended(open_app({"attack": "fgsm"}))
    assert app.query_params["attack"] == "fgsm" and app.query_params["model"] == app.session_state["model"]
    assert not app.warning


def test_what_a_lecture_hides_is_not_there_and_the_attack_is():
    app = ended(open_app({"hide": "settings,gallery,verdict,explain"}))
    assert not app.exception and app.session_state["future"].latest.result is not None
    assert not app.number_input and "Fooled." not in texts(app)
    assert [s.value for s in app.header] == ["Look further"]
    assert "hide may name" in texts(open_app({"hide": "everything"}))


def test_what_does_nothing_is_not_asked_for():
    app = ended(open_app({"attack": "fgsm", "model": "cifar10/baseline"}))
    assert not {"draws per step", "seed"} & {n.label for n in app.number_input}
    app = ended(open_app({"attack": "fgsm", "model": "cifar10/lwta"}))
    assert {"draws per step", "seed"} <= {n.label for n in app.number_input}


def test_a_verdict_asks_what_next_and_the_button_goes_there():
    app = ended(open_app({"attack": "pgd", "model": "cifar10/baseline", "image": "317"}))
    assert "What next?" in texts(app)
    app.button(key="next step").click().run()
    app = ended(app)
    assert app.query_params["model"] == "cifar10/pgd-linf" and app.session_state["model"] == "cifar10/pgd-linf"


def test_a_picture_is_found_that_the_model_withstands():
    query = {
        "data": "cifar10",
        "image": "317",
        "model": "cifar10/pgd-linf",
        "attack": "fgsm",
        "norm": "linf",
        "eps": "1/255",
    }
    app = ended(open_app(query))
    next(b for b in app.button if b.label == "One this model withstands").click().run()
    assert not app.exception and app.session_state["image"] != 317
    app.button(key="begin").click().run()
    assert "Holds." in texts(ended(app))


def png(value: int) -> bytes:
    return to_png(np.full((3, 32, 32), value, np.uint8))


def test_several_own_pictures_stand_in_a_strip_and_are_gone_through():
    app = ended(open_app({"data": "cifar10", "image": "317", "model": "cifar10/lenet", "attack": "fgsm"}))
    files = [(f"{value}.png", png(value), "image/png") for value in (10, 120, 230)]
    app.file_uploader[0].set_value([*files, ("no.png", b"no picture", "image/png")]).run()
    assert not app.exception and [error.value for error in app.error if "no.png" in error.value]
    own = [app.session_state["image"]]
    for _ in range(3):
        app.button(key="picture.next").click().run()
        own.append(app.session_state["image"])
    assert own[3] == own[0] and len(set(own)) == 3 and all(str(one).startswith("upload:") for one in own)
    app.button(key="picture.previous").click().run()
    assert app.session_state["image"] == own[2]
    assert not app.exception and "no link" in "\n".join(caption.value for caption in app.caption)
    app.button(key="picture.random").click().run()  # among one's own, too, only what is asked for changes the choice
    chosen = app.session_state["image"]
    app.file_uploader[0].set_value(files).run()  # nothing new
    assert app.session_state["image"] == chosen and any(b.label == "Use this picture" for b in app.button)


def test_where_no_picture_is_withstood_that_is_said():
    query = {
        "data": "cifar10",
        "image": "317",
        "model": "cifar10/baseline",
        "attack": "pgd",
        "norm": "linf",
        "eps": "64/255",  # whatever pictures are drawn
    }
    app = ended(open_app(query | {"with": "steps:6"}))
    next(b for b in app.button if b.label == "One this model withstands").click().run()
    assert "withstood the attack on none of 8" in texts(app) and app.session_state["image"] == 317
