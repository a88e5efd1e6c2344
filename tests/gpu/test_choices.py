"""What is decided by the kind of device: where the app computes, what its foot says, hooks, bfloat16, and that tests hide a GPU."""

import os
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from explorer.cli import bench, main
from explorer.engine.stopping import stops_between_layers
from explorer.ui import frame, session


class Enough(Exception):
    pass


def test_backward_passes_on_a_gpu_have_no_hooks(gpu):
    for device, hooked in (("cpu", True), ("cuda", False)):
        layer = stops_between_layers(nn.Linear(3, 2)).to(device)
        out = layer(torch.zeros(1, 3, device=device))
        assert bool(out._backward_hooks) is hooked, device


@pytest.mark.parametrize("computes", [False, True])
def test_bench_trains_in_bfloat16_only_where_the_device_computes_in_it(gpu, monkeypatch, computes):
    asked = {}

    def throughput(**options):
        asked.update(options)
        raise Enough

    monkeypatch.setattr(bench, "computes_bfloat16", lambda device: computes)
    monkeypatch.setattr(bench, "throughput", throughput)
    with pytest.raises(Enough):
        main(["bench", "training", "--device", "cuda"])
    assert asked["device"].type == "cuda" and asked["bf16"] is computes


def test_the_app_computes_where_it_was_told(monkeypatch):
    made = []
    monkeypatch.setattr(session, "Engine", lambda device, threads: made.append(device))
    for told, device in (("cuda:1", "cuda:1"), (" ", "auto"), (None, "auto")):
        if told is None:
            monkeypatch.delenv("EXPLORER_DEVICE", raising=False)
        else:
            monkeypatch.setenv("EXPLORER_DEVICE", told)
        session.engine.__wrapped__()
        assert made[-1] == device


def test_the_foot_names_the_device_and_what_is_free(monkeypatch):
    said = []
    monkeypatch.setattr(frame, "follow_theme", lambda: None)
    monkeypatch.setattr(frame.st, "caption", lambda text, **_: said.append(text))
    for free, end in (("3.5 of 8.0 GiB free", "on NVIDIA X · 3.5 of 8.0 GiB free"), (None, "on NVIDIA X")):
        monkeypatch.setattr(
            frame, "engine", lambda free=free: SimpleNamespace(description="NVIDIA X", free_memory=free)
        )
        frame.footer()
        assert said[-1].endswith(end)


def test_tests_hide_a_gpu_that_is_there():
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "" and not torch.cuda.is_available()
