"""The Compare page in a real browser: lanes beside each other, dragged together in silence, a transfer called one."""

from pathlib import Path
from urllib.parse import parse_qs, urlparse

from playwright.sync_api import expect

from .layout import assert_fits_sideways, go_to

APP = Path(__file__).parents[2] / "app.py"
MINUTE = 60_000  # milliseconds
LINK = "models=cifar10/baseline,cifar10/pgd-linf&craft=transfer&data=cifar10&image=2&attack=pgd&norm=linf&eps=8/255&with=steps:8"


def test_a_transfer_is_watched_in_step_and_the_link_survives_another_page(open_page, serve):
    page = open_page(reduced_motion="reduce")
    sent = []
    page.on("websocket", lambda socket: socket.on("framesent", lambda frame: sent.append(len(frame))))
    page.goto(f"{serve(APP, env={'EXPLORER_THREADS': '1'})}/compare?{LINK}")
    verdict = page.get_by_text("not thereby robust: the attack never looked at it")
    expect(verdict).to_be_visible(timeout=MINUTE)
    expect(page.get_by_test_id("stStatusWidget")).to_be_hidden(timeout=MINUTE)  # every look has been answered
    expect(page.locator(".player")).to_have_count(2, timeout=MINUTE)
    source, shown = page.locator(".player").all()
    expect(source.locator(".title")).to_have_text("Baseline · source, white-box", timeout=MINUTE)
    expect(shown.locator(".title")).to_contain_text("transfer from Baseline", timeout=MINUTE)
    for player in (source, shown):  # whose last frames it has fetched
        expect(player.locator(".running")).to_be_hidden(timeout=MINUTE)
    assert_fits_sideways(page)

    before = len(sent)
    assert before, "the test must be able to see messages to the server"
    slider = source.get_by_role("slider")
    box = slider.bounding_box()
    page.mouse.move(box["x"] + box["width"] - 10, box["y"] + box["height"] / 2)
    page.mouse.down()
    for step in range(10):
        page.mouse.move(box["x"] + 10 + (box["width"] - 20) * (1 - step / 9), box["y"] + box["height"] / 2)
    page.mouse.up()
    for player in (source, shown):
        expect(player).to_have_attribute("data-frame", "0")
    slider.fill("7")
    expect(shown).to_have_attribute("data-frame", "7")
    expect(shown.locator(".verdict-text")).to_contain_text("(transfer)")
    assert len(sent) == before

    link = parse_qs(urlparse(page.url).query)
    go_to(page, "Models")
    expect(page.get_by_text("What was measured")).to_be_visible(timeout=MINUTE)
    go_to(page, "Compare")
    expect(verdict).to_be_visible(timeout=MINUTE)
    assert parse_qs(urlparse(page.url).query) == link and link["craft"] == ["transfer"]
    expect(page.get_by_text("The settings have changed")).to_be_hidden()
