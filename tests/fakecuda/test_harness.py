"""The impersonated GPU refuses what CUDA refuses, computes what a CPU computes, and counts waits and memory."""

import copy
import threading

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.fakecuda import memory, watching

REFUSED = [
    lambda here, there: there + here,
    lambda here, there: here + there.sum(),  # a 0-dim CUDA tensor does not come to the CPU
    lambda here, there: there @ here.T,
    lambda here, there: torch.cat([there, here]),
    lambda here, there: there.gather(1, torch.tensor([[0], [1]])),
    lambda here, there: here[torch.tensor([0]).to("cuda")],
    lambda here, there: torch.where(here > 1, there, 0.0),
    lambda here, there: F.cross_entropy(there, torch.tensor([0, 1])),
    lambda here, there: there + there.to("cuda:1"),
    lambda here, there: there.numpy(),
    lambda here, there: torch.rand(2, device="cuda", generator=torch.Generator()),
    lambda here, there: torch.rand(2, generator=torch.Generator("cuda")),
    lambda here, there: torch.rand(2, device="cuda:1", generator=torch.Generator("cuda:0")),
    lambda here, there: torch.Generator("cuda").set_state(torch.Generator().get_state()),
    lambda here, there: there.long() @ there.long().T,
    lambda here, there: torch.rand(2, device="cuda:2"),
    lambda here, there: nn.Linear(3, 2).to("cuda")(here),
]
ALLOWED = [
    lambda here, there: there + torch.tensor(2.0),  # one 0-dim CPU tensor among CUDA tensors
    lambda here, there: there[torch.tensor([0])],  # indices on the CPU
    lambda here, there: here.copy_(there),
    lambda here, there: torch.rand(2, device="cuda", generator=torch.Generator("cuda")),
    lambda here, there: torch.tensor([1.0], device="cuda") + there[0, 0],
    lambda here, there: F.dropout(there),
]


def test_what_cuda_refuses_and_allows(gpu):
    here = torch.arange(6.0).view(2, 3)
    there = here.to("cuda")
    for work in REFUSED:
        with pytest.raises((RuntimeError, TypeError)):
            work(here, there)
    for work in ALLOWED:
        work(here, there)


def test_a_network_computes_and_learns_as_on_the_cpu(gpu):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 4))
    x, nets = torch.rand(5, 3, 8, 8), (net, copy.deepcopy(net).to("cuda"))
    for net, device in zip(nets, ("cpu", "cuda"), strict=True):
        optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
        for _ in range(3):
            optimizer.zero_grad()
            F.cross_entropy(net(x.to(device)), torch.arange(5, device=device) % 4).backward()
            optimizer.step()
    for a, b in zip(nets[0].parameters(), copy.deepcopy(nets[1]).parameters(), strict=True):
        assert b.is_cuda and isinstance(b, nn.Parameter) and torch.allclose(a, b.cpu(), atol=1e-6)
    with torch.autocast("cuda", torch.bfloat16):
        assert nets[1](x.to("cuda")).dtype == torch.bfloat16


def test_a_thread_sees_the_device_and_its_backward_pass_runs_in_another(gpu):
    seen, leaf = [], torch.ones(3, device="cuda", requires_grad=True)

    def work():
        out = leaf * 2
        out.register_hook(lambda g: seen.append(threading.current_thread().name))
        seen.append(torch.autograd.grad(out.sum(), leaf)[0].device.type)

    thread = threading.Thread(target=work, name="mine")
    thread.start()
    thread.join()
    assert seen[1] == "cuda" and seen[0] != "mine"


def test_waits_are_counted_and_told_apart(gpu):
    x = torch.rand(4, device="cuda")
    for work, kinds in (
        (lambda: x * 2 + 1, []),
        (lambda: bool((x > 0).any()), ["item()/bool()/float()"]),
        (lambda: x[x > 0.5], ["mask as index (nonzero)"]),
        (lambda: x.new_tensor([1.0]), ["copy to the GPU"]),
        (lambda: x.cpu(), ["copy to the host"]),
        (lambda: torch.cuda.synchronize(), ["synchronize"]),
        (lambda: torch.rand(100).pin_memory().to("cuda", non_blocking=True), []),
    ):
        with watching() as log:
            work()
        assert [kind for kind, _ in log.waits] == kinds


def test_memory_is_counted_and_has_an_end(gpu):
    before = memory.now
    x = torch.zeros(1000, device="cuda")
    view = x[:10]
    del x
    assert memory.now == before + 4000  # the view holds it
    del view
    assert memory.now == before
    with memory.limited(memory.now + 2**20), pytest.raises(torch.OutOfMemoryError):
        torch.zeros(2**20, device="cuda")


def test_a_generator_goes_on_from_its_state(gpu):
    rng = torch.Generator("cuda").manual_seed(5)
    state, first = rng.get_state(), torch.rand(3, device="cuda", generator=rng).cpu()
    assert not torch.equal(torch.rand(3, device="cuda", generator=rng).cpu(), first) and state.numel() == 16
    assert torch.equal(torch.rand(3, device="cuda", generator=rng.set_state(state)).cpu(), first)
