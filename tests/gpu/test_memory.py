"""A GPU's memory: too little of it, what goes back, a device that is lost, and what a page's foot says of it."""

import threading

import pytest
import torch

from explorer.certify import certify
from explorer.core.device import answers, choose, free_memory
from explorer.engine import Busy, Engine, attack_work, model_cache, scheduler
from explorer.engine.certifying import CertifyRequest, certify_work
from explorer.models.external import enlarged
from tests.fakecuda import memory, watching
from tests.gpu.conftest import request


def test_a_certificate_takes_as_many_images_a_pass_as_fit(attacked):
    on = attacked("cifar10/tiny")
    asked = {"n0": 16, "n": 128, "alpha": 0.01, "seed": 1}
    with memory.limited(memory.now + 2**22):  # for fewer than 30
        with pytest.raises(torch.OutOfMemoryError):
            on.model(torch.rand(128, 3, 32, 32, device="cuda"))
        halved = certify(on.model, on.x[0], 0.25, batch=128, **asked)
    assert halved == certify(on.model, on.x[0], 0.25, batch=16, **asked)


def test_one_that_takes_not_even_one_image_says_so_and_the_next_request_works(engine):
    asked = CertifyRequest("cifar10", 3, "cifar10/tiny", n0=10, n=130, alpha=0.01)
    engine.model("cifar10/tiny")
    with memory.limited(memory.now + 2**15):
        future = engine.submit("me", certify_work(engine, asked))
        assert (
            future.wait(60)
            and future.state == "failed"
            and str(future.error).startswith("The device ran out of memory")
        )
    held = memory.now
    future = engine.submit("me", attack_work(engine, request(hyper={"steps": 1})))
    assert future.wait(60) and future.state == "done" and memory.now <= held + 2**20


def test_a_lost_device_is_recognised_and_said(engine, monkeypatch):
    def broken():
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
        yield

    assert answers(engine.device)
    future = engine.submit("me", broken)
    assert future.wait(60) and "unexpected" in str(future.error)  # the device answers: it was the work's own fault
    monkeypatch.setattr(
        torch, "ones", lambda *size, device: (_ for _ in ()).throw(torch.AcceleratorError("CUDA error"))
    )
    future = engine.submit("me", broken)
    assert future.wait(60) and str(future.error).endswith("start the app again.")
    with pytest.raises(Busy, match="start the app again"):
        engine.submit("me", broken)


def test_memory_goes_back_when_there_is_nothing_to_do(engine, monkeypatch):
    given_back = threading.Event()
    monkeypatch.setattr(scheduler, "IDLE_S", 0.01)
    monkeypatch.setattr(torch.cuda, "empty_cache", given_back.set)
    assert engine.submit("me", lambda: iter([1])).wait(60) and given_back.wait(60)


def test_models_leave_room(engine, monkeypatch):
    engine.model("cifar10/tiny")
    monkeypatch.setattr(model_cache, "GPU_SHARE", 1e-9)
    engine.model("cifar10/other")
    assert list(engine._models._models) == ["cifar10/other"]


def test_the_second_gpu_can_be_asked_for_and_its_memory_is_told(gpu):
    engine = Engine("cuda:1", threads=1)
    assert str(choose("cuda:1")) == str(engine.device) == "cuda:1" and engine.description == "Impersonated GPU"
    with memory.limited(4 * 2**30):
        assert free_memory(engine.device) == (4 * 2**30 - memory.now, 4 * 2**30)
        held = torch.zeros(2**28, device="cuda:1")  # 1 GiB
        assert engine.free_memory == "3.0 of 4.0 GiB free" and held.device == engine.device
    assert Engine("cpu", threads=1).free_memory is None


def test_images_are_enlarged_by_what_repeats_its_bits(gpu):
    x = torch.rand(2, 3, 8, 8, requires_grad=True)
    there = x.detach().to("cuda").requires_grad_(True)
    grads = []
    with watching() as log:
        for pixels in (x, there):
            big = enlarged(pixels, 20)
            grads += torch.autograd.grad(big.square().sum(), pixels)
    assert torch.allclose(*(g.cpu() for g in grads), atol=1e-4)
    assert not any("upsample" in name for name in log.operators)
