"""The tools under a finished walk, as a person uses them: a figure that can be seen, a file that arrives."""

import zipfile
from pathlib import Path

from playwright.sync_api import expect

from .layout import assert_fits_sideways

APP = Path(__file__).parents[2] / "app.py"
MINUTE = 60_000  # milliseconds
WALK = "data=cifar10&image=8&model=cifar10/gaussian-0.25&attack=fgsm&norm=linf&eps=8/255"


def test_a_slice_is_seen_and_stopped_and_a_zip_arrives(open_page, serve):
    url = serve(APP, env={"EXPLORER_THREADS": "1"})
    page = open_page(f"{url}/?{WALK}", viewport={"width": 1280, "height": 1000})
    page.get_by_text("Slice through input space").click(timeout=MINUTE)
    points = page.get_by_role("combobox", name="points")
    points.click()
    points.fill("121")  # long enough to be stopped
    points.press("Enter")
    page.get_by_role("button", name="Draw the slice").click()
    expect(page.locator(".js-plotly-plot")).to_have_count(2, timeout=MINUTE)  # shown before all is computed
    page.get_by_role("button", name="Cancel", exact=True).click()
    expect(page.get_by_text("Stopped. What was found until then is shown.")).to_be_visible(timeout=MINUTE)
    expect(page.locator(".js-plotly-plot").first.get_by_text("attacked", exact=True)).to_be_visible()
    assert_fits_sideways(page)

    page.get_by_test_id("stButtonGroup").get_by_text("Save").click()
    with page.expect_download(timeout=MINUTE) as arrived:
        page.get_by_role("button", name="Everything (zip)").click(timeout=MINUTE)
    assert arrived.value.suggested_filename == "gaussian-0.25-fgsm-linf8of255-image8.zip"
    with zipfile.ZipFile(arrived.value.path()) as bundle:
        assert len(bundle.namelist()) == 6 and bundle.testzip() is None
