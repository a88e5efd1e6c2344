"""What the tests of a page's layout look at."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Page

SETTLED = 10_000  # milliseconds
FITS = """() => {
    const main = document.querySelector('[data-testid="stMain"]'), side = document.querySelector('[data-testid="stSidebarContent"]')
    return main && [document.documentElement, main, side].every(box => !box || box.scrollWidth <= box.clientWidth)
}"""


def assert_fits_sideways(page: Page) -> None:
    """Fails unless the window, the page's middle and its sidebar (where it has one) come to fit sideways.

    While a page is laid out it may stand out by a rounded pixel for some frames (seen: 1 px, three or four frames).
    """
    page.wait_for_function(FITS, timeout=SETTLED)
