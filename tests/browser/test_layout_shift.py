"""How much of a page moves by itself, as web-vitals counts it; and that a dark page is never white."""

from pathlib import Path

import pytest

from .layout_shift import SIZES, cumulative, shifts_of

APP = Path(__file__).parents[2] / "app.py"
GOOD = 0.1


def test_the_largest_session_window_counts():
    together = [(0.0, 0.1), (0.9, 0.1), (1.8, 0.1)]
    assert cumulative(together) == pytest.approx(0.3)
    assert cumulative([*together, (3.0, 0.35)]) == pytest.approx(0.35)  # more than a second later: a window of its own
    assert cumulative([(t / 2, 0.1) for t in range(14)]) == pytest.approx(1.0)  # five seconds at most
    assert cumulative([]) == 0


@pytest.mark.parametrize(
    ("path", "size"),
    [
        ("", SIZES[0]),
        ("", SIZES[1]),
        ("models", SIZES[0]),
        ("training", SIZES[0]),
        ("training", SIZES[1]),
        ("lessons", SIZES[0]),
        ("many", SIZES[0]),
    ],
    ids=[
        "landing wide",
        "landing phone",
        "models wide",
        "training wide",
        "training phone",
        "lessons wide",
        "many wide",
    ],
)
def test_a_page_does_not_move_by_itself(open_page, serve, path, size):
    shifts = shifts_of(open_page(viewport=size), f"{serve(APP, env={'EXPLORER_THREADS': '1'})}/{path}")
    assert cumulative(shifts) <= GOOD, sorted(shifts, key=lambda shift: -shift[1])[:3]


def test_a_dark_page_is_dark_before_any_script_has_run(open_page, serve):
    page = open_page(color_scheme="dark", java_script_enabled=False)
    page.goto(serve(APP, env={"EXPLORER_THREADS": "1"}))
    ground = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert ground == "rgb(14, 17, 23)"
