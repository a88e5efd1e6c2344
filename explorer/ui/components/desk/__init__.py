"""Keys that press buttons of the page, and a few words that this browser keeps from one visit to the next (localStorage)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from explorer.ui.components import drawing

_mount = drawing.Component("desk", Path(__file__).parent, "desk")


def press_by_keys(buttons: Mapping[str, str], *, key: str) -> None:
    """Keys of the keyboard or of a clicker, and which button each presses: by the key that Python gave it."""
    _mount(data={"keys": dict(buttons), "name": "", "value": None}, key=key, on_kept_change=lambda: None)


def keep(name: str, value: str, *, key: str) -> None:
    """Have the browser keep these words under this name."""
    _mount(data={"keys": {}, "name": name, "value": value}, key=key, on_kept_change=lambda: None)


def kept(name: str, *, key: str) -> str | None:
    """What the browser has kept under this name, "" if nothing; None until it has said so, and the page runs again then.

    The words come from a browser: whoever reads them checks them.
    """
    told = _mount(data={"keys": {}, "name": name, "value": None}, key=key, on_kept_change=lambda: None).kept
    try:
        said, value = json.loads(told or "")
    except (ValueError, TypeError):
        return None
    return value if said == name and isinstance(value, str) else None
