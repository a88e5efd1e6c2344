"""Prints the cumulative layout shift (CLS) of every page: how much moves by itself while nobody touches it.

As web-vitals defines it: the largest session window, in which shifts follow each other by less than a second and which
lasts five seconds at most; 0.1 and less is good. Every visit is a new browser's, and ends when the server has sent
nothing for a while. `python tests/browser/layout_shift.py [URL of a running app [page ...]]`; below each number what moved most.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playwright.sync_api import sync_playwright

if TYPE_CHECKING:
    from playwright.sync_api import Page

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.browser.conftest import FLAGS, ROOT, _start, find_chromium
from tests.browser.waiting import after_frames

PAGES = tuple(sorted(path.stem for path in (ROOT / "pages").glob("*.py")))
SIZES = ({"width": 1280, "height": 900}, {"width": 390, "height": 844})
GAP, LONGEST = 1.0, 5.0  # seconds: of a session window
QUIET, LIMIT = (
    4.0,
    120.0,
)  # seconds without a message (Training looks every five whether somebody began a run), and of a visit
MOVED = 3  # of what moved most
OBSERVE = """() => {
    globalThis.shifts = []
    const name = node => {
        const part = node?.nodeType === 1 ? node : node?.parentElement
        const said = (part?.textContent ?? "").trim().replace(/\\s+/g, " ").slice(0, 30)
        return `${part?.dataset?.testid || part?.getAttribute?.("class")?.slice(0, 30) || part?.localName} "${said}"`
    }
    new PerformanceObserver(list => {
        for (const { startTime, value, hadRecentInput, sources } of list.getEntries()) {
            if (hadRecentInput) continue
            const place = box => `(${box.x | 0}, ${box.y | 0}; ${box.width | 0}x${box.height | 0})`
            const moves = sources.map(one => `${name(one.node)} ${place(one.previousRect)} to ${place(one.currentRect)}`)
            globalThis.shifts.push([startTime / 1000, value, moves])
        }
    }).observe({ type: "layout-shift", buffered: true })
}"""
Shift = Sequence[Any]  # seconds since the visit began, score, what moved


def cumulative(shifts: Iterable[Shift]) -> float:
    """The largest sum of a session window."""
    largest = total = began = last = 0.0
    for at, value, *_ in sorted(shifts, key=lambda shift: shift[0]):
        if not total or at - last >= GAP or at - began >= LONGEST:
            total, began = 0.0, at
        total, last = total + value, at
        largest = max(largest, total)
    return largest


def shifts_of(page: Page, address: str) -> list[Shift]:
    """What moves on a visit to this address, until the server has been quiet for a while."""
    heard = [time.monotonic()]
    page.on("websocket", lambda socket: socket.on("framereceived", lambda _: heard.append(time.monotonic())))
    page.add_init_script(f"({OBSERVE})()")
    end = time.monotonic() + LIMIT
    page.goto(address)
    page.get_by_text("Robustness Explorer 0").wait_for(timeout=LIMIT * 1000)  # the footer
    while time.monotonic() < min(heard[-1] + QUIET, end):
        after_frames(page, 30)
    found: list[Shift] = page.evaluate("shifts")
    return found


def main() -> None:
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=find_chromium(), args=list(FLAGS))
        server = None
        url = sys.argv[1] if len(sys.argv) > 1 else ""
        if not url:
            server, url = _start(str(ROOT / "app.py"), {}, Path("/dev/null"))
        try:
            for name in sys.argv[2:] or PAGES:
                for size in SIZES:
                    context = browser.new_context(viewport=size)
                    shifts = shifts_of(context.new_page(), f"{url}/{'' if name == 'attack' else name}")
                    print(f"{name:10} {size['width']:5} {cumulative(shifts):6.3f}", flush=True)
                    for at, value, moves in sorted(shifts, key=lambda shift: -shift[1])[:MOVED]:
                        print(f"    {value:.3f} at {at:.1f} s: {'; '.join(moves[:2])}", flush=True)
                    context.close()
        finally:
            if server is not None:
                server.terminate()
                server.wait(20)


if __name__ == "__main__":
    main()
