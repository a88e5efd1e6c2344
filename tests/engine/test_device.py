import pytest
import torch

from explorer.core import InvalidValue
from explorer.core.device import computes_bfloat16
from explorer.engine import Engine, choose, describe
from explorer.jobs.environment import precision_of


def test_auto_takes_the_best_there_is(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose("auto").type == "mps"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose("auto").type == "cuda"
    assert choose("cpu").type == "cpu"


def test_what_is_absent_or_unknown_is_refused_with_what_is_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose("auto").type == "cpu"
    for absent in ("cuda", "mps"):
        with pytest.raises(InvalidValue, match=f"'{absent}' is not there.*choose auto or cpu"):
            choose(absent)
    with pytest.raises(InvalidValue, match="one of auto, cpu, cuda, mps, or cuda:1 for the second GPU; got 'tpu'"):
        choose("tpu")


def test_described_for_people(monkeypatch):
    assert describe(torch.device("cpu"), 1) == "CPU, 1 thread"
    assert describe(torch.device("cpu"), 2) == "CPU, 2 threads"
    assert "MPS" in describe(torch.device("mps"))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H200")
    assert describe(torch.device("cuda")) == "NVIDIA H200"


CPUS = [
    ({"avx512_f": True, "avx512_bf16": False}, False),
    ({"avx512_bf16": True}, True),
    ({"amx_bf16": True}, True),
    ({"bf16": True}, True),
    ({}, False),
]


@pytest.mark.parametrize(("has", "computes"), CPUS)
def test_bfloat16_is_used_only_where_a_cpu_has_it_in_hardware(has, computes, monkeypatch):
    """oneDNN accepts it on any CPU with AVX-512 and imitates it, several times slower than float32."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has)
    assert computes_bfloat16(torch.device("cpu")) == computes
    assert precision_of("auto", torch.device("cpu")) == ("bfloat16" if computes else "float32")
    assert precision_of("bfloat16", torch.device("cpu")) == "bfloat16"


def test_a_gpu_that_only_imitates_bfloat16_is_not_asked_to(monkeypatch):
    asked = []
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: asked.append(including_emulation) or False
    )
    assert not computes_bfloat16(torch.device("cuda")) and asked == [False]
    assert not computes_bfloat16(torch.device("mps"))


@pytest.mark.parametrize("threads", [0, -1, 1.5, "2", 10**6])
def test_a_thread_count_must_make_sense(threads):
    with pytest.raises(InvalidValue, match="threads"):
        Engine("cpu", threads=threads)
