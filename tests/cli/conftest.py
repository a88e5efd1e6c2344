"""The command line as a function: `cli("models", "--json", "-")` runs it in this process."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from explorer.cli import main
from explorer.defenses import RECIPES
from explorer.training import Result
from explorer.training.export import export
from explorer.training.state import build
from tests.training.runs import sample


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

    monkeypatch.setattr("explorer.training.trainer.as_needed", sample)


@pytest.fixture
def tiny_folder(tmp_path):
    return tmp_path / "zoo" / "cifar10"


@pytest.fixture
def tiny(tiny_folder, monkeypatch):
    """The card of cifar10/tiny: an untrained network that the zoo finds."""
    recipe = RECIPES["baseline"](epochs=1, width=4)
    history = [{"epoch": 1, "loss": 2.3, "seconds": 1.0, "clean": 0.1, "score": 0.1}]
    run = Result(
        build(recipe, torch.device("cpu")).freeze(), 1, history, 1.0, 64, "CIFAR-10 train, 64 of 50,000 images", 16
    )
    monkeypatch.setattr("explorer.training.export.CAST_IMAGES", 20)
    monkeypatch.setenv("EXPLORER_CHECKPOINTS", str(tiny_folder.parent))
    return export(run, recipe, "baseline", "cifar10/tiny", tiny_folder)
