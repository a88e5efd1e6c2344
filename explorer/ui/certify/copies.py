"""Small pictures in a row, each with a line below it, as HTML."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from explorer.ui.components.pictures import to_url

_STRIP = """<div style="display:grid;gap:.55rem;grid-template-columns:repeat(auto-fill,minmax(max({least}rem,
(100% - ({count} - 1) * .55rem) / {count} - 1px),1fr))" role="list" aria-label="{label}">{cells}</div>"""
_CELL = """<figure style="margin:0;text-align:center" role="listitem"><img src="{url}" alt="{alt}"
style="width:{wide};image-rendering:pixelated;border-radius:6px;{frame}"><figcaption style="font-size:.8rem;line-height:1.25;
margin-top:.2rem;overflow-wrap:anywhere">{text}</figcaption></figure>"""


def copy_cell(pixels: np.ndarray, alt: str, text: str, right: bool = True, wide: str = "100%") -> str:
    """One picture and its line (HTML); outlined where it is not `right`; `wide`: of the cell."""
    frame = "" if right else "outline:2px solid #d56a0c;"
    return _CELL.format(url=to_url(pixels), alt=alt, text=text, frame=frame, wide=wide)


def copy_row(cells: Sequence[str], label: str = "The picture and noisy copies of it", least: float = 3.8) -> str:
    """The cells side by side, as far as there is room; `least`: rem, how narrow a cell may be."""
    return _STRIP.format(count=len(cells), cells="".join(cells), label=label, least=least)
