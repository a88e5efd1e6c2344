"""Measures against sums done by hand, and against a textbook where there is one."""

import math

import numpy as np
import pytest
import torch

from explorer.core import InvalidValue
from explorer.features import Neighbours
from explorer.features.measures import (
    DETECTORS,
    auc_interval,
    clusters,
    detect,
    false_classes,
    mean_interval,
    roc,
    scatter_ratio,
    shift,
    silhouettes,
    to_centres,
)
from tests.features.clouds import cloud

CENTERS = torch.tensor([[0.0, 0.0], [4.0, 0.0], [0.0, 10.0]], dtype=torch.float64)


def test_student_s_interval_of_a_mean():
    """Of 2, 4, 4, 6: mean 4, s = sqrt(8/3), t(3, 97.5 %) = 3.182446 (a table's value)."""
    found = mean_interval(np.array([2, 4, 4, 6]))
    half = 3.182446 * math.sqrt(8 / 3) / 2
    assert (found.value, found.n) == (4, 4)
    assert (found.low, found.high) == pytest.approx((4 - half, 4 + half), abs=1e-5)
    one = mean_interval(np.array([7.0]))
    assert (one.value, one.low, one.high) == (7, None, None)
    with pytest.raises(InvalidValue, match="at least one image"):
        mean_interval(np.array([]))


def test_distances_to_both_centres_along_a_walk():
    found = to_centres(torch.tensor([[0.0, 0], [4, 3], [4, 0]]), CENTERS, own=0, toward=1)
    assert found.own.tolist() == [0, 5, 4] and found.toward.tolist() == [4, 3, 0]


def test_the_shift_is_the_share_of_the_way_between_the_centres():
    clean = torch.tensor([[1.0, 7.0], [0.0, 1.0]])
    moved = torch.tensor([[3.0, 9.0], [0.0, 6.0]])
    found = shift(clean, moved, own=np.array([0, 0]), toward=np.array([1, 2]), centers=CENTERS)
    assert found.each.tolist() == [0.5, 0.5]  # 2 of 4 along the first axis; 5 of 10 along the second
    assert found.mean.value == 0.5 and found.mean.n == 2 and found.mean.low == found.mean.high == 0.5
    assert found.others.value == pytest.approx((0.2 + 0) / 2)  # toward the class that was not chosen
    assert shift(clean, moved, np.array([0, 0]), np.array([1, 1]), CENTERS[:2]).others is None


def test_noise_without_a_direction_shifts_by_nothing():
    features, labels = cloud(600)
    centers = torch.stack([features[labels == k].double().mean(0) for k in range(3)])
    step = torch.randn(features.shape, generator=torch.Generator().manual_seed(1))
    found = shift(features, features + step, labels.numpy(), (labels.numpy() + 1) % 3, centers)
    assert found.mean.low < 0 < found.mean.high and found.mean.high - found.mean.low < 0.1


def test_the_false_class_by_stated_rules():
    at = torch.tensor([[3.0, 0.0], [3.0, 0.0], [0.0, 0.1]])
    own, predicted = np.array([0, 0, 0]), np.array([2, 0, 0])
    assert false_classes(at, own, predicted, CENTERS).tolist() == [2, 1, 1]
    assert false_classes(at, own, predicted, CENTERS, target=1).tolist() == [1, 1, 1]


def test_silhouettes_of_four_points_on_a_line():
    """At 0, 1 | 3, 5. Of the first: a = 1, b = (3 + 5) / 2 = 4, so (4 - 1) / 4."""
    found = silhouettes(torch.tensor([[0.0], [1], [3], [5]]), torch.tensor([0, 0, 1, 1]))
    assert found.tolist() == pytest.approx([3 / 4, (3 - 1) / 3, (2.5 - 2) / 2.5, (4.5 - 2) / 4.5])
    assert silhouettes(torch.tensor([[0.0], [1], [0.9], [5]]), torch.tensor([0, 0, 1, 1]))[2] < 0


def test_scatter_within_over_scatter_between():
    """Classes {0, 2} and {8, 10}: within 1 + 1 + 1 + 1, between 4 times 4^2."""
    points, labels = torch.tensor([[0.0], [2], [8], [10]]), torch.tensor([0, 0, 1, 1])
    assert scatter_ratio(points, labels) == pytest.approx(4 / 64)
    assert scatter_ratio(points * 7 - 3, labels) == pytest.approx(4 / 64)
    assert scatter_ratio(torch.tensor([[0.0], [2], [0], [2]]), labels) == math.inf


def test_the_clusters_of_a_cloud_far_apart_and_of_none():
    labels = torch.arange(60) % 3
    noise = torch.randn(60, 8, generator=torch.Generator().manual_seed(0))
    apart = noise + 50 * torch.eye(8)[labels]
    far, none = (clusters(f, labels, Neighbours(f, labels)) for f in (apart, noise))
    assert far.neighbours.value == 1 and far.neighbours.low < 1 and far.silhouette.value > 0.8 and far.scatter < 0.02
    assert 0.1 < none.neighbours.value < 0.6 and abs(none.silhouette.value) < 0.1 and none.scatter > 5


@pytest.mark.parametrize("measure", [silhouettes, scatter_ratio])
def test_one_class_only_has_no_clusters(measure):
    for labels, says in (([1, 1, 1], "got 3 of 1"), ([0, 1, 2], "got 3 of 3")):
        with pytest.raises(InvalidValue, match=f"at least two classes.*{says}"):
            measure(torch.randn(3, 2, generator=torch.Generator().manual_seed(0)), torch.tensor(labels))


def test_the_curve_and_its_area_by_hand():
    """Clean 1, 2, 3; attacked 2, 4: of six pairs 4 is above all three, 2 above one and level with one."""
    clean, attacked = np.array([1.0, 2, 3]), np.array([2.0, 4])
    false_alarms, caught = roc(clean, attacked)
    assert false_alarms.tolist() == pytest.approx([0, 0, 1 / 3, 2 / 3, 1])
    assert caught.tolist() == [0, 0.5, 0.5, 1, 1]
    area = auc_interval(clean, attacked)
    assert area.value == pytest.approx(4.5 / 6) and area.n == 2
    assert np.trapezoid(caught, false_alarms) == pytest.approx(area.value)
    assert auc_interval(attacked, clean).value == pytest.approx(1 - area.value)


def test_the_interval_keeps_a_width_at_the_ends_and_narrows_with_n():
    few, many = (auc_interval(np.zeros(n), np.ones(n)) for n in (10, 100))
    assert few.value == few.high == 1 and 0.6 < few.low < many.low < 1
    assert auc_interval(np.ones(10), np.zeros(10)).high == pytest.approx(1 - few.low)
    level = auc_interval(np.zeros(10), np.zeros(10))
    assert level.value == 0.5 and level.low == pytest.approx(1 - level.high)


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    """Normal scores one apart: the truth is Phi(1 / sqrt 2) = 0.7602. Of 400 intervals 380 are expected to hold it."""
    rng = np.random.default_rng(0)
    found = [auc_interval(rng.normal(0, 1, 30), rng.normal(1, 1, 30)) for _ in range(400)]
    assert 365 <= sum(one.low <= 0.7602 <= one.high for one in found) <= 395


def test_detectors_see_what_is_out_of_place():
    """Two classes around (0, 0) and (4, 0); an attacked image of the first lies among the second, or far from both."""
    rng = torch.Generator().manual_seed(0)
    labels = torch.arange(80) % 2
    features = CENTERS[labels].float() + 0.3 * torch.randn(80, 2, generator=rng)
    ground = Neighbours(features, labels)
    clean, own = features[:20], labels[:20].numpy()
    among, away = CENTERS[1 - labels[:20]].float(), clean + torch.tensor([0.0, 5.0])
    rows = np.arange(20)

    def area(key, attacked, predicted):
        return detect(key, ground, clean, own, attacked, predicted, rows, rows).auc.value

    assert area("neighbours", among, own) == 1  # still taken for its own class, among another's images
    assert area("neighbours", among, 1 - own) == 0.5  # all others are of the class that it is taken for
    assert area("centre", away, own) == 1
    assert area("centre", among, 1 - own) == 0  # more typical of the false class than an image of it
    assert set(DETECTORS) == {"centre", "neighbours"}


def test_the_distance_is_measured_by_the_class_s_own_size():
    features = torch.tensor([[-1.0, 0], [1, 0], [90, 0], [110, 0]])
    ground = Neighbours(features, torch.tensor([0, 0, 1, 1]))
    score = DETECTORS["centre"].score(ground, torch.tensor([[3.0, 0], [130, 0]]), np.array([0, 1]), None)
    assert score.tolist() == pytest.approx([3, 3])


def test_refuses_what_has_no_curve():
    ground = Neighbours(*cloud())
    nothing = torch.zeros(0, 12)
    with pytest.raises(InvalidValue, match="got 0 clean and 1 attacked"):
        detect("centre", ground, nothing, np.zeros(0, int), torch.zeros(1, 12), np.zeros(1, int))
    with pytest.raises(InvalidValue, match="detector must be one of centre, neighbours; got 'magic'"):
        detect("magic", ground, nothing, np.zeros(0, int), nothing, np.zeros(0, int))
    with pytest.raises(InvalidValue, match="none of class 7"):
        detect("centre", ground, torch.zeros(1, 12), np.array([7]), torch.zeros(1, 12), np.array([0]))
