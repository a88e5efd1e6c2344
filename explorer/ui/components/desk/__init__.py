"""Keys that press buttons of the page, a view that begins at its top, and a few words that this browser keeps (localStorage)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from explorer.ui.components import drawing

_mount = drawing.Component("desk", Path(__file__).parent, "desk")


def press_by_keys(buttons: Mapping[str, str], *, view: str, key: str) -> None:
    """Keys of the keyboard or of a clicker, and which button each presses: by the key that Python gave it.

    `view` names what one looks at: another one is seen from its top, however far down one was.
    """
    data = {"keys": dict(buttons), "view": view, "name": "", "value": None}
    _mount(data=data, key=key, on_kept_change=lambda: None)


def keep(name: str, value: str, *, key: str) -> None:
    """Have the browser keep these words under this name."""
    _mount(data={"keys": {}, "view": "", "name": name, "value": value}, key=key, on_kept_change=lambda: None)


def kept(name: str, *, key: str) -> str | None:
    """What the browser has kept under this name, "" if nothing; None until it has said so, and the page runs again then.

    The words come from a browser: whoever reads them checks them.
    """
    told = _mount(data={"keys": {}, "view": "", "name": name, "value": None}, key=key, on_kept_change=lambda: None).kept
    try:
        said, value = json.loads(told or "")
    except (ValueError, TypeError):
        return None
    return value if said == name and isinstance(value, str) else None
