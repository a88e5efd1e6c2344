"""The mask is painted with mouse and keyboard, and what is painted is what the form gives."""

from pathlib import Path

import pytest

from .late import answers_late

HERE = Path(__file__).parent


@pytest.fixture
def page(serve, open_page):
    page = open_page(serve(HERE / "mask.py"))
    page.locator(".editor .board").wait_for()
    return page


def gives(page, mask):
    page.get_by_text(f"mask {mask}", exact=True).wait_for()


def stroke(page, *cells):
    box = page.locator(".editor .board").bounding_box()
    points = [(box["x"] + (c + 0.5) * box["width"] / 8, box["y"] + (r + 0.5) * box["height"] / 8) for r, c in cells]
    page.mouse.move(*points[0])
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*point)
    page.mouse.up()


def test_strokes_keys_and_buttons_paint_the_mask(page):
    gives(page, "8000000000000000")
    stroke(page, (1, 0), (1, 7))  # one move: the cells between are painted, too
    gives(page, "80ff000000000000")
    stroke(page, (1, 7), (1, 4))  # begins on a painted cell: wipes
    gives(page, "80f0000000000000")
    page.keyboard.press("ArrowDown")  # goes on from the cell last pressed
    page.keyboard.press("Space")
    gives(page, "80f0010000000000")
    page.get_by_role("button", name="Invert").click()
    gives(page, "7f0ffeffffffffff")
    page.get_by_role("button", name="Clear").click()
    gives(page, "0000000000000000")
    assert page.get_by_text("Nothing may change: paint at least one cell.").is_visible()
    first = page.get_by_role("button", name="row 1, column 1")
    first.focus()
    page.keyboard.press("Enter")
    gives(page, "8000000000000000")
    assert first.get_attribute("aria-pressed") == "true"


def test_a_stroke_is_not_taken_back_by_a_late_answer_to_the_one_before(serve, open_page):
    page = open_page()
    answers_late(page)
    page.goto(serve(HERE / "mask.py"))
    page.locator(".editor .board").wait_for()
    page.wait_for_timeout(1500)  # the first answers have all come
    stroke(page, (2, 0), (2, 7))
    page.wait_for_timeout(400)
    stroke(page, (4, 0), (4, 7))
    page.wait_for_timeout(400)  # by now the answer to the first stroke has come, that to the second has not
    stroke(page, (6, 0), (6, 7))
    gives(page, "8000ff00ff00ff00")
    page.wait_for_timeout(1000)
    assert page.locator(".editor .cells [aria-pressed=true]").count() == 25
