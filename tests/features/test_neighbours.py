"""Neighbours against points laid out by hand."""

import numpy as np
import pytest
import torch

from explorer.core import InvalidValue
from explorer.features import OFF_MAP, Neighbours
from tests.features.clouds import cloud


@pytest.fixture
def line():
    """Five points on a line, at 0, 1, 3, 7 and 100."""
    return Neighbours(torch.tensor([[0.0, 4], [1, 4], [3, 4], [7, 4], [100, 4]]), torch.tensor([0, 0, 1, 1, 2]))


def test_the_nearest_in_order_with_their_distances(line):
    distances, rows = line.nearest(torch.tensor([[2.5, 4.0]]), 3)
    assert rows.tolist() == [[2, 1, 0]]
    assert torch.allclose(distances, torch.tensor([[0.5, 1.5, 2.5]], dtype=torch.float64))


def test_an_image_is_no_neighbour_of_itself(line):
    at = line.points
    assert line.nearest(at, 1)[1].flatten().tolist() == [0, 1, 2, 3, 4]
    assert line.nearest(at, 1, torch.arange(5))[1].flatten().tolist() == [1, 0, 1, 2, 3]
    assert line.nearest(at[:2], 1, np.array([-1, 1]))[1].flatten().tolist() == [0, 0]


def test_the_gauge_compares_with_how_far_reference_images_are_from_each_other(line):
    """Those distances are 1, 1, 2, 4 and 93."""
    gauge = line.gauge(torch.tensor([[0.0, 4], [0, 7], [50, 4], [200, 4]]))
    assert np.allclose(gauge.distance, [0, 3, 43, 100])
    assert np.allclose(gauge.relative, [0, 1.5, 21.5, 50])
    assert gauge.percentile.tolist() == [0, 60, 80, 100]
    assert gauge.off.tolist() == [False, False, False, True] and OFF_MAP < 100
    assert line.gauge(line.points, np.arange(5)).distance.tolist() == pytest.approx([1, 1, 2, 4, 93])


def test_identical_reference_images_make_a_gauge_without_nan():
    same = Neighbours(torch.ones(4, 3), torch.zeros(4).long()).gauge(torch.tensor([[1.0, 1, 1], [2, 1, 1]]))
    assert same.relative.tolist() == [0, np.inf] and same.percentile.tolist() == [0, 100]


def test_most_of_the_neighbours_decide_and_of_equals_the_nearer(line):
    asked = torch.tensor([[0.4, 4], [2.1, 4], [6.0, 4]])
    assert line.classes(asked, k=3).tolist() == [0, 0, 1]
    assert line.classes(asked, k=4).tolist() == [0, 1, 1]  # two of each: at 2.1 the point at 3 is nearer than that at 1
    assert line.others(asked, np.array([0, 1, 2]), k=4).tolist() == [0.5, 0.5, 1]


def test_the_same_alone_and_in_a_batch_and_however_far_from_the_origin():
    features, labels = cloud(300)
    for offset in (0.0, 1000.0):
        ground = Neighbours(features.double() + offset, labels)
        asked = features[:280].double() * 1.1 + offset  # more than are compared at once
        batch = ground.nearest(asked, 5)
        alone = [ground.nearest(row[None], 5) for row in asked]
        assert torch.equal(batch[1], torch.cat([rows for _, rows in alone]))
        assert torch.allclose(batch[0], torch.cat([d for d, _ in alone]), rtol=0, atol=1e-9)
    exact = torch.cdist(asked, features.double() + offset).sort(dim=1).values[:, :5]
    assert torch.allclose(batch[0], exact, atol=1e-6)


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda line: line.nearest(torch.zeros(1, 2), 6), "between 1 and 5.*got 6"),
        (lambda line: line.nearest(line.points, 5, torch.arange(5)), "between 1 and 4.*got 5"),
        (lambda line: line.classes(torch.zeros(1, 2)), "got 15"),
        (lambda line: line.gauge(torch.tensor([[0.0, torch.nan]])), "finite"),
        (lambda line: Neighbours(torch.zeros(3, 2), torch.zeros(2)), "one row per label"),
    ],
)
def test_refuses_in_one_sentence(line, ask, says):
    with pytest.raises(InvalidValue, match=says):
        ask(line)
