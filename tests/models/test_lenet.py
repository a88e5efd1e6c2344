"""The template's small network."""

import pytest
import torch

from explorer.core import seeded
from explorer.models import ARCHITECTURES

MEAN, STD = (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)


def test_it_has_the_weights_of_two_convolutions_and_three_linear_layers():
    model = ARCHITECTURES["lenet"](MEAN, STD)
    convolutions = (3 * 25 + 1) * 6 + (6 * 25 + 1) * 16
    linear = (400 + 1) * 120 + (120 + 1) * 84 + (84 + 1) * 10
    assert sum(p.numel() for p in model.parameters()) == convolutions + linear == 62_006


@pytest.mark.parametrize("halves", [False, True])
def test_pixels_are_centred_as_asked(halves):
    torch.random.default_generator.manual_seed(0)
    model = ARCHITECTURES["lenet"](MEAN, STD, halves=halves).freeze()
    x = torch.rand(2, 3, 32, 32, generator=seeded(1))
    mean, std = ((0.5,) * 3, (0.5,) * 3) if halves else (MEAN, STD)
    shown = (x - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)
    torch.testing.assert_close(model.features(x), model.embed(shown))
    assert not model.stochastic
