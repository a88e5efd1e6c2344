"""The Certify page in a real browser: a linked certificate, its figures and copies, then the view of a test set."""

import re
from pathlib import Path
from urllib.parse import parse_qs, urlparse

from playwright.sync_api import expect

from .layout import assert_fits_sideways

APP = Path(__file__).parents[2] / "app.py"
MINUTE = 60_000  # milliseconds
LINK = "data=cifar10&image=317&model=cifar10/gaussian-0.25&n=300&n0=50"


def test_a_linked_picture_is_certified_and_many_are_compared(open_page, serve):
    fresh = serve(APP, env={"EXPLORER_THREADS": "1", "NOBODY_WAS_HERE_BEFORE": "certify"})
    page = open_page(f"{fresh}/certify?{LINK}", color_scheme="dark")
    expect(page.get_by_text(re.compile("The seed of the draws, [0-9]+, was drawn"))).to_be_visible(timeout=MINUTE)
    expect(page.get_by_text(re.compile("^(Certified|It abstains)")).first).to_be_visible(timeout=MINUTE)
    copies = page.get_by_role("list", name="The picture and noisy copies of it").get_by_role("listitem")
    expect(copies).to_have_count(9)
    for copy in copies.all():  # a sign and a name, not the frame's colour alone
        expect(copy).to_contain_text(re.compile("[✓✗] [a-z]"))
    expect(page.locator(".js-plotly-plot .main-svg").first).to_be_visible(timeout=MINUTE)
    expect(page.get_by_role("button", name="Attack the smoothed model")).to_be_enabled(timeout=MINUTE)
    assert parse_qs(urlparse(page.url).query)["n"] == ["300"]
    assert_fits_sideways(page)
    page.get_by_role("radio", name="Test set").click()
    expect(page.get_by_text("Beside the report and the paper")).to_be_visible(timeout=MINUTE)
    expect(page.get_by_role("cell", name="Cohen et al.").first).to_be_visible(timeout=MINUTE)
    assert_fits_sideways(page)
