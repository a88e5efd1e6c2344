"""The page of feature space without a browser: what travels to the browser, its first view, links, refusals, an attack."""

import io
import sys
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

from explorer.core import InvalidValue
from explorer.data import raw
from explorer.engine.featurespace import CloudRequest
from explorer.engine.mapmaking import MapMaker
from explorer.features import NoMap
from explorer.features.maps import Maps
from explorer.models import zoo
from explorer.plots.theme import CLASS_SHAPES
from explorer.ui.components import messages
from explorer.ui.components.features_map.packing import MAP, SHEET, Ground, Moves, pack, sheet
from explorer.ui.features import choice
from explorer.ui.features import making as map_making
from explorer.ui.text import features as features_words
from tests.ui.app import ended, open_page, texts

MODEL, BESIDE = "cifar10/baseline", "cifar10/pgd-linf"
ATTACKED = {"attack": "pgd", "norm": "linf", "eps": "8/255", "with": "steps:1", "class": "frog", "count": "3"}
LINK = {"data": "cifar10", "model": MODEL}


open_app = partial(open_page, "features")


def finished(app: AppTest) -> AppTest:
    ended(app, "features.maps")
    return app if app.session_state["features.future"] is None else ended(app, "features.future")


# What travels to the browser


def ground(dims: int = 2, n: int = 6, **more) -> Ground:
    rng = np.random.default_rng(0)
    axes = [f"axis {k}" for k in range(dims)]
    return Ground(
        "A model", axes, rng.normal(size=(n, dims)).astype("f4"), rng.normal(size=(3, dims)).astype("f4"), **more
    )


def moves(lanes: int = 1, n: int = 2, frames: int = 4, dims: int = 2) -> Moves:
    rng = np.random.default_rng(1)
    return Moves(
        rows=np.array([5, 300]),
        labels=np.array([0, 1]),
        paths=[rng.normal(size=(frames, n, dims)).astype("f4") for _ in range(lanes)],
        predicted=[np.zeros((frames, n), int)] * lanes,
        attacked=[np.array([True, False])] * lanes,
        off=[np.array([True, False])] * lanes,
        steps=[["before", "start", "step 1 of 1", "the best found"]] * lanes,
        images=[np.full((n, 3, 4, 4), 0.5, "f4")] * lanes,
        name="1",
    )


def test_places_classes_and_paths_arrive_as_they_are():
    regions = np.array([[0, 1], [2, 1]])
    one, went = ground(regions=regions, extent=(0.0, 2.0, -1.0, 1.0)), moves()
    head, arrays = messages.unpack(
        MAP, pack([one], np.arange(6) + 999, np.array([0, 1, 2, 0, 1, 2]), ("a", "b", "c"), "cifar10", went)
    )
    np.testing.assert_array_equal(arrays["points0"], one.points)
    np.testing.assert_array_equal(arrays["path0"], went.paths[0])
    np.testing.assert_array_equal(arrays["regions0"], regions)
    assert arrays["rows"].tolist() == [999, 1000, 1001, 1002, 1003, 1004] and arrays["picks"].tolist() == [5, 300]
    assert arrays["images0"].shape == (2, 4, 4, 3) and set(arrays["images0"].flatten().tolist()) == {128}
    assert head["shapes"] == list(CLASS_SHAPES[:3]) and head["lanes"][0]["steps"][-1] == "the best found"
    assert head["moves"]["size"] == [4, 4, 3] and head["lanes"][0]["extent"] == [0, 2, -1, 1]


def test_maps_of_other_images_and_paths_that_do_not_fit_are_refused():
    rows, kinds = np.arange(6), np.zeros(6, int)
    with pytest.raises(InvalidValue, match="same 6 images"):
        pack([ground(), ground(n=5)], rows, kinds, ("a",), "cifar10")
    with pytest.raises(InvalidValue, match="2 or 3 axes"):
        pack([ground(dims=2), ground(dims=3)], rows, kinds, ("a",), "cifar10")
    with pytest.raises(InvalidValue, match="paths must be"):
        pack([ground(dims=3)], rows, kinds, ("a",), "cifar10", moves(dims=2))


@pytest.mark.parametrize("name", ["cifar10", "fashion_mnist"])
def test_a_thumbnail_is_found_in_its_place(name):
    pixels = raw(name, "test", "sample")[0].numpy()[:7]
    head, arrays = messages.unpack(SHEET, sheet(name, pixels))
    whole = np.asarray(Image.open(io.BytesIO(arrays["jpeg"].tobytes()))).astype(int)
    (wide, tall), (width, height) = head["tile"], head["size"]
    for at in (0, 4, 6):
        line, column = divmod(at, head["columns"])
        tile = whole[line * tall : line * tall + height, column * wide : column * wide + width]
        others = [np.abs(tile - pixels[k].transpose(1, 2, 0).astype(int)).mean() for k in range(7)]
        assert int(np.argmin(others)) == at and others[at] < 16


# The page


@pytest.fixture(scope="module")
def fresh() -> AppTest:
    return finished(open_app())


def test_the_page_opens_with_two_models_and_attacks_nothing(fresh):
    assert not fresh.exception
    assert fresh.session_state["features.future"] is None
    assert fresh.selectbox(key="model").value == MODEL and fresh.selectbox(key="features.beside").value == BESIDE
    said = texts(fresh)
    assert "Silhouette" in said and "being measured" not in said and "% of the variance" in said
    assert "turned, perhaps mirrored" in said and "belong to the picture only" in said
    assert fresh.query_params == {"data": "cifar10", "model": MODEL, "beside": BESIDE}


def test_umap_says_what_it_is_not(fresh):
    app = finished(open_app({**LINK, "map": "umap"}))
    said = texts(app)
    assert not app.exception and "not preserve distances" in said
    assert "trustworthiness" in said and "umap-learn" in said and "neighbours, min_dist" in said
    assert app.query_params["map"] == "umap" and app.selectbox(key="features.beside").value == choice.NONE


def test_a_linked_cloud_is_attacked_and_measured_on_both_models():
    app = finished(open_app({**LINK, **ATTACKED, "beside": BESIDE, "pick": "right"}))
    assert not app.exception
    said = texts(app)
    assert "of 3 fooled" in said and "Shift toward the false class" in said and "AUC" in said
    assert "L∞ 8/255" in said and "1 step" in said and "on 3 pictures" in said
    assert "settings have changed" not in said
    assert app.query_params["count"] == "3" and app.query_params["beside"] == BESIDE
    app.slider(key="features.count").set_value(2).run()
    assert "settings have changed" in texts(app)


def test_an_attack_that_ran_out_of_time_says_what_is_shown():
    app = finished(open_app({**LINK, **ATTACKED}))
    cloud = app.session_state["features.future"].latest
    app.session_state["features.future"] = SimpleNamespace(
        latest=cloud, finished=True, state="failed", error="Out of time.", position=0
    )
    app.run()
    assert not app.exception and "Out of time. What was computed until then is shown; nothing is measured." in texts(
        app
    )


def test_one_picture_in_three_dimensions_has_no_interval():
    query = {**LINK, **{k: v for k, v in ATTACKED.items() if k not in ("class", "count")}, "rows": "317", "map": "pca3"}
    app = finished(open_app(query))
    assert not app.exception
    assert app.session_state["features.who"] == "picture" and app.session_state["image"] == 317
    cloud = app.session_state["features.future"].latest
    assert cloud.rows.tolist() == [317] and cloud.finished
    assert "3-D" in choice.VIEWS[app.session_state["features.view"]][0] and "three" in texts(app)
    assert app.query_params["rows"] == "317" and app.query_params["map"] == "pca3"


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"count": "65"}, "count"),
        ({"beside": MODEL}, "beside"),
        ({"map": "globe"}, "globe"),
        ({"rows": "1,1"}, "each picture once"),
    ],
)
def test_a_link_that_cannot_be_followed_says_why(change, word):
    app = open_app({**LINK, **change})
    assert not app.exception and app.session_state["features.maps"].wait(60)  # nothing is left running
    (sentence,) = [w.value for w in app.warning if "could not be followed" in w.value]
    assert word in sentence and app.session_state["features.future"] is None


def test_the_class_under_attack_cannot_be_wished_for():
    app = finished(open_app(LINK))
    app.selectbox(key="features.of").set_value("dog").run()
    assert "dog" not in app.selectbox(key="target").options and "cat" in app.selectbox(key="target").options


def test_a_cloud_is_of_one_class_where_that_has_pictures_enough():
    assert choice.usual("cifar10") == {"pick": "right", "count": "16", "class": "frog"}
    assert choice.usual("photos") == {"pick": "right", "count": "16"}  # a squirrel or two
    assert (
        CloudRequest.from_query(
            {"data": "photos", "model": "photos/efficientnet-lite0"} | choice.usual("photos")
        ).batch.count
        == 12
    )


def test_a_missing_umap_can_be_computed_stopped_and_is_not_waited_for(monkeypatch):
    """Until it is there, PCA is shown, with the reason why."""

    def nothing(self):
        raise NoMap("stale", "The UMAP map x was made with other weights than x has now.")

    monkeypatch.setattr(Maps, "umap", nothing)
    slow = MapMaker((sys.executable, "-c", "import time; print('Laying out', flush=True); time.sleep(60)"))
    monkeypatch.setattr(map_making, "maker", lambda: slow)
    app = finished(open_app({**LINK, "map": "umap"}))
    said = texts(app)
    assert (
        not app.exception
        and "other weights" in said
        and "PCA is shown until then" in said
        and "% of the variance" in said
    )
    assert "was made with other weights than x has now, so **PCA** is shown" in said
    app.button(key=f"features.make.{MODEL}").click().run()
    making = slow.of(MODEL)
    try:
        assert making.state == "running" and "Computing the UMAP map" in texts(app)
        app.button(key=f"features.stop.{MODEL}").click().run()
        assert making.wait(20) and making.state == "cancelled"
    finally:
        making.cancel()
    assert "nothing half-made" in texts(app.run())


def test_numbers_that_round_to_zero_have_no_sign():
    assert [features_words.number(v) for v in (-0.004, 0.004, -0.006, 1.5, float("inf"))] == [
        "0.00",
        "0.00",
        "−0.01",
        "1.50",
        "∞",
    ]


def test_a_model_without_features_is_named_in_one_sentence(monkeypatch):
    def refuse(model):
        raise InvalidValue("a map needs a model with penultimate features; Plain has none.")

    monkeypatch.setattr("explorer.engine.featurespace.check_features", refuse)
    app = finished(open_app(LINK))
    assert not app.exception and any("Plain has none" in e.value for e in app.error)


def test_every_zoo_model_of_the_favourites_exists():
    assert {MODEL, BESIDE} <= {card.name for card in zoo.cards()} and (MODEL, BESIDE) == choice.FAVOURITES
