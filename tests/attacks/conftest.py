"""Networks whose answers are known, and one that was really trained."""

import pytest
import torch
from torch import nn

from explorer.attacks import ATTACKS
from explorer.core import Ball, Classifier, current_rng
from explorer.testing import small_case, threat_for

MANY_PASSES = 120  # a default that takes more is tested with its weak preset, or with these settings
SMALL = {
    "square": {"queries": 100},
    "autoattack": {"steps": 10, "target_classes": 2, "queries": 40},
    "ensemble": {"steps": 10, "target_classes": 2, "queries": 30},
    "apgd-t": {"steps": 15, "target_classes": 2},
    "fab": {"steps": 10, "target_classes": 3},
    "nes": {"steps": 6, "samples": 16},
    "simba": {"steps": 60},
    "sparse-rs": {"queries": 100},
    "rays": {"steps": 60},
    "boundary": {"steps": 60, "delta": 0.3, "epsilon": 0.2, "starts": 20},
    "hopskipjump": {"steps": 4, "samples": 12, "starts": 20},
    "rotation": {"tries": 40},
    "brendel-bethge": {"restarts": 2, "steps": 21, "starts": 8},
    "patch": {"steps": 12, "restarts": 3},
    "one-pixel": {"population": 30, "generations": 3},
    "ead": {"searches": 3, "steps": 12},
    "superdeepfool": {"rounds": 3, "classes": 3},
}


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


@pytest.fixture(scope="session")
def trained():
    """(model, x, y): a small network and 48 images, all of which it gets right, some of them near the boundary."""
    assert len(small_case()[1]) == 48
    return small_case()


@pytest.fixture(scope="session")
def quick():
    """`quick("pgd")`: the attack with its defaults, or with less where those take too long for a test."""

    def made(key):
        cls = ATTACKS[key]
        return cls() if cls().expected_passes <= MANY_PASSES else cls(**SMALL.get(key, cls.presets["weak"]))

    return made


@pytest.fixture(scope="session")
def ball_for():
    """`ball_for(attack, name)`: what it is tested under; the whole range for one that looks for the smallest change."""
    return lambda attack, name=None: threat_for(attack, name or attack.threats[0])


@pytest.fixture(params=[Ball("linf", 0.03), Ball("l2", 0.2)], ids=str)
def ball(request):
    return request.param


@pytest.fixture
def linear():
    return Linear


@pytest.fixture
def masked():
    return Masked
