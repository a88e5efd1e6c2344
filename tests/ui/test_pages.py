"""Every page runs without a browser: its first view, its controls, its refusals."""

import time
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from explorer.attacks import ATTACKS, BLACK_BOX, GROUPS
from explorer.defenses import GROUPS as RECIPE_GROUPS
from explorer.defenses import RECIPES
from explorer.engine import Future
from explorer.models import zoo
from explorer.ui import controls

ENTRY = str(Path(__file__).parents[1] / "entry.py")
PAGES = sorted(path.stem for path in (Path(__file__).parents[2] / "pages").glob("*.py"))


def open_app(query: dict[str, str] | None = None) -> AppTest:
    app = AppTest.from_file(ENTRY, default_timeout=60)
    for key, value in (query or {}).items():
        app.query_params[key] = value
    return app.run()


def finished(app: AppTest) -> AppTest:
    future = app.session_state["future"]
    assert future.wait(60)
    return app.run()


def texts(app: AppTest) -> str:
    return "\n".join(
        element.value for kind in (app.markdown, app.error, app.success, app.warning, app.info) for element in kind
    )


@pytest.fixture(scope="module")
def played() -> AppTest:
    return finished(open_app())


def test_the_page_opens_with_an_attack_already_played(played):
    assert not played.exception
    assert "Fooled." in texts(played) or "Holds." in texts(played)
    assert played.query_params["model"] == played.session_state["model"]


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
    assert app.subheader or app.title  # it says something
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
    assert [node.key for node in controls if node.proto.set_value] == []


@pytest.mark.parametrize(("attack", "norm"), [(entry.key, norm) for entry in ATTACKS for norm in entry.cls.norms])
def test_every_attack_plays_in_every_norm_it_has(attack, norm):
    query = {
        "data": "cifar10",
        "image": "2",
        "model": zoo.cards()[0].name,
        "attack": attack,
        "norm": norm,
        "eps": "0.1",
    }
    weak = ",".join(f"{name}:{value}" for name, value in ATTACKS[attack].presets["weak"].items())
    app = finished(open_app(query | ({"with": weak} if weak else {})))
    assert not app.exception
    assert app.session_state["norm"] == norm and app.session_state["attack"] == attack
    assert ("Black-box" if ATTACKS.entry(attack).group in BLACK_BOX else "White-box") in texts(app)
    assert "settings have changed" not in texts(app)
    minimal = ATTACKS[attack].budget == "minimal"
    assert ("eps" in app.query_params) != minimal and any(
        n.label.startswith("eps") for n in app.number_input
    ) != minimal


def test_choosing_an_attack_offers_its_norms_only(played):
    app = finished(open_app())
    assert app.selectbox(key="norm").options == ["Linf", "L2"]
    app.selectbox(key="attack").set_value("cw").run()
    assert not app.exception and app.selectbox(key="norm").options == ["L2"]
    app.selectbox(key="attack").set_value("pgd").run()
    assert not app.exception and app.selectbox(key="norm").options == ["Linf", "L2"]


def test_the_chooser_names_the_groups_in_their_order(played):
    shown = [option.rpartition(" · ")[2] for option in played.selectbox(key="attack").options]
    assert shown == sorted(shown, key=GROUPS.index) and {entry.group for entry in ATTACKS} == set(shown)


def test_the_models_stand_in_their_families(played):
    cards = {card.title: card for card in zoo.cards() if card.dataset == "cifar10"}
    offered = [cards[title] for title in played.selectbox(key="model").options]
    groups = [RECIPES.entry(card.recipe).group for card in offered]
    assert len(offered) == len(cards) and groups == sorted(groups, key=RECIPE_GROUPS.index)
    assert groups[0] == "no defence" and len(set(groups)) > 3
    assert [card.name for card in controls.families() if card.dataset == "cifar10"] == [card.name for card in offered]


def test_changed_settings_are_announced_and_played_on_the_button(played):
    app = finished(open_app())
    app.number_input(key="pgd.steps").set_value(3).run()
    assert "settings have changed" in texts(app)
    app.button(key="begin").click().run()
    finished(app)
    assert len(app.session_state["future"].latest.trace) == 5  # picture, start, three updates
    assert "settings have changed" not in texts(app)


def test_a_link_plays_the_very_same_walk():
    query = {"data": "cifar10", "image": "7", "model": zoo.cards()[0].name, "attack": "pgd", "norm": "linf",
             "eps": "0.03", "with": "steps:4", "seed": "11"}  # fmt: skip
    first, second = finished(open_app(query)), finished(open_app(query))
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
    assert "White-box" in texts(finished(app))


def test_next_and_class_choose_pictures(played):
    app = finished(open_app())
    app.selectbox(key="class").set_value("cat").run()
    first = app.session_state["image"]
    next(b for b in app.button if b.label == "Next").click().run()
    assert app.session_state["image"] > first
    assert not app.exception


def test_a_picture_the_model_gets_right_is_found():
    app = finished(open_app())
    next(b for b in app.button if "gets right" in b.label).click().run()
    app.button(key="begin").click().run()
    trace = finished(app).session_state["future"].latest.trace
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
