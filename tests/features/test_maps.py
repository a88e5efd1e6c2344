"""Maps behind one protocol: two and three axes, turned onto each other, and what they keep."""

import numpy as np
import pytest
import torch
from torch import nn

from explorer.core import Classifier, InvalidValue
from explorer.features import Maps, Plane, check_features, reference, regions, trustworthiness
from tests.features.clouds import CLASSES, as_reference, cloud


@pytest.fixture
def maps():
    return Maps(as_reference(*cloud()))


def test_the_space_of_three_axes_begins_with_the_plane(maps):
    plane, space = maps.pca(2), maps.pca(3)
    assert space.points.shape == (90, 3) and space.place(torch.zeros(5, 12)).shape == (5, 3)
    assert torch.allclose(space.points[:, :2], plane.points, atol=1e-5)
    assert torch.allclose(space.explained[:2], plane.explained) and len(space.axes) == 3
    assert maps.pca(2) is plane and maps.of("pca", 3) is space


def test_a_turned_plane_lies_like_the_other_and_keeps_its_distances():
    features, labels = cloud()
    plane = Plane.fit(features, labels, CLASSES)
    rotation, _ = torch.linalg.qr(torch.randn(12, 12, generator=torch.Generator().manual_seed(5)))
    wide = features @ rotation * torch.tensor([4.0])  # the same cloud, seen by a network with other coordinates
    other = Plane.fit(wide, labels, CLASSES)
    turned = other.turned_onto(plane)
    assert torch.allclose(turned.points / 4, plane.points, atol=1e-4)
    assert torch.allclose(turned.place(wide), turned.points, atol=1e-3)
    assert torch.allclose(turned.centroids, turned.place(turned.centers), atol=1e-3)
    assert torch.allclose(torch.pdist(turned.points), torch.pdist(other.points), rtol=1e-4, atol=1e-3)


def test_a_turned_plane_says_so_and_names_the_variance_along_its_new_axes():
    features, labels = cloud()
    plane = Plane.fit(features, labels, CLASSES)
    eighth = torch.tensor([[1.0, -1], [1, 1]]) / 2**0.5
    aslant = Plane.fit(features, labels, CLASSES)
    object.__setattr__(aslant, "points", plane.points @ eighth)
    turned = plane.turned_onto(aslant)
    shares = turned.points.double().var(0) / features.double().var(0).sum()
    assert torch.allclose(turned.explained, shares, atol=1e-6)
    assert torch.allclose(turned.explained.sum(), plane.explained.sum())
    assert "Turned axis 1" in turned.axes[0] and "PC" not in turned.axes[0]


def test_only_maps_of_the_same_images_are_turned():
    one, two = (Plane.fit(*cloud(n), CLASSES) for n in (90, 60))
    with pytest.raises(InvalidValue, match=r"got \(90, 2\) and \(60, 2\)"):
        one.turned_onto(two)


def test_a_map_that_keeps_all_neighbourhoods_and_one_that_keeps_none():
    rng = torch.Generator().manual_seed(0)
    features = torch.randn(200, 2, generator=rng)
    assert trustworthiness(features, features * 3 - 1) == 1
    assert 0.4 < trustworthiness(features, torch.randn(200, 2, generator=rng)) < 0.6
    with pytest.raises(InvalidValue, match="half of the 20 points; got 15"):
        trustworthiness(features[:20], features[:20])


def test_what_a_map_keeps_is_measured_once_and_more_axes_keep_more(maps):
    assert 0.5 < maps.kept("pca") < maps.kept("pca", axes=3) <= 1
    found = maps.clusters()
    assert maps.clusters() is found and found.neighbours.n == 90 and found.silhouette.value > 0


def test_regions_say_who_is_near_on_the_map():
    features = torch.tensor([[0.0, 0.0], [10.0, 0.0], [5.0, 8.0]]).repeat_interleave(20, 0)
    features = features + 0.1 * torch.randn(60, 2, generator=torch.Generator().manual_seed(0))
    plane = Plane.fit(features, torch.arange(3).repeat_interleave(20), CLASSES)
    found = regions(plane, size=30)
    assert found.classes.shape == (30, 30) and found.x[0] < plane.points[:, 0].min()
    for k, (x, y) in enumerate(plane.centroids.tolist()):
        assert found.classes[np.abs(found.y - y).argmin(), np.abs(found.x - x).argmin()] == k


class Silent(Classifier):
    """Logits, and nothing of how it came to them."""

    def __init__(self):
        super().__init__([0.0] * 3, [1.0] * 3, (3, 32, 32), 10)
        self.head = nn.Identity()

    def forward(self, pixels):
        return pixels.flatten(1)[:, :10]


def test_a_model_without_features_and_bad_choices_are_refused(maps):
    for ask in (lambda: check_features(Silent()), lambda: reference(Silent(), "cifar10", n=20)):
        with pytest.raises(InvalidValue, match="needs a model with penultimate features.*Silent has none"):
            ask()
    with pytest.raises(InvalidValue, match="axes must be 2 or 3; got 4"):
        maps.pca(4)
    with pytest.raises(InvalidValue, match="map must be one of pca, umap; got 'tsne'"):
        maps.of("tsne")
    with pytest.raises(InvalidValue, match="2 axes; got 3"):
        maps.of("umap", 3)
    with pytest.raises(InvalidValue, match="finite"):
        maps.pca().place(torch.full((1, 12), torch.inf))
