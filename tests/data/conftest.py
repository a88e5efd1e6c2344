"""Data tests see no data folder but the ones they make; what the caller set is kept for the tests of the full sets."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

CALLERS_DATA = os.environ.get("EXPLORER_DATA")
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty EXPLORER_DATA, and a cache folder that is not the user's."""
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setenv("EXPLORER_DATA", str(folder))
    monkeypatch.setenv("EXPLORER_CACHE", str(tmp_path / "cache"))
    return folder


@pytest.fixture
def full_data(monkeypatch: pytest.MonkeyPatch) -> str:
    """The caller's own EXPLORER_DATA, in force; skips where there is none."""
    if not CALLERS_DATA:
        pytest.skip("EXPLORER_DATA is not set: no full dataset to check")
    monkeypatch.setenv("EXPLORER_DATA", CALLERS_DATA)
    return CALLERS_DATA
