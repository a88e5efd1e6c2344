"""The data folders: where datasets may lie on this computer."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from explorer.core import DataUnavailable


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


def download_folder() -> Path:
    """Where a download goes: EXPLORER_DATA when set, else `data` in the cache folder."""
    return chosen_folder() or cache_folder() / "data"
