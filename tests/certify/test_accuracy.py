"""Many images: what is certified, and what that says about accuracy."""

import dataclasses

import pytest
import torch

from explorer.certify import (
    Smoothed,
    accuracy_under_noise,
    average_radius,
    certified_accuracy,
    certify,
    certify_many,
    largest_radius,
)
from explorer.core import InvalidValue, wilson

SIGMA = 0.25


@pytest.fixture
def images():
    """Five images whose pixel 0 lies at signed distances from the boundary 0.5: 0.4, 0.2, 0, -0.2, -0.4."""
    return torch.stack([torch.full((1, 2, 2), level) for level in (0.9, 0.7, 0.5, 0.3, 0.1)])


def test_each_image_can_be_repeated_alone(halfspace, images):
    model = halfspace(0.5)
    found = list(certify_many(Smoothed(model, SIGMA), images, n=500, alpha=0.01, seed=4))
    assert [c.label for c in found] == [0, 0, None, 1, 1]
    assert len({c.seed for c in found}) == 5
    again = [certify(model, x, SIGMA, n=500, alpha=0.01, seed=c.seed) for x, c in zip(images, found, strict=True)]
    assert again == found == list(certify_many(Smoothed(model, SIGMA), images, n=500, alpha=0.01, seed=4))


def test_skipping_leaves_certified_accuracy_exact(halfspace, images):
    model, y = halfspace(0.5), torch.tensor([0, 1, 0, 1, 0])
    skipping = list(certify_many(Smoothed(model, SIGMA), images, y, n=500, seed=4))
    full = list(certify_many(Smoothed(model, SIGMA), images, n=500, seed=4))
    assert [c.skipped for c in skipping][1] and [c.skipped for c in skipping][4]
    radii = [0, 0.05, 0.1, 0.2, 0.3, 0.5]
    assert certified_accuracy(skipping, y, radii) == certified_accuracy(full, y, radii)


def test_certified_accuracy_by_hand(halfspace, images):
    base = certify(halfspace(0.5), images[0], SIGMA, n=100, seed=1)
    cards = [dataclasses.replace(base, label=label, radius=r) for label, r in [(0, 0.0), (0, 0.2), (1, 0.5), (None, 0)]]
    table = certified_accuracy(cards, [0, 0, 0, 0], [0, 0.2, 0.200001])
    assert [row.certified for row in table] == [2, 1, 0]
    assert [row.accuracy for row in table] == [0.5, 0.25, 0]
    assert [(row.low, row.high) for row in table] == [wilson(2, 4), wilson(1, 4), wilson(0, 4)]
    assert [row.radius for row in table] == [0, 0.2, 0.200001] and {row.n for row in table} == {4}


def test_progress_counts_all_images_and_ends_at_the_total(halfspace, images):
    told = []
    y = torch.tensor([0, 1, 0, 1, 0])  # two of them skipped
    list(
        certify_many(Smoothed(halfspace(0.5), SIGMA), images, y, n0=10, n=90, progress=lambda *args: told.append(args))
    )
    assert told[0] == (0, 500) and told[-1] == (500, 500)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_yields_as_it_goes_and_may_be_left(halfspace, images):
    model = halfspace(0.5)
    stream = certify_many(Smoothed(model, SIGMA), images, n=100)
    next(stream)
    assert len(model.inputs) == 200 and torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
    stream.close()


@pytest.mark.parametrize(
    ("x", "y", "said"),
    [
        (torch.rand(0, 1, 2, 2), None, "one or more images"),
        (torch.rand(1, 2, 2), None, r"one or more images .* got \(1, 2, 2\)"),
        (torch.rand(2, 3, 2, 2), None, "one float image of shape"),
        (torch.full((2, 1, 2, 2), 2.0), None, "pixels must be"),
        (torch.rand(2, 1, 2, 2), torch.tensor([0]), "one label for each of the 2 images"),
        (torch.rand(2, 1, 2, 2), torch.tensor([0, 2]), r"true_label .* \[0, 1\]; got 2"),
    ],
)
def test_bad_values_are_refused_before_the_first_draw(halfspace, x, y, said):
    model = halfspace(0.5)
    with pytest.raises(InvalidValue, match=said):
        certify_many(Smoothed(model, SIGMA), x, y, n=10)
    assert model.seen == []


def test_average_radius_and_accuracy_under_noise_by_hand(halfspace, images):
    base = certify(halfspace(0.5), images[0], SIGMA, n0=10, n=1000, seed=1)
    rows = [(0, 0.4, (9, 1)), (1, 0.2, (2, 8)), (None, 0.0, (5, 5)), (0, 0.1, (10, 0))]
    cards = [dataclasses.replace(base, label=a, radius=r, selection=votes) for a, r, votes in rows]
    acr, noisy = average_radius(cards, [0, 0, 0, 0]), accuracy_under_noise(cards, [0, 0, 0, 0])
    assert acr.value == pytest.approx(0.125) and noisy.value == pytest.approx(0.65)
    spread = (sum((r - 0.125) ** 2 for r in (0.4, 0, 0, 0.1)) / 3 / 4) ** 0.5
    assert acr.high == pytest.approx(0.125 + 3.18245 * spread, rel=1e-4) and acr.low == 0  # Student's t of 3
    assert average_radius(cards[:1], [0]).high == largest_radius(SIGMA, 1000, 0.001)  # one says nothing of others
    assert noisy.high == 1 and acr.n == noisy.n == 4


def test_many_sound_certificates_need_8_bit_pictures_before_the_first_draw(halfspace, images):
    model = halfspace(0.5)
    with pytest.raises(InvalidValue, match="8-bit picture"):
        certify_many(Smoothed(model, SIGMA, sound=True), images, n=100)
    with pytest.raises(InvalidValue, match="at least 10"):
        certify_many(Smoothed(model, SIGMA), images, n=9)
    assert model.seen == []
    found = list(certify_many(Smoothed(model, SIGMA, sound=True), (images * 255).round() / 255, n=100, seed=1))
    assert [c.label for c in found] == [0, 0, None, 1, 1] and all(c.sound for c in found)


def test_certified_accuracy_refuses_nonsense(halfspace, images):
    y = torch.tensor([1, 0, 0, 1, 1])
    cards = list(certify_many(Smoothed(halfspace(0.5), SIGMA), images, y, n=100, seed=1))
    with pytest.raises(InvalidValue, match="one label; got 5 and 4"):
        certified_accuracy(cards, y[:4], [0])
    with pytest.raises(InvalidValue, match="one label; got 0 and 0"):
        certified_accuracy([], [], [0])
    with pytest.raises(InvalidValue, match="a radius must be"):
        certified_accuracy(cards, y, [float("nan")])
    with pytest.raises(InvalidValue, match="skipped for another label"):
        certified_accuracy(cards, 1 - y, [0])
