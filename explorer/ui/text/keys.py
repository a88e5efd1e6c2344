"""Keys: what the keyboard does on a page, in one short line."""

from __future__ import annotations

PICTURES = "Page Up, Page Down: picture"
PLAY = "space: play · ← →: step · Home, End: first, last"
MAP = "arrows on a map: its marks"
GRID = "arrows in the grid: its pictures · Enter: choose"


def keys(*parts: str) -> str:
    """The line. None of them works while one types in a field."""
    return f"**Keys** {' · '.join(parts)}"
