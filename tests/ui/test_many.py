"""The page of many pictures without a browser: its first view, links, refusals, and a change put on others."""

from functools import partial

import pytest
from streamlit.testing.v1 import AppTest

from explorer.models import zoo
from tests.ui.app import ended, open_page, texts

MODEL = next(card.name for card in zoo.cards() if not card.stochastic)
QUICK = {
    "data": "cifar10",
    "model": MODEL,
    "attack": "pgd",
    "norm": "linf",
    "eps": "8/255",
    "with": "steps:2",
    "count": "4",
}


open_app = partial(open_page, "many")


finished = partial(ended, key="many.future")


def press(app: AppTest, label: str) -> AppTest:
    return next(b for b in app.button if b.label == label).click().run()


def shown(app: AppTest):
    return app.session_state["many.future"].latest


@pytest.fixture(scope="module")
def quick() -> AppTest:
    return finished(open_app(QUICK))


def test_a_link_is_attacked_at_once_and_stays_in_the_address(quick):
    assert not quick.exception
    assert "that the model got right" in texts(quick) and "drawn at random from the bundled" in texts(quick)
    assert quick.query_params["count"] == "4" and quick.query_params["with"] == "steps:2"
    assert len(shown(quick).rows) == 4 and "settings have changed" not in texts(quick)


@pytest.mark.parametrize(
    ("change", "word"),
    [({"rows": "1,1"}, "each picture once"), ({"count": "33"}, "count"), ({"pick": "best"}, "pick"),
     ({"with": "steps:1000,restarts:100"}, "recorded steps"), ({"eps": "8"}, "8/255")],
)  # fmt: skip
def test_a_link_that_cannot_be_followed_says_why(change, word):
    app = open_app(QUICK | change)
    assert not app.exception
    (sentence,) = [w.value for w in app.warning if "could not be followed" in w.value]
    assert word in sentence
    app.session_state["many.future"].cancel()


def test_changed_settings_are_announced_and_tried_on_the_button():
    app = finished(open_app(QUICK))
    app.slider(key="many.count").set_value(2).run()
    assert "settings have changed" in texts(app)
    press(app, "Attack")
    finished(app)
    assert len(shown(app).rows) == 2 and "settings have changed" not in texts(app)
    before = shown(app).rows.tolist()
    finished(press(press(app, "Draw others"), "Attack"))
    assert shown(app).rows.tolist() != before and app.query_params["shuffle"] == "1"


def test_chosen_by_hand():
    app = finished(open_app({**QUICK, "rows": "5,2,9"}))
    assert not app.exception and shown(app).rows.tolist() == [5, 2, 9]
    assert app.radio(key="many.pick").value == "hand" and "stand for no others" in texts(app)
    press(app, "None")
    assert "No picture is chosen yet" in texts(app)
    press(app, "Attack")
    assert texts(app).count("No picture is chosen yet") == 1  # said once, however often it is asked for


def test_the_class_drawn_from_cannot_be_wished_for():
    app = finished(open_app({**QUICK, "class": "cat", "target": "dog"}))
    assert not app.exception and "of class cat" in texts(app)
    assert "cat" not in app.selectbox(key="target").options and app.selectbox(key="target").value == "dog"


def test_watching_one_opens_the_attack_page_with_the_equal_request():
    app = finished(open_app(QUICK))
    row = int(shown(app).rows[1])
    app.session_state["many.picked"] = row
    app.run()
    press(app, "Watch this one")
    assert not app.exception
    asked = app.session_state["shown"]
    assert asked == shown(app).request.single(row) and app.session_state["image"] == row
    assert app.session_state["future"].wait(60)


def test_a_change_is_put_on_others():
    app = finished(open_app(QUICK))
    app.number_input(key="many.n").set_value(12).run()
    press(app, "Put it on others")
    ended(app, "many.applied")
    assert not app.exception and "Put on others, it fools" in texts(app)
    made = app.session_state["many.applied"].latest
    assert made.n == 12 and made.given == app.selectbox(key="many.given").value
    press(app, "Attack")
    assert app.session_state["many.applied"] is None  # it belonged to the strip before


def test_one_change_for_all_is_put_on_others_unasked(monkeypatch):
    monkeypatch.setattr("explorer.ui.many.others.MAX_OTHERS", 16)
    app = finished(open_app({**QUICK, "attack": "universal", "norm": "linf"}))
    ended(app, "many.applied")
    assert not app.exception and "one change for all" in texts(app) and "Put on others, it fools" in texts(app)
    assert app.session_state["many.applied"].latest.given is None


def test_the_smallest_change_has_no_eps():
    query = {**QUICK, "attack": "deepfool", "norm": "l2", "with": "steps:5"}
    app = finished(open_app({k: v for k, v in query.items() if k != "eps"}))
    assert not app.exception and "A change was found for" in texts(app) and "median" in texts(app)
    assert "eps" not in app.query_params


def test_cancel_keeps_what_was_computed():
    app = open_app(QUICK | {"with": "steps:900", "count": "8"})
    future = app.session_state["many.future"]
    next(future.events())
    app.button(key="cancel").click().run()
    assert future.wait(10) and future.state == "cancelled"
    assert "Stopped. What was computed until then is shown." in texts(app.run())


def test_a_random_model_is_counted_in_fresh_draws():
    random = next(card.name for card in zoo.cards() if card.stochastic)
    app = finished(open_app(QUICK | {"model": random, "count": "3", "with": "steps:1"}))
    assert not app.exception and "one draw per step" in texts(app)
    strip = shown(app)
    if strip.right.any():  # with all wrong before any attack there is nothing to judge
        assert strip.verdict.draws == 20 and "majority of 20 fresh draws" in texts(app)
