"""The update rules: torch's SGD and Adam to the bit, without what its optimiser object imports."""

import copy
import subprocess
import sys

import pytest
import torch
from torch import nn

from explorer.core import seeded
from explorer.training.optim import SGD, Adam

STARTS = """
import sys
import torch
from explorer.training.optim import SGD, Adam
weight = torch.nn.Parameter(torch.ones(3))
for kind in (SGD, Adam):
    ours, before = kind([([weight], 0.1)], 0.9), weight.tolist()
    weight.sum().backward()
    ours.step(0.1)
    assert weight.tolist() != before
sys.exit("torch._dynamo" in sys.modules)
"""


def groups(model):
    decayed = [p for p in model.parameters() if p.ndim > 1]
    return (decayed, 5e-4), ([p for p in model.parameters() if p.ndim <= 1], 0.0)


def sgd(parameters, momentum):
    return torch.optim.SGD(parameters, lr=0.0, momentum=momentum, nesterov=momentum > 0)


def adam(parameters, momentum):
    return torch.optim.Adam(parameters, lr=0.0, betas=(momentum, 0.999))


CASES = [(SGD, sgd, 0.9), (SGD, sgd, 0.0), (Adam, adam, 0.9), (Adam, adam, 0.0)]


@pytest.mark.parametrize(("kind", "torchs", "momentum"), CASES)
def test_it_is_the_optimisers_update_to_the_bit_also_when_taken_up_again(kind, torchs, momentum):
    """With rates that change, groups that decay differently, and a parameter without a gradient for a while."""
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 36, 5), nn.Linear(5, 2))
    for parameter in net.parameters():
        parameter.data = 0.1 * torch.randn(parameter.shape, generator=seeded(parameter.numel()))
    twin = copy.deepcopy(net)
    optimizer = torchs([{"params": params, "weight_decay": decay} for params, decay in groups(twin)], momentum)
    ours, rng = kind(groups(net), momentum), seeded(0)
    for update in range(5):
        for group in optimizer.param_groups:
            group["lr"] = 0.1 / (1 + update)
        optimizer.zero_grad(set_to_none=True)
        ours.zero_grad()
        x = torch.rand(6, 3, 8, 8, generator=rng)
        for model in (net, twin):
            model[-1].requires_grad_(update > 1)
            model(x).square().mean().backward()
        optimizer.step()
        ours.step(0.1 / (1 + update))
        kept = {name: tensor.clone() for name, tensor in ours.tensors().items()}
        ours = kind(groups(net), momentum)
        ours.restore(kept)
        assert all(bool(p.isfinite().all()) for p in net.parameters())
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(net.parameters(), twin.parameters(), strict=True))
    name = "momentum_buffer" if kind is SGD else "exp_avg"
    buffers = [optimizer.state[p].get(name) for params, _ in groups(twin) for p in params]
    nothing = [kind is SGD and momentum == 0] * len(buffers)
    assert [m is None for m in ours.momentum_buffers] == [b is None for b in buffers] == nothing
    assert all(m is None or torch.equal(m, b) for m, b in zip(ours.momentum_buffers, buffers, strict=True))


def test_an_update_does_not_import_torchs_compiler():
    assert subprocess.run([sys.executable, "-c", STARTS], timeout=120).returncode == 0
