"""What the tests of a page's layout look at."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from .waiting import after_frames

if TYPE_CHECKING:
    from playwright.sync_api import Page

SETTLED = 10  # seconds
STANDS_OUT = """() => {
    const main = document.querySelector('[data-testid="stMain"]'), side = document.querySelector('[data-testid="stSidebarContent"]')
    if (!main) return ["there is no page"]
    const away = box => box.getBoundingClientRect().right <= 0 // a sidebar that is closed
    const fits = box => !box || away(box) || box.scrollWidth <= box.clientWidth
    const cured = (box, part) => {  // whether it would fit if this part of it were cut at its own edge
        const before = part.style.overflow
        part.style.overflow = "clip"
        const found = fits(box)
        part.style.overflow = before
        return found
    }
    return [document.documentElement, main, side].filter(box => !fits(box)).map(box => {
        const path = []
        for (let part = box; part; part = [...(part.shadowRoot ?? part).children].find(child => child.style && cured(box, child))) {
            const { left, right } = part.getBoundingClientRect()
            const name = part.dataset.testid || part.getAttribute("class") || ""
            path.push(`${part.tagName.toLowerCase()} ${name.slice(0, 40)} ${left.toFixed(2)} to ${right.toFixed(2)}`)
        }
        return `${path[0]} needs ${box.scrollWidth} of ${box.clientWidth} pixels because of ${path.slice(-6).join(" > ")}`
    })
}"""


def assert_fits_sideways(page: Page) -> None:
    """Fails, and says what stands out, unless the window, the page's middle and its sidebar come to fit sideways.

    While a page is laid out it may stand out by a rounded pixel for some frames (seen: 1 px, three or four frames).
    """
    end = time.monotonic() + SETTLED
    while found := page.evaluate(STANDS_OUT):
        assert time.monotonic() < end, "; ".join(found)
        after_frames(page, 2)


GROUPS = {"Attack": "Explore", "Compare": "Explore", "Feature space": "Explore", "Many pictures": "Measure", "Certify": "Measure",
          "Models": "Measure", "Training": "Class"}  # fmt: skip


def go_to(page: Page, title: str) -> None:
    """To another page, by the menu at the top."""
    page.get_by_test_id("stTopNavSection").filter(has_text=GROUPS[title]).click()
    page.get_by_test_id("stTopNavDropdownLink").filter(has_text=title).click()
