"""The command line as a function: `cli("models", "--json", "-")` runs it in this process."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from explorer.cli import main
from explorer.data import raw


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str


@pytest.fixture
def cli(capsys):
    def run(*words) -> Said:
        capsys.readouterr()
        code = main([str(word) for word in words])
        return Said(code, *capsys.readouterr())

    return run


@pytest.fixture
def training_images(monkeypatch):
    """The bundled test sample in place of the training set, which needs a download."""

    def sample(name, split):
        assert split == "train"
        return raw(name, "test", source="sample")

    monkeypatch.setattr("explorer.training.loop.raw", sample)


@pytest.fixture
def no_bf16(monkeypatch):
    """float32 is the same everywhere; bfloat16 depends on the CPU."""
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
