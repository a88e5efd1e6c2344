"""The plane against sums done by hand and against scikit-free textbook facts."""

import numpy as np
import pytest
import torch

from explorer.core import InvalidValue
from explorer.features import Plane, feature_path
from tests.features.clouds import CLASSES, cloud


def test_finds_the_axes_of_a_cloud_laid_out_by_hand():
    spread = torch.tensor([[3.0, 0, 0], [-3, 0, 0], [0, 2, 0], [0, -2, 0], [0, 0, 1], [0, 0, -1]])
    plane = Plane.fit(spread + 5, torch.tensor([0, 0, 1, 1, 2, 2]), CLASSES)
    assert torch.allclose(plane.basis, torch.tensor([[1.0, 0], [0, 1], [0, 0]], dtype=torch.float64))
    assert torch.allclose(plane.explained, torch.tensor([9 / 14, 4 / 14], dtype=torch.float64))
    assert torch.allclose(plane.points[:2], torch.tensor([[3.0, 0], [-3, 0]]))
    assert plane.axes == ("PC 1 (64 % of variance)", "PC 2 (29 %)")


def test_agrees_with_the_singular_value_decomposition():
    features, labels = cloud()
    plane = Plane.fit(features, labels, CLASSES)
    centred = features.double() - features.double().mean(0)
    _, values, axes = torch.linalg.svd(centred, full_matrices=False)
    assert torch.allclose(plane.explained, (values**2 / (values**2).sum())[:2])
    assert torch.allclose((plane.basis.T @ axes[:2].T).abs(), torch.eye(2, dtype=torch.float64), atol=1e-9)
    assert torch.allclose(plane.centers[1], features[labels == 1].double().mean(0))
    assert torch.allclose(plane.centroids, plane.place(plane.centers))


def test_sign_and_order_of_points_leave_the_plane_as_it_is():
    features, labels = cloud()
    plane = Plane.fit(features, labels, CLASSES)
    order = torch.randperm(len(features), generator=torch.Generator().manual_seed(1))
    again = Plane.fit(features[order], labels[order], CLASSES)
    assert torch.allclose(plane.basis, again.basis, atol=1e-9)
    assert (plane.basis.gather(0, plane.basis.abs().argmax(0, keepdim=True)) > 0).all()
    assert torch.equal(plane.basis, Plane.fit(features, labels, CLASSES).basis)


def test_a_point_lands_in_the_same_place_alone_and_in_a_batch():
    features, labels = cloud()
    plane = Plane.fit(features, labels, CLASSES)
    batch = plane.place(features)
    alone = torch.cat([plane.place(row[None]) for row in features])
    assert (batch - alone).abs().max() <= 1e-5
    assert torch.equal(batch, plane.place(features.numpy()))


def test_progress_is_0_at_the_own_centre_and_1_at_the_other():
    features, labels = cloud()
    plane = Plane.fit(features, labels, CLASSES)
    way = torch.stack([plane.centers[0], (plane.centers[0] + plane.centers[2]) / 2, plane.centers[2]])
    walk = feature_path(plane, way, own=0, target=2)
    assert np.allclose(walk.progress, [0, 0.5, 1])
    assert walk.toward.tolist() == [2, 2, 2]
    assert np.allclose(walk.path[2], plane.centroids[2], atol=1e-5)
    sideways = torch.linalg.svd(plane.centers[2:] - plane.centers[:1])[2][-1]  # orthogonal to the way
    assert np.allclose(feature_path(plane, way + 7 * sideways, own=0, target=2).progress, [0, 0.5, 1])


def test_one_class_for_the_whole_walk_chosen_by_stated_rules():
    features, labels = cloud()
    plane = Plane.fit(features, labels, CLASSES)
    way = torch.stack([plane.centers[1], plane.centers[0], plane.centers[2]]) + 0.01
    assert set(feature_path(plane, way, own=0, target=1, predicted=2).toward) == {1}
    assert set(feature_path(plane, way, own=0, predicted=2).toward) == {2}
    assert set(feature_path(plane, way, own=0, predicted=0).toward) == {2}  # nearest to the last frame
    assert set(feature_path(plane, way, own=0, predicted=0, at=0).toward) == {1}
    assert 0 not in feature_path(plane, way[1:2], own=0).toward


def test_features_without_any_variance_give_no_nan():
    plane = Plane.fit(torch.ones(6, 4), torch.arange(6) % 3, CLASSES)
    walk = feature_path(plane, torch.ones(2, 4), own=0, target=1)
    assert plane.explained.tolist() == [0, 0]
    assert np.isfinite(walk.path).all() and walk.progress.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("features", "labels", "says"),
    [
        (torch.ones(1, 4), torch.zeros(1).long(), "at least 2"),
        (torch.ones(4, 1), torch.arange(4) % 3, "at least 2"),
        (torch.ones(4, 4), torch.zeros(3).long(), "one label per row"),
        (torch.full((4, 4), float("nan")), torch.arange(4) % 3, "finite"),
        (torch.ones(4, 4), torch.tensor([0, 0, 1, 1]), "got none of frog"),
    ],
)
def test_refuses_what_has_no_plane(features, labels, says):
    with pytest.raises(InvalidValue, match=says):
        Plane.fit(features, labels, CLASSES)
