"""The mask is painted with mouse and keyboard, and what is painted is what the form gives."""

from pathlib import Path

import pytest

from .late import answers_can_be_held, hold_answers, let_answers_arrive, wait_for_answer
from .waiting import after_frames

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
    answers_can_be_held(page)
    page.goto(serve(HERE / "mask.py"))
    page.locator(".editor .board").wait_for()
    gives(page, "8000000000000000")
    hold_answers(page)
    stroke(page, (2, 0), (2, 7))
    first = wait_for_answer(page, "mask 8000ff0000000000")
    stroke(page, (4, 0), (4, 7))
    wait_for_answer(page, "mask 8000ff00ff000000")
    let_answers_arrive(page, first)  # that to the first stroke, while that to the second is under way
    gives(page, "8000ff0000000000")
    stroke(page, (6, 0), (6, 7))
    wait_for_answer(page, "mask 8000ff00ff00ff00")
    let_answers_arrive(page)
    gives(page, "8000ff00ff00ff00")
    after_frames(page)
    assert page.locator(".editor .cells [aria-pressed=true]").count() == 25
