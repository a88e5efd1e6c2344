"""Networks small enough to know everything about."""

import pytest
import torch
from torch import nn

from explorer.core import Classifier, current_rng


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Function(Classifier):
    """logits = function(pixels), and a record of every batch it was given."""

    def __init__(self, function, input_shape=(1, 2, 2), num_classes=2, stochastic=False):
        super().__init__([0.5] * input_shape[0], [0.25] * input_shape[0], input_shape, num_classes)
        self.function, self.stochastic, self.seen = function, stochastic, []
        self.head = nn.Identity()
        self.freeze()

    def embed(self, normalised):
        pixels = normalised * self.std + self.mean
        self.seen.append(pixels.clone())
        return self.function(pixels)

    @property
    def inputs(self):
        return torch.cat(self.seen)


@pytest.fixture
def function_model():
    return Function


@pytest.fixture
def halfspace():
    """Class 0 where pixel 0 exceeds `threshold`: under noise of sigma, P(class 0) = Phi((x0 - threshold) / sigma)."""

    def make(threshold, **options):
        def logits(pixels):
            first = pixels.flatten(1)[:, 0]
            return torch.stack([first - threshold, threshold - first], 1)

        return Function(logits, **options)

    return make


@pytest.fixture
def coin():
    """A stochastic network that answers class 0 with probability p, whatever it sees."""

    def make(p):
        def logits(pixels):
            draw = torch.rand(len(pixels), generator=current_rng(pixels.device))
            return torch.stack([p - draw, draw - p], 1)

        return Function(logits, input_shape=(1, 1, 1), stochastic=True)

    return make


@pytest.fixture
def image():
    return torch.full((1, 2, 2), 0.5)
