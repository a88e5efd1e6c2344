"""Keys that press buttons, a view that begins at its top, words that this browser keeps (localStorage), and a clock of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from explorer.ui.components import drawing

_mount = drawing.Component("desk", Path(__file__).parent, "desk")
NOTHING: dict[str, Any] = {"keys": {}, "view": "", "name": "", "value": None, "every": None}


def press_by_keys(buttons: Mapping[str, str], *, view: str, key: str) -> None:
    """Keys of the keyboard or of a clicker, and which button each presses: by the key that Python gave it.

    `view` names what one looks at: another one is seen from its top, however far down one was.
    """
    _mount(data=NOTHING | {"keys": dict(buttons), "view": view}, key=key)


def keep(name: str, value: str, *, key: str) -> None:
    """Have the browser keep these words under this name."""
    _mount(data=NOTHING | {"name": name, "value": value}, key=key)


def kept(name: str, *, key: str) -> str | None:
    """What the browser has kept under this name, "" if nothing; None until it has said so, and the page runs again then.

    The words come from a browser: whoever reads them checks them.
    """
    told = _mount(data=NOTHING | {"name": name}, key=key, on_kept_change=lambda: None).kept
    try:
        said, value = json.loads(told or "")
    except (ValueError, TypeError):
        return None
    return value if said == name and isinstance(value, str) else None


def look_again(every: float, *, key: str) -> None:
    """Have the browser ask for this part of the page (a fragment) anew every so many seconds.

    Streamlit's own clock (`run_every`) begins with a drawing that the browser has been sent, and ends with the next one's beginning:
    where the rest of that is lost, it is gone. This one goes on.
    """
    _mount(data=NOTHING | {"every": every}, key=key, on_looked_change=lambda: None)
