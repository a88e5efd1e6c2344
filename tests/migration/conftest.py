"""What version 29dbefe has left on a disk: a finished run with the model it published, and the card of another model."""

import shutil
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture
def runs(tmp_path, monkeypatch) -> Path:
    """A copy of the runs' folder; the app and the zoo find what is in it."""
    folder = shutil.copytree(HERE / "runs", tmp_path / "runs")
    monkeypatch.setenv("EXPLORER_RUNS", str(folder))
    return folder


@pytest.fixture
def checkpoints(monkeypatch) -> Path:
    """The folder of the card; the zoo reads it in place of the project's own of that name."""
    monkeypatch.setenv("EXPLORER_CHECKPOINTS", str(HERE / "checkpoints"))
    return HERE / "checkpoints"
