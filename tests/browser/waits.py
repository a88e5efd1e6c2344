"""Prints how long the Feature space page and the Certify page take once the models are in the server's memory.

Run it on an idle machine: `python tests/browser/waits.py [folder for the pictures of both pages]`. Beside each time the
load of the machine and what came over the websocket. A page is measured in three new sessions of a warm server:
what the first ever visit loads (weights, reference features) is not in it.
"""

import os
import re
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.browser.conftest import FLAGS, ROOT, _start, find_chromium
from tests.browser.test_features import POINT_AT_SOMETHING

LIMIT = 120_000  # milliseconds
SHEET = "globalThis[Symbol.for('explorer.thumbnails')]?.size > 0"
PICTURE = 317  # whose first radius is awaited, each time of another certificate
TIMES = 3
SIZE = {"width": 1280, "height": 900}
WHO = ("server cold", "another visit")


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=find_chromium(), args=list(FLAGS))
        cache = tempfile.TemporaryDirectory()  # no certificate was made before
        server, url = _start(str(ROOT / "app.py"), {"EXPLORER_CACHE": cache.name}, Path(os.devnull))
        try:
            reader = browser.new_context(
                viewport=SIZE
            )  # who has been here before: Streamlit's own files are in the browser
            for turn in range(TIMES + 1):  # the first one warms the server
                feature_space(reader.new_page(), url, WHO[min(turn, 1)], folder)
            feature_space(browser.new_page(viewport=SIZE), url, "new browser", folder)
            for turn in range(TIMES + 1):
                first_radius(reader.new_page(), url, WHO[min(turn, 1)], 10_000 + turn, folder)
        finally:
            server.terminate()
            server.wait(20)
            cache.cleanup()


def feature_space(page: Page, url: str, who: str, folder: Path | None) -> None:
    received: list[int] = []
    page.on("websocket", lambda socket: socket.on("framereceived", lambda data: received.append(len(data))))
    began = time.monotonic()
    page.goto(f"{url}/features?data=cifar10&model=cifar10/baseline")
    page.wait_for_selector(".cloud canvas[data-layer=front]", timeout=LIMIT)
    drawn = time.monotonic() - began
    page.wait_for_function(SHEET, timeout=LIMIT)
    sheet = time.monotonic() - began
    assert page.locator(".cloud").evaluate(POINT_AT_SOMETHING)
    answered = time.monotonic() - began
    seen = (
        f"map drawn {drawn:.2f} s, 2,000 thumbnails there {sheet:.2f} s, one shown under the pointer {answered:.2f} s"
    )
    say("Feature space", who, f"{seen}; {sum(received) / 1e6:.2f} MB")
    finish(page, folder, "features")


def first_radius(page: Page, url: str, who: str, draws: int, folder: Path | None) -> None:
    page.goto(f"{url}/certify?data=cifar10&image={PICTURE}&model=cifar10/gaussian-0.25&n=20")  # loads the model
    expect(page.get_by_role("button", name="Certify", exact=True)).to_be_visible(timeout=LIMIT)
    expect(page.get_by_text("What this certificate says")).to_be_visible(timeout=LIMIT)
    copies = page.get_by_role("spinbutton", name="and noisy copies (n)")
    copies.fill(str(draws))
    copies.press("Enter")
    expect(page.get_by_text("The settings have changed")).to_be_visible(timeout=LIMIT)
    began = time.monotonic()
    page.get_by_role("button", name="Certify", exact=True).click()
    page.wait_for_function("() => /radius at least [0-9.]+ so far/.test(document.body.innerText)", timeout=LIMIT)
    first = time.monotonic() - began
    expect(page.get_by_text(re.compile(r"Certified: \w+, within"))).to_be_visible(timeout=LIMIT)
    last = time.monotonic() - began
    say("Certify", who, f"first radius {first:.2f} s after the click, the certificate of {draws:,} copies {last:.2f} s")
    finish(page, folder, "certify")


def say(what: str, who: str, text: str) -> None:
    load = os.getloadavg()[0]
    print(f"{what}, {who}: {text}; load {load:.1f}", flush=True)  # noqa: T201


def finish(page: Page, folder: Path | None, name: str) -> None:
    if folder is not None:
        page.screenshot(path=folder / f"{name}.png", full_page=True)
    page.close()


if __name__ == "__main__":
    main()
