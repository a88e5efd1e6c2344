"""The 15 common corruptions: their stated sizes, any image size, and the same under one seed wherever a picture stands."""

import numpy as np
import pytest
import torch

from explorer.core import Corruption, InvalidValue, seeded
from explorer.core.corruptions import CORRUPTIONS, KINDS, corrupted

GREY = np.full((64, 64, 3), 0.5)
SMOOTH = np.stack(np.meshgrid(np.linspace(0.1, 0.9, 32), np.linspace(0.3, 0.7, 32)), 2)[:, :, [0, 1, 1]]


def rng():
    return np.random.default_rng(0)


def test_noise_has_the_stated_size():
    for severity, sigma in enumerate(CORRUPTIONS["Gaussian noise"][1], 1):
        noise = corrupted(GREY, KINDS.index("Gaussian noise"), severity, rng()) - GREY
        assert abs(noise.mean()) < 0.01 * sigma * 3 and noise.std() == pytest.approx(sigma, rel=0.02)
    for severity, photons in enumerate(CORRUPTIONS["shot noise"][1], 1):
        noise = corrupted(GREY, KINDS.index("shot noise"), severity, rng()) - GREY
        assert noise.std() == pytest.approx((0.5 / photons) ** 0.5, rel=0.03)
    spoilt = corrupted(GREY, KINDS.index("impulse noise"), 5, rng())
    assert (spoilt != GREY).mean() == pytest.approx(0.07, abs=0.01) and set(np.unique(spoilt)) == {0.0, 0.5, 1.0}


def test_brightness_and_contrast_are_affine():
    bright = corrupted(SMOOTH, KINDS.index("brightness"), 2, rng())
    assert np.allclose(bright.max(2), np.clip(SMOOTH.max(2) + 0.1, 0, 1))
    inside = SMOOTH.max(2) < 0.9
    assert np.allclose((bright / bright.max(2, keepdims=True))[inside], (SMOOTH / SMOOTH.max(2, keepdims=True))[inside])
    flat = corrupted(SMOOTH, KINDS.index("contrast"), 5, rng())
    assert np.allclose(flat.mean((0, 1)), SMOOTH.mean((0, 1))) and np.allclose(
        flat.std((0, 1)), 0.15 * SMOOTH.std((0, 1))
    )


@pytest.mark.parametrize(
    "kind", ["defocus blur", "glass blur", "motion blur", "zoom blur", "pixelate", "elastic transform"]
)
def test_what_only_moves_light_leaves_a_flat_picture_flat(kind):
    for severity in (1, 5):
        assert np.allclose(corrupted(GREY, KINDS.index(kind), severity, rng()), GREY, atol=1 / 255)


def test_a_blur_of_one_bright_pixel_is_its_kernel():
    dot = np.zeros((33, 33, 3))
    dot[16, 16] = 1.0
    sums = [corrupted(dot, KINDS.index(kind), 5, rng()).sum() for kind in ("defocus blur", "motion blur")]
    assert np.allclose(sums, 3.0)
    trail = corrupted(dot, KINDS.index("motion blur"), 5, rng())[:, :, 0]
    rows, columns = np.nonzero(trail)
    assert trail[16, 16] == trail.max() and columns.max() == 16 and np.ptp(rows) <= np.ptp(columns), (
        "one-sided, flat angle"
    )


@pytest.mark.parametrize("shape", [(32, 32, 3), (28, 28, 1), (40, 56, 3)], ids=str)
def test_all_work_at_any_size_and_change_something(shape):
    picture = np.random.default_rng(1).random(shape).cumsum(1)
    picture /= picture.max()
    for kind in range(len(KINDS)):
        for severity in (1, 5):
            found = corrupted(picture, kind, severity, rng())
            assert found.shape == shape and found.min() >= 0 and found.max() <= 1 and np.isfinite(found).all()
            assert not np.allclose(found, picture), KINDS[kind]


def test_a_higher_severity_is_farther_away():
    picture = np.clip(SMOOTH + 0.1 * np.random.default_rng(2).standard_normal(SMOOTH.shape), 0, 1)
    for kind in ("Gaussian noise", "shot noise", "impulse noise", "defocus blur", "zoom blur", "fog", "contrast",
                 "brightness"):  # fmt: skip
        far = [np.linalg.norm(corrupted(picture, KINDS.index(kind), s, rng()) - picture) for s in range(6)]
        assert far[0] == 0 and all(np.diff(far) > 0), kind


def test_what_a_picture_gets_follows_from_the_seed_and_the_picture():
    x = torch.rand(3, 3, 8, 8, generator=seeded(0))
    theta = torch.tensor([[0.0, 2.0], [7.0, 3.0], [4.0, 1.0]])
    whole, again = (Corruption(3, seed=1).around(x).apply(theta) for _ in range(2))
    region = Corruption(3, seed=1).around(x)
    alone = region.rows(torch.tensor([1])).apply(theta[1:2])
    assert torch.equal(whole, again) and torch.equal(whole[1:2], alone)
    assert not torch.equal(whole, Corruption(3, seed=2).around(x).apply(theta))
    assert torch.equal(region.apply(region.origin), x)


def test_parameters_are_whole_and_up_to_eps():
    x = torch.rand(2, 1, 8, 8)
    region = Corruption(torch.tensor([1.0, 4.0])).around(x)
    assert region.project(torch.tensor([[3.4, 9.0], [99.0, 3.6]])).tolist() == [[3, 1], [14, 4]]
    assert region.contains(torch.tensor([[3.0, 1.0], [3.0, 4.0]])).tolist() == [True, True]
    assert region.contains(torch.tensor([[3.5, 1.0], [3.0, 5.0]])).tolist() == [False, False]
    drawn = torch.cat([region.sample(seeded(k)) for k in range(50)])
    assert drawn[:, 0].unique().tolist() == list(range(15)) and drawn[1::2, 1].unique().tolist() == [1, 2, 3, 4]
    assert Corruption(2).told([7.0, 2.0]) == "The picture has snow, severity 2."


@pytest.mark.parametrize("eps", [0, 1.5, 6, "3"])
def test_a_severity_is_a_whole_number_up_to_5(eps):
    with pytest.raises(InvalidValue, match=r"eps must be a whole number .* in \[1, 5\]; got"):
        Corruption(eps)
