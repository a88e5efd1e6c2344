"""Weights in any usual form become tensors by their names, and what was done to them is said."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from explorer.models.converting import Unreadable, read


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


STATE = net().state_dict()
FORMS = {
    "plain": (STATE, []),
    "nested": ({"state_dict": STATE, "epoch": 3, "best_acc": 0.9}, ["unpacked 'state_dict', left out epoch, best_acc"]),
    "nested twice": ({"model": {"net": STATE}}, ["unpacked 'model'", "unpacked 'net'"]),
    "parallel": ({"module." + k: v for k, v in STATE.items()}, ["stripped the prefix 'module.'"]),
    "compiled and parallel": (
        {"_orig_mod.module." + k: v for k, v in STATE.items()},
        ["stripped the prefix '_orig_mod.'", "stripped the prefix 'module.'"],
    ),
    "no counters": (
        {k: v for k, v in STATE.items() if "num_batches" not in k},
        ["filled 1 counter (num_batches_tracked) with 0"],
    ),
    "bfloat16": (
        {k: v.bfloat16() if v.is_floating_point() else v for k, v in STATE.items()},
        ["bfloat16 became float32"],
    ),
    "counted operations": ({**STATE, "0.total_ops": torch.zeros(1)}, ["left out 0.total_ops"]),
    "extras beside": ({**STATE, "epoch": 3}, ["left out epoch"]),
}


@pytest.mark.parametrize("form", FORMS)
def test_usual_forms_fit_the_network(tmp_path, form):
    held, notes = FORMS[form]
    torch.save(held, tmp_path / "w.pth")
    tensors, said = read(tmp_path / "w.pth", STATE)
    net().load_state_dict(tensors)
    assert said == notes
    if form != "bfloat16":
        assert all(torch.equal(tensors[k], v) for k, v in STATE.items() if "num_batches" not in k)


def test_a_prefix_that_the_network_has_is_left_and_safetensors_are_read_too(tmp_path):
    inner = nn.Module()
    inner.model = net()
    save_file(inner.state_dict(), tmp_path / "w.safetensors")
    tensors, said = read(tmp_path / "w.safetensors", inner.state_dict())
    assert set(tensors) == set(inner.state_dict()) and said == []
    assert set(read(tmp_path / "w.safetensors")[0]) == set(STATE)


class Whole(nn.Module):
    pass


@pytest.mark.parametrize(
    "held, words",
    [
        (Whole(), "whole objects"),
        ([1, 2], "holds list"),
        ({"epoch": 3}, "holds no tensors"),
        ({"w": torch.eye(3).to_sparse()}, "sparse"),
    ],
)
def test_what_is_no_state_dict_is_refused_in_a_sentence(tmp_path, held, words):
    torch.save(held, tmp_path / "w.pth")
    with pytest.raises(Unreadable, match=words):
        read(tmp_path / "w.pth")


def test_a_pickle_runs_nothing(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"w": Evil()}, tmp_path / "w.pth")
    with pytest.raises(Unreadable):
        read(tmp_path / "w.pth")
    assert not (tmp_path / "ran").exists()
