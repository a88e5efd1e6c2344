"""DDN, FMN and SuperDeepFool: distances of linear networks, in every norm; near boundaries, and black and white pixels."""

import pytest
import torch

from explorer.attacks import ATTACKS
from explorer.core import Ball, Goal, seeded
from tests.attacks.optimum import images, optimum, smallest, weights

CASES = [("ddn", "l2"), ("superdeepfool", "l2"), *(("fmn", norm) for norm in ATTACKS["fmn"].norms)]


@pytest.mark.parametrize("bias", [0.0, 6.0, None], ids=["as it is", "far", "near"])
@pytest.mark.parametrize(("key", "norm"), CASES)
def test_two_classes_are_as_far_apart_as_they_are(linear, key, norm, bias):
    """None: the boundary goes through the mean of the images."""
    x, weight = images(6, 1), weights(2, 3)
    offset = -linear(weight)(x).mean(0) if bias is None else torch.tensor([bias, 0.0])
    model = linear(weight, bias=offset)
    y = model(x).argmax(1)
    found, least = smallest(ATTACKS[key](), model, x, Goal.untargeted(y), norm), optimum(model, x, y, norm)
    assert found.success.all() and (found.distance >= least * (1 - 1e-5) - 1e-6).all()  # float32 decides
    assert (found.distance <= (least + 1 if norm == "l0" else 1.02 * least)).all()


@pytest.mark.parametrize(("key", "norm"), CASES)
def test_half_the_pixels_black_or_white(linear, key, norm):
    x, model = images(6, 1, width=2), linear(weights(2, 3))
    y = model(x).argmax(1)
    found, least = smallest(ATTACKS[key](), model, x, Goal.untargeted(y), norm), optimum(model, x, y, norm)
    assert found.success.all() and (found.distance <= (least + 1 if norm == "l0" else 1.03 * least)).all()


@pytest.mark.parametrize(("key", "norm"), CASES)
def test_an_image_that_is_wrong_already_stays(linear, key, norm):
    x, model = images(3), linear(weights(3))
    found = smallest(ATTACKS[key](), model, x, Goal.untargeted((model(x).argmax(1) + 1) % 3), norm)
    assert found.success.all() and (found.distance == 0).all() and torch.equal(found.x, x)


def test_ddn_s_distance_changes_by_gamma(linear):
    """In the paper's way: nearer by gamma after a success, as much farther after a failure, on straight slopes."""
    model, x = linear(weights(2, 3)), images(4, 1)
    goal = Goal.untargeted(model(x).argmax(1))
    steps = list(ATTACKS["ddn"](steps=12, gamma=0.1).walk(model, x, goal, Ball("l2", 100.0), seeded(0)))
    for before, after in zip(steps[1:], steps[2:], strict=False):
        factor = torch.where(before.reached, 0.9, 1.1)
        assert torch.allclose(after.distance / before.distance, factor.double(), atol=1e-4)


class Arc(torch.nn.Module):
    """Two classes, divided by a circle of radius 0.3 around the middle of the pixels' square."""

    def forward(self, x):
        far = (x.flatten(1) - 0.5).square().sum(1)
        return torch.stack([torch.zeros_like(far), far - 0.09], 1)


def test_superdeepfool_comes_nearer_than_deepfool_where_the_boundary_is_bent():
    x = torch.tensor([0.55, 0.48, 0.5, 0.5]).view(1, 1, 2, 2)
    far = [
        float(smallest(ATTACKS[key](), Arc(), x, Goal.untargeted(torch.tensor([0]))).distance)
        for key in ("superdeepfool", "deepfool")
    ]
    nearest = 0.3 - float((x - 0.5).norm())
    assert nearest * (1 - 1e-5) <= far[0] <= 1.05 * nearest and far[0] <= far[1], (nearest, far)
