"""Light and dark: what Python draws with inks for one of them is drawn anew when the reader goes to the other."""

from pathlib import Path

from playwright.sync_api import expect

from .waiting import after_frames

SCRIPT = Path(__file__).with_name("theme.py")
MINUTE = 60_000  # milliseconds


def test_a_page_is_drawn_anew_when_it_becomes_dark_and_only_then(open_page, serve):
    page = open_page(serve(SCRIPT), color_scheme="light")
    expect(page.get_by_text("Drawn for a light page.")).to_be_visible(timeout=MINUTE)
    expect(page.get_by_test_id("stStatusWidget")).to_be_hidden(timeout=MINUTE)
    runs = page.get_by_text("Run ").inner_text()
    after_frames(page, 60)
    expect(page.get_by_text(runs)).to_be_visible()  # at rest nothing is drawn
    page.emulate_media(color_scheme="dark")  # the computer's own setting
    expect(page.get_by_text("Drawn for a dark page.")).to_be_visible(timeout=MINUTE)
    page.get_by_test_id("stMainMenu").locator("button").first.click()
    page.get_by_test_id("stMainMenuItem-theme-Light").click()  # the reader's own choice
    expect(page.get_by_text("Drawn for a light page.")).to_be_visible(timeout=MINUTE)
