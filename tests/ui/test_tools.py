"""The tools under a finished walk: asked for before they compute, kept for the walk they belong to, dropped with it."""

import pytest
from streamlit.testing.v1 import AppTest

from explorer.engine import Busy
from explorer.engine.masking import Tried
from tests.engine.conftest import add
from tests.ui.app import ENTRY, ended, open_page, texts

QUICK = {
    "data": "cifar10",
    "image": "8",
    "model": "cifar10/gaussian-0.25",
    "attack": "fgsm",
    "norm": "linf",
    "eps": "8/255",
}


KEYS = {"edge": "tools.edge", "sweep": "tools.sweep", "smallest eps": "tools.smallest", "slice": "tools.slice"}


def nothing_ran(app: AppTest) -> bool:
    return all(app.session_state[key] is None for key in KEYS.values())


def played(**changes) -> AppTest:
    return ended(open_page(query=QUICK | changes))


def chosen(app: AppTest, tool: str) -> AppTest:
    app.session_state["tool"] = tool
    return app.run()


def computed(app: AppTest, tool: str) -> AppTest:
    app.button(key=f"{tool}.run").click().run()
    assert app.session_state[KEYS[tool]].wait(60)
    app.run()
    assert not app.exception
    return app


def test_nothing_is_computed_unasked():
    app = played()
    assert "Look further" in [title.value for title in app.header]
    assert nothing_ran(app)
    for tool in ("smallest eps", "edge", "sweep", "slice", "save"):
        chosen(app, tool)
        assert not app.exception and nothing_ran(app)


def test_the_smallest_eps_is_found_and_its_walk_played():
    app = chosen(played(), "smallest eps")
    app.selectbox(key="smallest.width").set_value(0.1).run()
    computed(app, "smallest eps")
    search = app.session_state[KEYS["smallest eps"]].latest
    assert search.ended == "done" and search.fooled and "An upper bound" in texts(app)
    app.button(key="play.succeeds").click().run()
    ended(app)
    assert not app.exception and app.session_state["shown"].eps == pytest.approx(search.fooled.eps)
    assert app.session_state["eps.linf"] == pytest.approx(255 * search.fooled.eps)
    assert app.session_state["future"].latest.result.verdict.reached[0]  # the very walk that was probed
    assert app.session_state[KEYS["smallest eps"]] is None  # it belonged to the other walk
    assert "settings have changed" not in texts(app)


def test_how_far_the_edge_is_and_the_nearest_walk_is_played():
    app = chosen(played(norm="l2", eps="0.5"), "edge")
    app.selectbox(key="edge.passes").set_value(300).run()
    computed(app, "edge")
    found = app.session_state[KEYS["edge"]].latest
    assert found.ended and found.best is not None and found.spent <= 300 and found.left_out
    assert "The smallest change known" in texts(app) and "No room in 300 passes" in texts(app)
    app.button(key="play.edge").click().run()
    ended(app)
    assert not app.exception and app.session_state["shown"].attack == found.best.request.attack


def test_the_edge_is_a_question_about_a_norm():
    app = chosen(played(attack="rotation", norm="rotation", eps="1", **{"with": "tries:3"}), "edge")
    assert not app.exception and "is a question about a norm" in texts(app)
    assert "rotation and shift up to 30° and 3 pixels" in texts(app) and "The picture is turned by" in texts(app)


def test_twelve_sizes_are_attacked_at_once_and_the_walk_at_the_chosen_one_is_played():
    app = computed(chosen(played(), "sweep"), "sweep")
    now = app.session_state[KEYS["sweep"]].latest
    assert now.finished and len(now.eps) == 12 and "first reached at eps" in texts(app)
    slider = app.select_slider(key="sweep.eps")
    assert slider.value == int(abs(now.eps - now.request.eps).argmin())  # its own size at first
    slider.set_value(11).run()
    assert not app.exception and now.endings[11].value in texts(app)
    app.button(key="sweep.play").click().run()
    ended(app)
    assert not app.exception and app.session_state["shown"].eps == pytest.approx(float(now.eps[11]))


def test_a_slice_is_drawn_and_explained():
    app = chosen(played(), "slice")
    app.selectbox(key="slice.size.False").set_value(31).run()
    computed(app, "slice")
    assert app.session_state[KEYS["slice"]].latest.passes == 31 * 31
    assert "What the model sees" in texts(app) and "3,072 dimensions" in texts(app)
    app.selectbox(key="slice.extent").set_value("near").run()
    assert "The settings have changed" in texts(app) and not app.exception


def test_saving_offers_pictures_arrays_conditions_and_the_script():
    app = chosen(played(), "save")
    assert not app.exception
    assert (
        len(app.get("download_button")) == 7
    )  # three pictures, all in one, arrays, conditions, and the player as a page
    assert any('saved = np.load("gaussian-0.25-fgsm-linf8of255-image8.npz"' in block.value for block in app.code)
    assert "A picture is rounded to 8 bits" in texts(app)


def test_a_minimal_attack_says_its_distance_itself():
    app = chosen(played(attack="deepfool", norm="l2"), "smallest eps")
    assert "the distance above is its answer" in texts(app)
    assert "smallest eps.run" not in [button.key for button in app.button]


def test_what_cannot_be_started_is_one_sentence():
    app = chosen(played(attack="deepfool", norm="l2"), "slice")
    still = app.session_state["future"].latest
    still.trace.frames[still.result.best] = still.trace.frames[0]  # as if the attack had changed nothing
    app.button(key="slice.run").click().run()
    assert not app.exception and "The attack changed nothing" in texts(app)


def test_a_busy_engine_and_a_failed_run_are_sentences(monkeypatch):
    app = chosen(played(), "smallest eps")
    monkeypatch.setattr("explorer.ui.attack.smallest.smallest_work", _busy)
    app.button(key="smallest eps.run").click().run()
    assert not app.exception and "The device is busy" in texts(app)
    monkeypatch.setattr("explorer.ui.attack.smallest.smallest_work", _failing)
    app.button(key="smallest eps.run").click().run()
    app.session_state[KEYS["smallest eps"]].wait(30)
    app.run()
    assert not app.exception and "left the range of numbers" in texts(app)


def _busy(*_):
    raise Busy("The device is busy: 64 runs are waiting. Try again in a moment.")


def _failing(*_):
    def work():
        raise FloatingPointError("the logits are not finite")
        yield

    return work


def test_what_a_pattern_means_stands_beside_the_verdict():
    app = AppTest.from_file(ENTRY, default_timeout=60)
    for key, value in (QUICK | {"model": "cifar10/pgd-linf", "image": "2", "eps": "0.0004"}).items():
        app.query_params[key] = value
    square = Tried("Square", "black-box", "linf", 0.0003, 0.0003, True, 1, 0.0)
    app.session_state["tried"] = {("cifar10", 2, "cifar10/pgd-linf", None, 6): {"earlier": square}}
    ended(app.run())
    assert "looks like gradient masking" in texts(app) and "Square reached the goal" in texts(app)


def test_a_network_that_settles_is_looked_into(tmp_path, monkeypatch):
    layers = {"dictionaries": [[4, 4, 2], [6, 4, 2]], "inference": "deep", "iterations": 2}
    add(tmp_path, "tiny-pursuit", "fashion_mnist", architecture="pursuit-net", **layers)
    monkeypatch.setenv("EXPLORER_CHECKPOINTS", str(tmp_path))
    app = chosen(played(data="fashion_mnist", model="fashion_mnist/tiny-pursuit"), "inside")
    app.button(key="settling.run").click().run()
    assert app.session_state["tools.settling"].wait(60)
    slider = app.run().slider(key="settling.steps")
    assert slider.value == 2 and "its reconstruction, off by" in texts(app)
    before = texts(app)
    slider.set_value(16).run()
    assert not app.exception and texts(app) != before
    chosen(played(), "inside")
    assert not app.exception


def test_the_winners_of_an_lwta_network_are_shown_layer_by_layer(tmp_path, monkeypatch):
    add(tmp_path, "tiny-lwta", "cifar10", width=4, units=2)
    monkeypatch.setenv("EXPLORER_CHECKPOINTS", str(tmp_path))
    app = chosen(played(model="cifar10/tiny-lwta"), "inside")
    app.button(key="winners.run").click().run()
    assert app.session_state["tools.winners"].wait(60)
    app.run()
    assert "what chance alone changes, draw 2" in texts(
        app
    ) and "Layer 1: one small map for each of its 2 blocks" in texts(app)
    app.select_slider(key="winners.layer").set_value(5).run()
    assert not app.exception and "Layer 5: one small map" in texts(app)
