"""axe-core finds nothing serious on any page, light, dark and on a telephone; each page is opened once and then changed."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from .test_app import APP, MINUTE
from .waiting import after_frames

VIEWS = (("light", 1280), ("dark", 390))  # each theme and each width once
PAGES = {
    "?data=cifar10&image=317&model=cifar10/lenet&attack=fgsm&norm=linf&eps=8/255": "How FGSM works",
    "compare?data=cifar10&image=317&models=cifar10/lenet,cifar10/lenet-at&attack=fgsm&norm=linf&eps=8/255": "models fooled",
    "many": "What was measured",
    "features": "How to read the map",
    "certify?model=cifar10/gaussian-0.25&n=100": "Certif",
    "lab": "Accuracy over eps",
    "training": "Runs",
    "models": "What was measured",
}
BAD = ("serious", "critical")
ALSO = ("heading-order",)  # h1, then h2 and h3 below it
LEFT_OUT = ("scrollable-region-focusable",)  # wide tables and formulas: today's browsers let the keyboard scroll them
STREAMLITS = [["[data-testid=stSidebarNav]"]]  # its menu on a telephone: groups are divs in a list


@pytest.fixture(scope="module")
def url(serve, tmp_path_factory):
    return serve(APP, env={"EXPLORER_THREADS": "1", "EXPLORER_RUNS": str(tmp_path_factory.mktemp("runs"))})


@pytest.mark.timeout(300)
@pytest.mark.parametrize("path", PAGES)
def test_nothing_serious_stands_in_the_way_of_anybody(open_page, url, path):
    page = open_page(f"{url}/{path}")
    expect(page.get_by_text(PAGES[path]).first).to_be_visible(timeout=MINUTE)
    expect(page.get_by_text("computing on")).to_be_visible(timeout=MINUTE)
    expect(page.get_by_test_id("stStatusWidget")).to_be_hidden(timeout=2 * MINUTE)
    expect(page.locator("h1")).to_have_count(1, timeout=MINUTE)
    assert page.title().endswith(" · Robustness Explorer")
    found = {}
    for theme, width in VIEWS:
        page.emulate_media(color_scheme=theme)
        page.set_viewport_size({"width": width, "height": 900})
        after_frames(page, 30)
        for violation in Axe().run(page, context={"exclude": STREAMLITS}).response["violations"]:
            bad = violation["impact"] in BAD or violation["id"] in ALSO
            if bad and violation["id"] not in LEFT_OUT:
                targets = [str(node["target"]) for node in violation["nodes"]]
                found.setdefault(violation["id"], []).append(
                    (theme, width, len(targets), targets[:3], violation["nodes"][0]["failureSummary"][:300])
                )
    assert not found, "\n".join(f"{name}: {where}" for name, where in found.items())
