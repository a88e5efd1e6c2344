"""The data folders: where datasets may lie on this computer."""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path

from explorer.core import DataUnavailable

STAGE = ".download-"  # begins the name of a download's folder, or of a dataset's being added, until it is whole
STALE = 24 * 3600  # seconds after which one that was left behind is swept away


def cache_folder() -> Path:
    """EXPLORER_CACHE, else `robustness-explorer` in the user's cache folder of this platform."""
    if chosen := os.environ.get("EXPLORER_CACHE"):
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "robustness-explorer"


def chosen_folder() -> Path | None:
    """EXPLORER_DATA, None when it is not set; raises DataUnavailable when it is no folder."""
    chosen = os.environ.get("EXPLORER_DATA")
    if not chosen:
        return None
    folder = Path(chosen).expanduser()
    if not folder.is_dir():
        raise DataUnavailable(
            f"EXPLORER_DATA names {folder}, which is not a folder: correct it, or unset it to use the bundled sample."
        )
    return folder


def data_folders() -> tuple[Path, ...]:
    """Where full sets are looked for, best first: EXPLORER_DATA, then the folder that a download fills."""
    chosen = chosen_folder()
    return (*([chosen] if chosen else []), cache_folder() / "data")


def sweep(root: Path) -> None:
    """Remove what was killed long ago before it was whole."""
    for folder in root.glob(f"{STAGE}*"):
        if time.time() - folder.stat().st_mtime > STALE:
            shutil.rmtree(folder, ignore_errors=True)


def download_folder() -> Path:
    """Where a download goes: EXPLORER_DATA when set, else `data` in the cache folder."""
    return chosen_folder() or cache_folder() / "data"
