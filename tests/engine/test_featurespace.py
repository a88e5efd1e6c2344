"""A cloud under attack: what is recorded, what stays, and what is measured in the end."""

import dataclasses
import sys

import numpy as np
import pytest
import torch

from explorer.core import InvalidValue, UnknownName, current_rng, seeded, use_generator
from explorer.data import raw
from explorer.engine import AttackRequest, attack_work
from explorer.engine.batch_request import ManyRequest
from explorer.engine.feature_frames import FRAMES
from explorer.engine.featurespace import MAX_IMAGES, CloudRequest, aligned, cloud_work, maps_work, paths_on
from explorer.engine.tracing import on_map
from explorer.features import Embedding
from explorer.features.measures import DETECTORS
from explorer.models import zoo

SOON = 60


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("EXPLORER_CACHE", str(tmp_path))


def request(beside=None, **changes):
    """Four pictures that an untrained network happens to get right, three steps."""
    values = {
        "dataset": "cifar10",
        "model": "cifar10/tiny",
        "pick": "right",
        "count": 4,
        "hyper": {"steps": 3},
    } | changes
    return CloudRequest(ManyRequest(**values), beside).checked()


def clouds(engine, asked):
    return [item for item in cloud_work(engine, asked)() if item is not None]


def right(name, n):
    """Rows of pictures that an untrained network happens to get right."""
    images, labels, _ = raw("cifar10", "test", "sample")
    with torch.no_grad(), use_generator(seeded(0)):
        hits = zoo.load(name)(images[:200].float() / 255).argmax(1) == labels[:200]
    return tuple(hits.nonzero().flatten()[:n].tolist())


def pixels(rows):
    images, labels, _ = raw("cifar10", "test", "sample")
    return images[rows].float() / 255, labels[rows]


def test_every_item_is_whole_and_the_first_comes_before_anything_is_changed(engine):
    items = clouds(engine, request())
    first, last = items[0].lanes[0], items[-1].lanes[0]
    assert len(first.features) == 1 and first.right.all() and not first.fooled.any() and not items[0].finished
    assert np.array_equal(first.images, items[0].originals) and np.array_equal(first.before, items[0].labels)
    assert [len(item.lanes[0].features) for item in items] == [1, 2, 3, 4, 5, 6, 6]
    assert {item.lanes[0].planned for item in items} == {6}
    assert items[-1].finished and last.steps.tolist() == [0, 1, 2, 3, 4, 4]  # the start, three updates, the best
    assert all(item.seconds >= before.seconds for before, item in zip(items, items[1:], strict=False))


def test_paths_are_the_model_s_own_features_of_the_images_themselves(engine):
    cloud = clouds(engine, request(eps="30/255"))[-1]
    lane, model = cloud.lanes[0], zoo.load("cifar10/tiny")
    x, y = pixels(cloud.rows)
    assert np.array_equal(cloud.originals, x.numpy()) and np.array_equal(cloud.labels, y.numpy())
    with torch.no_grad():
        for frame, images in ((0, x), (-1, torch.from_numpy(lane.images))):
            logits, features = model.both(images)
            assert np.allclose(lane.features[frame], features.numpy(), atol=1e-4)
            assert np.array_equal(lane.predicted[frame], logits.argmax(1).numpy())
    assert np.array_equal(lane.fooled, (lane.after != cloud.labels) & lane.right)
    assert np.abs(lane.images - cloud.originals).max() <= 30 / 255 + 1e-6


def test_measures_are_those_of_the_paths_that_were_recorded(engine):
    asked = request(eps="30/255")
    lane = clouds(engine, asked)[-1].lanes[0]
    m = lane.measured
    assert (m.toward >= 0).all() and (m.toward != lane.before).all()
    assert m.shift.mean.n == 4 and np.array_equal(m.shift.toward, m.toward)
    for k, way in enumerate(m.distances):
        center = lane.maps.centers[int(m.toward[k])].numpy()
        assert np.allclose(way.toward, np.linalg.norm(lane.features[:, k] - center, axis=1))
    assert m.neighbours_before.shape == m.neighbours_after.shape == m.off_map.shape == (4,)
    assert m.silhouette["before"].n == 4 and set(m.scatter) == {"before", "after"}
    assert lane.fooled.any() and set(m.detections) == set(DETECTORS)
    assert all(len(found.attacked) == len(found.clean) == lane.fooled.sum() for found in m.detections.values())
    about = lane.conditions
    assert about["attacked"] == 4 and about["feature_draws"] == 1 and about["reference_images"] == 100
    assert about["eps_text"] == "30/255" and about["weights"] == zoo.card("cifar10/tiny").sha256
    assert about["chosen"] == asked.chosen_words()


def test_images_that_were_wrong_before_stay_where_they_are(engine):
    lane = clouds(engine, request(pick="random", count=12))[-1].lanes[0]
    stayed = ~lane.right
    assert 0 < stayed.sum() < 12
    assert (lane.features[:, stayed] == lane.features[:1, stayed]).all() and not lane.fooled[stayed].any()
    assert (lane.measured.toward[stayed] == -1).all()
    assert all((way is None) == still for way, still in zip(lane.measured.distances, stayed, strict=True))
    assert lane.measured.shift.mean.n == lane.right.sum()


def test_a_cloud_of_wrong_images_only_ends_without_measures(engine):
    wrong = tuple(sorted(set(range(30)) - set(right("cifar10/tiny", 30))))[:2]
    cloud = clouds(engine, request(pick="hand", rows=wrong))[-1]
    assert cloud.finished and cloud.lanes[0].measured is None and cloud.lanes[0].features.shape[0] == 1


def test_a_long_walk_is_recorded_at_some_of_its_steps(engine):
    items = clouds(engine, request(count=1, hyper={"steps": 70}))
    lane = items[-1].lanes[0]
    assert FRAMES // 2 < len(lane.features) <= FRAMES + 2
    assert lane.steps.tolist() == [0, *range(3, 72, 3), 71] and lane.planned == len(lane.features)
    assert {item.lanes[0].planned for item in items} == {lane.planned}


def test_two_models_side_by_side_are_each_as_alone(engine):
    asked = request(pick="random", count=16, beside="cifar10/other")
    cloud = clouds(engine, asked)[-1]
    assert [lane.model for lane in cloud.lanes] == ["cifar10/tiny", "cifar10/other"]
    assert all(lane.right.any() and lane.finished for lane in cloud.lanes)
    assert {lane.conditions["chosen"] for lane in cloud.lanes} == {asked.chosen_words()}
    rows = tuple(cloud.rows.tolist())
    for lane in cloud.lanes:
        alone = clouds(engine, request(model=lane.model, pick="hand", rows=rows))[-1].lanes[0]
        assert np.array_equal(lane.features, alone.features) and np.array_equal(lane.images, alone.images)
    for axes in (2, 3):
        one, two = aligned([lane.maps for lane in cloud.lanes], axes=axes)
        assert one is cloud.lanes[0].maps.pca(axes) and two.is_turned
        own = cloud.lanes[1].maps.pca(axes)
        gaps = [
            float((plane.points / plane.points.std() - one.points / one.points.std()).norm()) for plane in (two, own)
        ]
        assert gaps[0] <= gaps[1]
        path = paths_on(two, cloud.lanes[1])
        assert path.shape == (6, 16, axes)
        assert np.allclose(path[3, 1], two.place(cloud.lanes[1].features[3, 1:]).numpy()[0], atol=1e-5)


def test_a_stochastic_model_is_looked_at_with_the_same_draws_at_each_step(engine):
    asked = request(model="cifar10/tiny-lwta", pick="hand", rows=(0, *right("cifar10/tiny-lwta", 2)))
    one, two = (clouds(engine, asked)[-1].lanes[0] for _ in range(2))
    assert one.draws == 8 and one.conditions["feature_draws"] == 8
    assert np.array_equal(one.features, two.features)
    still, others = (
        clouds(engine, CloudRequest(dataclasses.replace(asked.batch, eps="0.003/255", seed=k)))[-1].lanes[0]
        for k in (0, 1)
    )
    assert still.right.any() and not still.right.all()  # both kinds: the attacked are looked at without the others, too
    moved, redrawn = (np.abs(f - still.features[0]).mean() for f in (still.features[1:], others.features[0]))
    assert moved < redrawn / 10


def test_a_target_is_where_all_head_for(engine):
    cloud = clouds(engine, request(target=3, eps="30/255"))[-1]
    assert set(cloud.lanes[0].measured.toward) == {3} and 3 not in cloud.labels


def test_nothing_is_yielded_where_gradients_are_off_or_draws_are_named(engine):
    rows = tuple({*right("cifar10/tiny-lwta", 2), *right("cifar10/tiny", 2)})
    for _ in cloud_work(engine, request(model="cifar10/tiny-lwta", pick="hand", rows=rows, beside="cifar10/tiny"))():
        assert torch.is_grad_enabled() and current_rng(torch.device("cpu")) is None


def test_submitted_like_other_work_and_cancelled(engine):
    future = engine.submit("me", cloud_work(engine, request(hyper={"steps": 900})))
    while future.count < 2:
        assert not future.wait(0.05)
    future.cancel()
    assert future.wait(SOON) and future.state == "cancelled" and not future.latest.finished
    done = engine.submit("me", cloud_work(engine, request(count=1)))
    assert done.wait(SOON) and done.state == "done" and done.latest.finished


def test_maps_come_first_and_then_what_they_are_worth(engine):
    items = list(maps_work(engine, ["cifar10/tiny", "cifar10/other"])())
    (found,) = [item for item in items if item is not None]
    assert [maps.name for maps in found] == ["cifar10/tiny", "cifar10/other"]
    assert found[0] is engine.plane("cifar10/tiny").maps and items[-1] is None
    assert engine.plane("cifar10/tiny").plane is found[0].pca()
    assert 0.4 < found[0].kept() <= 1 and found[1].clusters().neighbours.n == 100


def test_a_recorded_walk_is_drawn_on_either_map_without_a_new_attack(engine, monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)  # whoever imports it fails; another test may have imported it before
    row = int(raw("cifar10", "test", "sample")[1].eq(3).nonzero()[0])
    asked = AttackRequest("cifar10", row, "cifar10/tiny", hyper={"steps": 3})
    snapshot = list(attack_work(engine, asked)())[-1]
    maps = engine.plane("cifar10/tiny").maps
    again = on_map(maps.pca(), snapshot.trace)
    assert np.array_equal(again.path, snapshot.feature_path.path) and again.method == "PCA"
    plane = maps.pca()
    ahead = Embedding(plane.points * 2, plane.labels, plane.classes, plane.centers, plane.centroids, maps.neighbours)
    other = on_map(ahead, snapshot.trace)
    assert other.method == "UMAP" and other.path.shape == again.path.shape
    assert np.array_equal(other.progress, again.progress) and np.array_equal(other.toward, again.toward)


# The request


def test_a_link_gives_an_equal_request():
    for asked in (
        request(),
        request(beside="cifar10/other", of="cat", target=5, shuffle=2),
        request(pick="hand", rows=(3, 9)),
    ):
        again = CloudRequest.from_query(asked.to_query())
        assert again == asked and isinstance(again, CloudRequest)
    assert request(beside="cifar10/other").models == ("cifar10/tiny", "cifar10/other")
    assert "cifar10/tiny and cifar10/other" in request(beside="cifar10/other").title()
    assert "both models get right" in request(beside="cifar10/other").chosen_words()
    assert request(beside="cifar10/other").passes == 2 * request().passes


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"beside": "cifar10/tiny"}, InvalidValue, "beside must be another model than cifar10/tiny"),
        ({"beside": "cifar10/nobody"}, UnknownName, "nobody"),
        ({"beside": "fashion_mnist/tiny"}, InvalidValue, "made for fashion_mnist"),
        ({"beside": 3}, InvalidValue, "beside must be text"),
        ({"count": MAX_IMAGES + 1}, InvalidValue, f"between|\\[1, {MAX_IMAGES}\\]; got {MAX_IMAGES + 1}"),
        ({"of": 3, "target": 3}, InvalidValue, "target must differ"),
    ],
)
def test_refuses_in_one_sentence(changes, error, says):
    with pytest.raises(error, match=says):
        request(**changes)


def test_refuses_what_takes_too_long_before_it_is_queued(engine):
    with pytest.raises(InvalidValue, match="at most"):
        cloud_work(engine, request(count=64, hyper={"steps": 1000, "restarts": 2}, beside="cifar10/other"))


def test_an_image_in_the_reference_is_left_out_of_its_own_neighbourhood(engine):
    list(maps_work(engine, ["cifar10/tiny"])())
    reference = engine.plane("cifar10/tiny").maps.reference
    rows = tuple(reference.rows[:2].tolist())
    model = zoo.load("cifar10/tiny")
    x, _ = pixels(list(rows))
    assert torch.allclose(model.features(x), reference.features[:2], atol=1e-5)
    lane = clouds(engine, request(pick="hand", rows=rows, eps="0.01/255"))[-1].lanes[0]
    gauge = lane.maps.neighbours.gauge(lane.features[0], np.array([0, 1]))
    assert (gauge.distance > 0).all()
    if lane.measured is not None:
        assert np.allclose(lane.measured.off_map, gauge.percentile, atol=5)
