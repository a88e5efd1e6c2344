"""Folders on this computer that no single room owns: training runs, and the models they publish."""

from __future__ import annotations

import os
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
ZOO = "zoo"  # in the runs' folder: the models that finished runs publish


def runs() -> Path:
    """The folder of all training runs, and of the models they publish: EXPLORER_RUNS, else ./runs. Absolute."""
    return Path(os.environ.get("EXPLORER_RUNS") or "runs").expanduser().absolute()


def published() -> Path:
    """Where finished runs put their models, laid out like the project's own `checkpoints`."""
    return runs() / ZOO


def shipped(name: str) -> Path:
    """A file or folder that comes with the project: beside the package in a clone, inside it once installed."""
    inside = _PACKAGE / name
    return inside if inside.exists() else _PACKAGE.parent / name


def app() -> Path:
    """The script that `streamlit run` shows."""
    installed = _PACKAGE / "app" / "app.py"
    return installed if installed.exists() else _PACKAGE.parent / "app.py"
