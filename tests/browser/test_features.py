"""Feature space in a real browser: a linked attack on two models, thumbnails under the pointer, the step chosen without the server."""

import re
from pathlib import Path
from urllib.parse import parse_qs, urlparse

from playwright.sync_api import expect

from .layout import assert_fits_sideways
from .waiting import after_frames

ROOT = Path(__file__).parents[2]
MINUTE = 60_000  # milliseconds
LINK = "data=cifar10&model=cifar10/baseline&beside=cifar10/pgd-linf&attack=pgd&norm=linf&eps=8/255&with=steps:2&rows=2,7,317"
FRONT = "canvas[data-layer=front]"
POINT_AT_SOMETHING = """async root => {
    const canvas = root.querySelector('canvas[data-layer=front]');
    const box = canvas.getBoundingClientRect();
    const tip = root.querySelector('.tip');
    for (let y = 0.9; y > 0.1; y -= 0.04) for (let x = 0.1; x < 0.95; x += 0.04) {
        const at = { clientX: box.left + x * box.width, clientY: box.top + y * box.height, bubbles: true };
        canvas.dispatchEvent(new PointerEvent('pointermove', at));
        await new Promise(requestAnimationFrame);
        if (!tip.hidden && tip.querySelector('canvas') && tip.textContent.includes('reference image')) return tip.textContent;
    }
    return '';
}"""


def test_a_linked_cloud_is_watched_on_two_maps(open_page, serve):
    page = open_page(f"{serve(ROOT / 'app.py', env={'EXPLORER_THREADS': '1'})}/features?{LINK}", color_scheme="dark")
    wrong = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    expect(page.get_by_role("heading", name="What was measured")).to_be_visible(timeout=MINUTE)
    query = parse_qs(urlparse(page.url).query)
    assert query["rows"] == ["2,7,317"] and query["beside"] == ["cifar10/pgd-linf"]
    cloud = page.locator(".cloud")
    expect(cloud.locator(FRONT)).to_have_count(2)
    expect(cloud).to_have_attribute("data-frames", "5")  # before, start, two steps, the best

    slider = cloud.get_by_role("slider", name="Step of the attack")
    expect(cloud.get_by_role("button", name="Play")).to_be_visible(timeout=MINUTE)  # not playing
    pictures = "root => [...root.querySelectorAll('canvas[data-layer=front]')].map(c => c.toDataURL())"
    slider.fill("4")
    expect(cloud.locator(".step")).to_have_text("the best found")
    after_frames(page, 2)  # it is drawn in the next one
    late = cloud.evaluate(pictures)
    slider.fill("0")
    expect(cloud.locator(".step")).to_have_text("before the attack")
    after_frames(page, 2)  # it is drawn in the next one
    assert all(a != b for a, b in zip(late, cloud.evaluate(pictures), strict=True))

    page.wait_for_function("globalThis[Symbol.for('explorer.thumbnails')]?.size > 0", timeout=MINUTE)
    assert re.search(r"reference image \d+", cloud.evaluate(POINT_AT_SOMETHING))

    frog = cloud.get_by_role("button", name="frog")
    frog.click()
    expect(frog).to_have_attribute("aria-pressed", "true")
    page.locator('[data-testid="stButtonGroup"]').get_by_text("UMAP").click()
    expect(page.get_by_text("not preserve distances")).to_be_visible(timeout=MINUTE)
    expect(cloud.locator(".step")).to_have_text("before the attack")  # it stays where the reader was
    assert_fits_sideways(page)
    assert not wrong
    source = (ROOT / "explorer/ui/components/features_map/map.js").read_text("utf-8") + (
        ROOT / "explorer/ui/components/drawing.js"
    ).read_text("utf-8")
    assert "innerHTML" not in source and not re.search(r"setStateValue|setTriggerValue", source)


def test_back_and_forward_bring_the_map_alone_and_the_cloud_again(open_page, serve):
    page = open_page(
        f"{serve(ROOT / 'app.py', env={'EXPLORER_THREADS': '1'})}/features?data=cifar10&model=cifar10/lenet"
    )
    cloud = page.locator(".cloud")
    expect(page.get_by_role("columnheader", name="Before any attack")).to_be_visible(timeout=MINUTE)
    page.get_by_role("button", name="Attack", exact=True).click()
    measured = page.get_by_role("heading", name="What was measured")
    expect(measured).to_be_visible(timeout=MINUTE)
    assert "attack" in parse_qs(urlparse(page.url).query)
    page.go_back()
    expect(measured).to_be_hidden(timeout=MINUTE)
    expect(cloud).to_have_attribute("data-frames", "1", timeout=MINUTE)
    assert "attack" not in parse_qs(urlparse(page.url).query)
    page.go_forward()
    expect(measured).to_be_visible(timeout=MINUTE)
    assert "attack" in parse_qs(urlparse(page.url).query)
