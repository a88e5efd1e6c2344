"""The update rule: torch's SGD to the bit, without what its optimiser object imports."""

import copy
import subprocess
import sys

import pytest
import torch
from torch import nn

from explorer.core import seeded
from explorer.training.optim import SGD

STARTS = """
import sys
import torch
from explorer.training.optim import SGD
weight = torch.nn.Parameter(torch.ones(3))
sgd = SGD([([weight], 0.1)], 0.9)
weight.sum().backward()
sgd.step(0.1)
assert weight.tolist() != [1.0, 1.0, 1.0]
sys.exit("torch._dynamo" in sys.modules)
"""


@pytest.mark.parametrize("momentum", [0.9, 0.0])
def test_it_is_the_optimisers_update_to_the_bit(momentum):
    """With rates that change, groups that decay differently, and a parameter without a gradient for a while."""
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 36, 5), nn.Linear(5, 2))
    for parameter in net.parameters():
        parameter.data = 0.1 * torch.randn(parameter.shape, generator=seeded(parameter.numel()))
    twin = copy.deepcopy(net)

    def groups(model):
        decayed = [p for p in model.parameters() if p.ndim > 1]
        return (decayed, 5e-4), ([p for p in model.parameters() if p.ndim <= 1], 0.0)

    optimizer = torch.optim.SGD(
        [{"params": params, "weight_decay": decay} for params, decay in groups(twin)], lr=0.0, momentum=momentum,
        nesterov=momentum > 0,
    )  # fmt: skip
    sgd, rng = SGD(groups(net), momentum), seeded(0)
    for update in range(5):
        for group in optimizer.param_groups:
            group["lr"] = 0.1 / (1 + update)
        optimizer.zero_grad(set_to_none=True)
        sgd.zero_grad()
        x = torch.rand(6, 3, 8, 8, generator=rng)
        for model in (net, twin):
            model[-1].requires_grad_(update > 1)
            model(x).square().mean().backward()
        optimizer.step()
        sgd.step(0.1 / (1 + update))
        assert all(bool(p.isfinite().all()) for p in net.parameters())
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(net.parameters(), twin.parameters(), strict=True))
    buffers = [optimizer.state[p].get("momentum_buffer") for params, _ in groups(twin) for p in params]
    assert [m is None for m in sgd.momentum_buffers] == [b is None for b in buffers] == [momentum == 0] * len(buffers)
    assert all(m is None or torch.equal(m, b) for m, b in zip(sgd.momentum_buffers, buffers, strict=True))


def test_an_update_does_not_import_torchs_compiler():
    assert subprocess.run([sys.executable, "-c", STARTS], timeout=120).returncode == 0
