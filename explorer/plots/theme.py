"""The colours and shapes of classes, in one place: every figure and the trace player take them from here.

The ten colours stand out from a white and from a near-black page alike (contrast at least 3:1 on both, see
`PAGES`), and stay apart from each other for the common kinds of colour blindness (smallest OKLab distance 0.07 under
simulated protanopia, deuteranopia and tritanopia: Machado et al. 2009, severity 1). Ten hues can never be told apart by
everybody, so a class is never shown by its colour alone: it has a shape too, and its name stands beside it.
"""

from __future__ import annotations

from collections.abc import Iterable

CLASS_COLORS: tuple[str, ...] = (
    "#006daa",  # blue
    "#b63d18",  # rust
    "#aa7918",  # ochre
    "#9e3d86",  # plum
    "#926d79",  # mauve grey
    "#796ddb",  # violet
    "#496d49",  # moss
    "#e76d61",  # coral
    "#6d9e86",  # sage
    "#c279c2",  # orchid
)

CLASS_SHAPES: tuple[str, ...] = (  # plotly's marker names; the trace player draws the same ten
    "circle",
    "square",
    "triangle-up",
    "diamond",
    "triangle-down",
    "cross",
    "x",
    "star",
    "pentagon",
    "hexagon",
)

STATE_COLORS: dict[str, str] = {  # of an attacked picture; never without its word
    "wrong": "#7f8896",  # grey: wrong before any attack
    "fooled": "#d56a0c",  # orange
    "holds": "#3f7fd1",  # blue
}

SERIES: tuple[int, ...] = (0, 1, 2, 3, 6, 5)  # which of the class colours lines take that are no classes, in this order

MARKS: tuple[str, ...] = ("circle", "square", "diamond", "triangle-up", "x", "star", "cross")  # of such lines

PAGES: dict[str, str] = {"light": "#ffffff", "dark": "#0e1117"}  # the page backgrounds the colours were chosen for


def class_color(index: int) -> str:
    """Colour of class `index`; the ten repeat after the tenth."""
    return CLASS_COLORS[index % len(CLASS_COLORS)]


def series_color(index: int) -> str:
    """Colour of the line `index` where lines stand for runs or measures, never for classes; they repeat."""
    return CLASS_COLORS[SERIES[index % len(SERIES)]]


def series_mark(index: int) -> str:
    """Marker of the line `index`: one more than there are colours, so that both together stay unique to 42."""
    return MARKS[index % len(MARKS)]


def owner_styles(owners: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Colour and mark of each owner of lines (a model), by its place among all that may be shown together.

    Whoever gives the same list gets the same styles, whichever of the owners have a line just now; a newcomer at its end
    changes nobody else's.
    """
    return {owner: (series_color(i), series_mark(i)) for i, owner in enumerate(dict.fromkeys(owners))}


def class_shape(index: int) -> str:
    """Marker of class `index`. Each further ten classes shift it by one, so colour and shape together stay unique to 100."""
    return CLASS_SHAPES[(index + index // len(CLASS_COLORS)) % len(CLASS_SHAPES)]
