"""Networks whose answers are known, and one that was really trained."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from explorer.attacks import ATTACKS
from explorer.core import Ball, Classifier, current_rng, seeded
from explorer.core.ball import EPS_LIMIT

MANY_PASSES = 500  # a default that takes more is tested with its weak preset
EPS = {"linf": 0.06, "l2": 0.6}


class Linear(Classifier):
    """Logits W x + b of the raw pixels; `blind` passes give logits without any slope, as saturated units do."""

    def __init__(self, weight, bias=None, input_shape=(3, 4, 4), scale=1.0):
        super().__init__([0.5] * input_shape[0], [0.25] * input_shape[0], input_shape, len(weight))
        self.head = nn.Linear(weight.shape[1], len(weight))
        with torch.no_grad():
            self.head.weight.copy_(weight * scale)
            self.head.bias.copy_((torch.zeros(len(weight)) if bias is None else bias) * scale)
        self.blind, self.passes = 0, 0
        self.freeze()

    def embed(self, normalised):
        self.passes += 1
        features = (normalised * self.std + self.mean).flatten(1)
        return features * 0 + features.detach() if self.passes <= self.blind else features

    @property
    def weight(self):
        return self.head.weight.detach().double()


class Masked(Linear):
    """Each pass keeps every weight with probability p (EOT's closed form: the mean gradient is p times the weights)."""

    stochastic = True

    def __init__(self, weight, p, **options):
        super().__init__(weight, **options)
        self.p = p

    def embed(self, normalised):
        features = super().embed(normalised)
        kept = torch.rand(features.shape, generator=current_rng(features.device), device=features.device) < self.p
        return features * kept


class SmallNet(Classifier):
    """Convolution, batch norm, dropout: everything that an attack could disturb."""

    def __init__(self):
        super().__init__([0.5], [0.25], (1, 8, 8), 4)
        self.conv, self.norm, self.drop = nn.Conv2d(1, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.Dropout(0.2)
        self.hidden, self.head = nn.Linear(128, 32), nn.Linear(32, 4)

    def embed(self, normalised):
        return torch.relu(self.hidden(self.drop(torch.relu(self.norm(self.conv(normalised))).flatten(1))))


def blobs(n, seed):
    """n images (1,8,8) of four classes: a bright quarter in noise."""
    rng = seeded(seed)
    y = torch.arange(n) % 4
    x = 0.35 + 0.12 * torch.randn(n, 1, 8, 8, generator=rng)
    for i, label in enumerate(y.tolist()):
        row, column = 4 * (label // 2), 4 * (label % 2)
        x[i, 0, row : row + 4, column : column + 4] += 0.12
    return x.clamp(0, 1), y


@pytest.fixture(scope="session")
def trained():
    """(model, x, y): a small network and 48 images, all of which it gets right, some of them near the boundary."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = SmallNet().train()
        x, y = blobs(512, seed=1)
        optimizer = torch.optim.Adam(model.parameters(), 3e-3)
        for _ in range(60):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
    model.zero_grad(set_to_none=True)
    model.freeze()
    x, y = blobs(256, seed=2)
    right = (model(x).argmax(1) == y).nonzero()[:48, 0]
    assert len(right) == 48
    return model, x[right], y[right]


@pytest.fixture(scope="session")
def quick():
    """`quick("pgd")`: the attack with its defaults, or its weak preset where those take too long for a test."""

    def made(key):
        cls = ATTACKS[key]
        return cls() if getattr(cls(), "expected_passes", 0) <= MANY_PASSES else cls(**cls.presets["weak"])

    return made


@pytest.fixture(scope="session")
def ball_for():
    """`ball_for(attack, norm)`: the ball it is tested in; the whole range for one that looks for the smallest change."""

    def made(attack, norm=None):
        norm = norm or attack.norms[0]
        return Ball(norm, EPS_LIMIT[norm] if attack.budget == "minimal" else EPS[norm])

    return made


@pytest.fixture
def linear():
    return Linear


@pytest.fixture
def masked():
    return Masked


@pytest.fixture
def small_net():
    return SmallNet
