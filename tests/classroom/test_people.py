"""What people see: no picture twice, the networks' answers are theirs, and the class's interval holds its true accuracy."""

import numpy as np
import pytest

from explorer.classroom.people import EACH, LEVELS, PeopleRequest, curve, people_work
from explorer.core import InvalidValue
from explorer.engine import Engine

REQUEST = PeopleRequest(("cifar10/lenet",))


def test_the_strip_has_each_picture_once_and_rises():
    engine = Engine("cpu", threads=1)
    future = engine.submit("s", people_work(engine, REQUEST))
    assert future.wait(60) and future.state == "done", future.error
    strip = future.latest
    engine.close()
    rows = [row for level in REQUEST.rows() for row in level]
    assert len(set(rows)) == len(rows) == EACH * len(LEVELS) == len(strip.labels) and strip.finished
    assert (np.diff(strip.eps) >= 0).all() and strip.images.shape[0] == len(rows) and strip.seen.shape == (1, len(rows))
    from explorer.data import load

    original = load("cifar10", source="sample").x.numpy()[rows]
    moved = np.abs(strip.images - original).max((1, 2, 3))
    assert (moved <= strip.eps + 1e-6).all() and (moved[:EACH] == 0).all()


def test_a_class_of_known_accuracy_lies_inside_its_interval():
    """1,000 simulated classes of thirty that name a quarter of four pictures each; a 95 % interval may miss in 5 % of them."""
    rng, accuracy, inside = np.random.default_rng(0), 0.8, 0
    for _ in range(1000):
        right = rng.random((EACH, 30)) < accuracy
        (level,) = curve([8 / 255] * EACH, [3] * EACH, np.where(right, 3, 5).tolist())
        low, high = level.interval
        inside += low <= accuracy <= high
    assert level.n == 30 * EACH and 935 <= inside <= 965


def test_the_curve_counts_by_level_and_leaves_out_what_nobody_named():
    levels = curve([0, 0, 0.1, 0.2], [1, 2, 3, 4], [[1, 1], [1], [3], []])
    assert [(level.eps, level.right, level.n) for level in levels] == [(0, 2, 3), (0.1, 1, 1)]


@pytest.mark.parametrize("models", [(), ("cifar10/lenet", "fashion_mnist/ibp")])
def test_networks_of_one_dataset(models):
    with pytest.raises(InvalidValue, match="1 to 3 networks"):
        PeopleRequest(models).checked()
    assert PeopleRequest(("cifar10/lenet", "cifar10/lenet")).checked().models == ("cifar10/lenet",)
