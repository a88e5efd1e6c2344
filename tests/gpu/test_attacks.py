"""Every attack's walk on a GPU: nothing meets a tensor, or a generator, of another device."""

import itertools

import pytest
import torch

from explorer.attacks import ATTACKS
from explorer.core import Ball, Corruption, Goal, RotationShift, run
from explorer.core.rng import rng_on
from explorer.models import zoo
from tests.gpu.conftest import DEVICES, EVERYTHING

SMALL = {
    "steps": 2, "restarts": 2, "search_steps": 2, "binary_steps": 2, "queries": 12, "searches": 2, "directions": 6,
    "target_classes": 2, "samples": 6, "slides": 1, "halvings": 1, "tries": 3,
    "population": 6, "generations": 2, "starts": 12, "rounds": 2,
}  # fmt: skip
MODELS = ("cifar10/tiny", "cifar10/tiny-lwta") if EVERYTHING else ("fashion_mnist/fashion-mlp",)


def small(cls, stochastic):
    values = {}
    for p in cls.params():
        if p.name in SMALL:
            low, high = (getattr(p, end, None) for end in ("lo", "hi"))
            value = SMALL[p.name] if low is None else max(SMALL[p.name], low)
            values[p.name] = value if high is None else min(value, high)
        if p.name == "draws" and stochastic:
            values["draws"] = 2
    return cls(**values)


def threat_of(name):
    if name == "rotation":
        return RotationShift(angle=20, shift=2)
    return Corruption(1) if name == "corruption" else Ball(name, {"linf": 8 / 255, "l0": 10}.get(name, 0.5))


def test_a_generator_of_another_device_seeds_one_there(gpu):
    there = torch.device("cuda:1")
    made = [rng_on(there, torch.Generator().manual_seed(7)) for _ in range(2)]
    assert made[0].device == there and made[0].initial_seed() == made[1].initial_seed()
    assert rng_on(there, made[0]) is made[0] and rng_on(torch.device("cuda:0"), made[0]) is not made[0]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("key", ATTACKS.keys())
def test_the_attack_runs_to_its_outcome(gpu, tiny_zoo, monkeypatch, key, device):
    if not EVERYTHING:
        monkeypatch.delenv("EXPLORER_CHECKPOINTS")
    for name in MODELS:
        model = zoo.load(name, device)
        x = torch.rand(2, *model.input_shape).to(device)
        attack = small(ATTACKS[key], model.stochastic)
        ways = itertools.product(attack.threats, (False, True), ("cpu", device))
        for threat, targeted, where in ways if EVERYTHING else [(attack.threats[0], False, "cpu")]:
            labels = (model(x).argmax(1) + targeted) % model.num_classes
            goal, rng = Goal(labels, targeted), torch.Generator(where).manual_seed(0)
            outcome = run(attack.walk(model, x, goal, threat_of(threat), rng), goal)
            assert outcome.x.device == x.device and outcome.x.shape == x.shape
