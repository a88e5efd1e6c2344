"""Runs on the bundled sample."""

from __future__ import annotations

import pytest

from tests.training.runs import sample


@pytest.fixture(autouse=True)
def training_images(monkeypatch):
    monkeypatch.setattr("explorer.training.trainer.as_needed", sample)
