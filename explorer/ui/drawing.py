"""The browser's share of the app's own components: what several of them use stands in drawing.js."""

from __future__ import annotations

from pathlib import Path

_SHARED = Path(__file__).with_name("drawing.js")


def parts(folder: Path, name: str) -> dict[str, str]:
    """The html, css and js of a component in `folder`, files of this `name`; drawing.js is put before its own js."""
    own = {kind: (folder / f"{name}.{kind}").read_text("utf-8") for kind in ("html", "css", "js")}
    return own | {"js": _SHARED.read_text("utf-8") + own["js"]}
