"""Photographs: twelve bundled pictures of ImageNet's 1,000 classes, a network that knows these, and what counts as right."""

import json

import numpy as np
import pytest
import torch
from torchvision.models import _meta

from explorer.core import DataUnavailable
from explorer.data import dataset, load, photos
from explorer.engine import AttackRequest, Engine, attack_work, captions
from explorer.engine.batch_request import ManyRequest
from explorer.engine.labels import settled_rows
from explorer.engine.many import many_work
from explorer.evaluation import clean_accuracy
from explorer.evaluation.outcome import Ending, accepted
from explorer.features import Maps, reference
from explorer.models import zoo
from explorer.models.efficientnet_lite import SameConv2d

NAME, CAT, SQUIRREL = "photos/efficientnet-lite0", 0, 6


@pytest.fixture(scope="module")
def network():
    return zoo.load(NAME)


@pytest.fixture(scope="module")
def engine():
    return Engine("cpu", threads=1)  # asked directly: its worker never starts


def test_the_classes_are_imagenets_as_torchvision_names_them():
    assert dataset("photos").classes == tuple(_meta._IMAGENET_CATEGORIES)


def test_there_are_twelve_photographs_each_with_a_free_licence_and_a_source():
    images, told = load("photos"), json.loads(photos.ABOUT.read_text("utf-8"))
    assert images.x.shape == (12, 3, 224, 224) and len(images.classes) == 1000
    assert [images.classes[y] for y in images.y] == [one["category"] for one in told]
    assert {one["licence"] for one in told} == {"CC0-1.0", "CC-BY-2.0", "Apache-2.0"} and all(
        one["source"] for one in told
    )
    assert sum(file.stat().st_size for file in photos.files()) < 1_000_000
    with pytest.raises(DataUnavailable, match="there is no train set"):
        load("photos", split="train")


@pytest.mark.parametrize(("size", "kernel", "stride"), [(224, 3, 2), (7, 5, 1), (15, 5, 2), (8, 1, 1)])
def test_same_padding_puts_what_is_odd_to_the_right_and_the_bottom(size, kernel, stride):
    layer = SameConv2d(1, 1, kernel, stride, bias=False).requires_grad_(False)
    layer.weight.zero_()[0, 0, 0, 0] = 1.0  # gives the value at its window's upper left corner
    x = torch.arange(1.0, 1 + size * size).view(1, 1, size, size)
    out = layer(x)
    places = -(-size // stride)
    before = max((places - 1) * stride + kernel - size, 0) // 2
    assert out.shape[2:] == (places, places)
    assert out[0, 0, -1, -1] == x[0, 0, (places - 1) * stride - before, (places - 1) * stride - before]


def test_the_network_has_all_twelve_right_counting_its_top_five(network):
    images = load("photos")
    measure = clean_accuracy(network, images)
    assert (measure.correct, measure.n, measure.note) == (12, 12, "right: the label is among the top 5")
    with torch.no_grad():
        right = network(images.x).argmax(1) == images.y
    assert right.sum() == 10


def test_an_answer_that_counts_as_right_is_what_an_attack_is_to_change():
    logits = torch.tensor([[3.0, 2.0, 1.0, 0.0], [3.0, 2.0, 1.0, 0.0], [3.0, 2.0, 1.0, 0.0]])
    y = torch.tensor([0, 1, 3])
    assert accepted(logits, y, 2).tolist() == [0, 0, 3]
    assert accepted(logits, y, 1).tolist() == [0, 1, 3]


def attacked(engine, **asked):
    request = AttackRequest(dataset="photos", model=NAME, **{"hyper": {"steps": 1}} | asked).checked()
    for snapshot in attack_work(engine, request)():
        if snapshot is not None and snapshot.result is not None:
            return snapshot.trace, snapshot.result
    raise AssertionError("an attack ends with a result")


def test_a_photograph_is_attacked_and_its_true_class_among_the_first_five_is_said_to_count(engine):
    trace, result = attacked(engine, image=CAT, eps=8 / 255)
    said = captions(trace, result)[0]
    assert "takes this tiger cat for an Egyptian cat" in said
    assert "has tiger cat among its top 5, which counts as right" in said
    assert result.conditions["true_label"] == 282 and result.conditions["right"] == "top 5"
    assert trace.label == trace.classes.index("Egyptian cat") and not trace.wrong_before


def test_a_photograph_that_becomes_its_true_class_fools_nobody(engine):
    """From the first answer, Egyptian cat, it is nearest to tiger cat, its label: the attack has to go on to another class."""
    trace, result = attacked(engine, image=CAT, eps=2 / 255, hyper={"steps": 6})
    right = {trace.classes.index("Egyptian cat"), 282}
    wrong = np.array([k not in right for k in trace.predicted])
    assert result.ending is Ending.FOOLED and int(result.verdict.predicted[0]) not in right
    assert (
        trace.also == 282 and (trace.reached == wrong).all() and (trace.margin[1:] < 0).tolist() == wrong[1:].tolist()
    )
    batch = ManyRequest("photos", NAME, hyper={"steps": 6}, eps=2 / 255, pick="hand", rows=(CAT, SQUIRREL)).checked()
    found = [now for now in many_work(engine, batch)() if now is not None][-1]
    assert found.right.all() and found.fooled.all() and int(found.after.predicted[0]) not in right


def test_labels_of_many_photographs_follow_the_same_rule(network):
    rows = [CAT, SQUIRREL]
    images = load("photos")
    found = settled_rows(network, "photos", rows, images.x[rows], seed=0)
    assert [images.classes[k] for k in found] == ["Egyptian cat", "fox squirrel"]
    assert ManyRequest("photos", NAME, pick="hand", rows=tuple(rows)).checked().count == 2


def test_classes_without_a_picture_have_directions_on_the_map(network):
    found = reference(network, "photos")
    weight = network.head.weight
    assert found.directions and found.features.shape == (1000, 1280) and len(found.images) == 0
    cosine = torch.cosine_similarity(found.features, weight)
    torch.testing.assert_close(cosine, torch.ones(1000), atol=1e-5, rtol=0)
    with torch.no_grad():
        length = network.features(load("photos").x).norm(dim=1).mean()
    torch.testing.assert_close(found.features.norm(dim=1), length.expand(1000), atol=1e-3, rtol=0)
    plane = Maps(found).pca()
    assert plane.directions and np.allclose(plane.points, plane.centroids, atol=1e-5)
