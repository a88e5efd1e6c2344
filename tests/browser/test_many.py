"""Many pictures in a real browser: a linked batch, a card clicked, one of them watched."""

import re
from pathlib import Path
from urllib.parse import parse_qs, urlparse

from playwright.sync_api import expect

from .late import answers_late
from .layout import assert_fits_sideways

APP = Path(__file__).parents[2] / "app.py"
MINUTE = 60_000  # milliseconds
LINK = "data=cifar10&model=cifar10/baseline&attack=pgd&norm=linf&eps=8/255&with=steps:3&rows=2,7,11,20,31,44"


def test_a_linked_strip_is_attacked_and_one_of_its_pictures_is_watched(open_page, serve):
    page = open_page(f"{serve(APP, env={'EXPLORER_THREADS': '1'})}/many?{LINK}", color_scheme="dark")
    expect(page.get_by_text("White-box: the attack used")).to_be_visible(timeout=MINUTE)
    assert parse_qs(urlparse(page.url).query)["rows"] == ["2,7,11,20,31,44"]
    cards = page.get_by_role("group", name="Attacked pictures").get_by_role("button")
    expect(cards).to_have_count(6)
    for card in cards.all():  # a word beside the colour
        expect(card.locator(".state")).to_have_text(re.compile("fooled|holds|wrong before"))
    cards.nth(2).click()
    expect(page.get_by_text(re.compile("^Picture 11, "))).to_be_visible(timeout=MINUTE)
    expect(cards.nth(2)).to_have_attribute("aria-pressed", "true")
    assert_fits_sideways(page)
    page.get_by_role("button", name="Watch this one").click()
    expect(page.locator(".caption")).to_contain_text("of 3 steps the model takes", timeout=MINUTE)
    query = parse_qs(urlparse(page.url).query)
    assert query["image"] == ["11"] and query["with"] == ["steps:3"] and "rows" not in query


def test_pictures_clicked_faster_than_the_page_answers_are_all_chosen(open_page, serve):
    page = open_page()
    answers_late(page)
    page.goto(f"{serve(APP, env={'EXPLORER_THREADS': '1'})}/many?{LINK}")  # six chosen by hand
    grid = page.get_by_role("group", name="Pictures to choose")
    expect(page.get_by_text("6 of at most 32 chosen")).to_be_visible(timeout=MINUTE)
    expect(page.get_by_text("White-box: the attack used")).to_be_visible(timeout=MINUTE)
    pressed = grid.locator("[aria-pressed=true]")
    # The run of the test before is shared: the answer may be there before the grid.
    expect(pressed.first).to_be_visible(timeout=MINUTE)
    before = pressed.count()
    more = [name.get_attribute("title") for name in grid.locator("[aria-pressed=false]").all()[:5]]
    for name in more:
        grid.get_by_title(name, exact=True).click()
        expect(grid.get_by_title(name, exact=True)).to_have_attribute("aria-pressed", "true")  # marked at once
    expect(pressed).to_have_count(before + 5)
    expect(page.get_by_text("11 of at most 32 chosen")).to_be_visible(timeout=MINUTE)
    grid.get_by_title(more[0], exact=True).click()  # again: taken away
    expect(page.get_by_text("10 of at most 32 chosen")).to_be_visible(timeout=MINUTE)
    assert pressed.count() == before + 4
