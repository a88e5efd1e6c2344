"""Prints how long a run takes from the click on Start to its first update on the Training page, and what watching costs.

Run it on an idle machine, with EXPLORER_DATA naming a folder with all of CIFAR-10: `python tests/browser/training_waits.py`.
The first run finds an empty cache and decodes its images, the second finds them decoded; each is the first recipe of the list
as the page offers it. Watching is the processor time of the app's process with a page open on it: while the run's process is
halted, so that nothing changes, and once nothing is live.
"""

import os
import re
import signal
import sys
import tempfile
import time
from pathlib import Path

import psutil
from playwright.sync_api import Page, expect, sync_playwright

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2])]
from conftest import FLAGS, ROOT, _start, find_chromium

from explorer.jobs import Run, Store

UPDATES = re.compile(r"update [\d,]+ of")
LIMIT = 120_000  # milliseconds
WATCHED = 30.0  # seconds
SETTLED = 5.0  # seconds until whatever a change has set off is over


def main() -> None:
    data = os.environ.get("EXPLORER_DATA")
    if not data:
        sys.exit("EXPLORER_DATA must name a folder with all of CIFAR-10.")
    with sync_playwright() as driver, tempfile.TemporaryDirectory() as made:
        browser = driver.chromium.launch(executable_path=find_chromium(), args=list(FLAGS))
        for what in ("no image decoded before", "images decoded before"):
            runs = f"{made}/{what}"  # of its own: an earlier run's updates stand on the page, too
            folders = {"EXPLORER_RUNS": runs, "EXPLORER_CACHE": f"{made}/cache", "EXPLORER_DATA": data}
            server, url = _start(str(ROOT / "app.py"), folders, Path(os.devnull))
            try:
                page = browser.new_page(viewport={"width": 1280, "height": 900})
                page.goto(f"{url}/training")
                expect(page.get_by_role("button", name="Start", exact=True)).to_be_visible(timeout=LIMIT)
                expect(page.get_by_test_id("stStatusWidget")).to_be_hidden(timeout=LIMIT)
                say(f"Start to first update, {what}: {first_update(page):.2f} s")
                (run,) = Store(Path(runs)).runs()
                watch(page, server.pid, run)
                page.close()
            finally:
                server.terminate()
                server.wait(20)


def first_update(page: Page) -> float:
    began = time.monotonic()
    page.get_by_role("button", name="Start", exact=True).click()
    page.get_by_text(UPDATES).first.wait_for(timeout=LIMIT)  # looks in every frame; `expect` would once in a second
    return time.monotonic() - began


def watch(page: Page, server: int, run: Run) -> None:
    """What the page costs while the run is halted, and after it was cancelled."""
    group = run.state.process.pid
    os.killpg(group, signal.SIGSTOP)
    say(f"watched, a live run in which nothing changes: {cost(page, server)}")
    os.killpg(group, signal.SIGCONT)
    page.get_by_role("button", name="Cancel", exact=True).click()
    asked = time.monotonic()
    expect(page.get_by_role("button", name="Resume", exact=True)).to_be_visible(timeout=LIMIT)
    say(f"cancelled {time.monotonic() - asked:.2f} s after the click")
    say(f"watched, nothing live: {cost(page, server)}")


def cost(page: Page, server: int) -> str:
    page.wait_for_timeout(1000 * SETTLED)
    process = psutil.Process(server)
    before = sum(process.cpu_times()[:2])
    page.wait_for_timeout(1000 * WATCHED)
    return f"{100 * (sum(process.cpu_times()[:2]) - before) / WATCHED:.2f} % of a core over {WATCHED:.0f} s"


def say(text: str) -> None:
    print(f"{text}; load {os.getloadavg()[0]:.1f}", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
