"""The keyboard alone: each journey from the top of its page to the main button, the result read; keys that work everywhere."""

import re

import pytest
from playwright.sync_api import expect

from .test_app import APP, MINUTE, image_of
from .waiting import after_frames

LENET = "data=cifar10&image=317&model=cifar10/lenet&attack=fgsm&norm=linf&eps=8/255"  # at once on any computer
FOCUSED = """() => {
    let at = document.activeElement
    while (at?.shadowRoot?.activeElement) at = at.shadowRoot.activeElement
    const name = at?.getAttribute("aria-label") ?? at?.innerText ?? ""
    return [at?.localName ?? "", name.replace(/\\p{Co}/gu, "").replace(/^[a-z_]+\\n/, "").trim()]
}"""  # what has the focus: its tag and its name, without the icon that Streamlit writes as a word
JOURNEYS = {  # page: what has to be there first, its main button, what then can be read
    f"?{LENET}": ("How FGSM works", "Attack", re.compile(r"^(Fooled|Holds)\.")),
    f"compare?{LENET}&models=cifar10/lenet,cifar10/lenet-at".replace("model=cifar10/lenet&", ""):
        ("models fooled", "Attack", re.compile("of 2 models fooled")),
    "certify?data=cifar10&image=317&model=cifar10/gaussian-0.25&n=100":
        ("What this certificate says", "Certify", re.compile("^(Certified|It abstains)")),
    f"many?{LENET}&rows=2,7,11".replace("image=317&", ""): ("What was measured", "Attack", re.compile("White-box: the attack used")),
    f"features?{LENET}&rows=2,7".replace("image=317&", ""): ("What was measured", "Attack", re.compile(r"\d of \d fooled")),
    "models": ("How it was made", "Attack", re.compile(r"^(Fooled|Holds|Wrong from the start)\.")),
}  # fmt: skip


@pytest.fixture(scope="module")
def url(serve, tmp_path_factory):
    nothing = str(tmp_path_factory.mktemp("nothing"))
    return serve(APP, env={"EXPLORER_THREADS": "1", "EXPLORER_RUNS": nothing, "EXPLORER_DATA": nothing})


def opened(open_page, address, ready):
    page = open_page(address, reduced_motion="reduce")
    expect(page.get_by_text(ready).first).to_be_visible(timeout=2 * MINUTE)
    expect(page.get_by_text("computing on")).to_be_visible(timeout=MINUTE)
    expect(page.get_by_test_id("stStatusWidget")).to_be_hidden(timeout=MINUTE)
    return page


def tab_to(page, tag, name, most=180):
    """Press Tab until what has this name has the focus, round and round with a rest now and then; fails after so many."""
    seen = []
    for number in range(most):
        if number % 45 == 44:
            after_frames(page, 60)  # what was just being drawn is there then
        page.keyboard.press("Tab")
        seen.append(page.evaluate(FOCUSED))
        if seen[-1] == [tag, name]:
            return
    raise AssertionError(f"Tab does not come to {name!r}: {seen}")


@pytest.mark.timeout(200)
@pytest.mark.parametrize("path", JOURNEYS, ids=lambda path: path.partition("?")[0] or "attack")
def test_each_journey_goes_by_keys_alone(open_page, url, path):
    ready, button, result = JOURNEYS[path]
    page = opened(open_page, f"{url}/{path}", ready)
    expect(page.get_by_role("button", name=button, exact=True)).to_be_visible(timeout=MINUTE)
    tab_to(page, "button", button)
    page.keyboard.press("Enter")
    after_frames(page, 20)  # the click is on its way
    expect(page.get_by_test_id("stStatusWidget")).to_be_hidden(timeout=MINUTE)
    expect(page.get_by_role("button", name="Cancel", exact=True)).to_be_hidden(timeout=MINUTE)
    expect(page.get_by_text(result).first).to_be_visible(timeout=MINUTE)


def test_the_safest_picture_is_found_by_keys_with_what_is_proven_of_it(open_page, url):
    proofs = "certify?view=table&data=fashion_mnist&model=fashion_mnist/fashion-mlp&count=10&attack=0"
    page = opened(open_page, f"{url}/{proofs}", "All conditions")
    tab_to(page, "input", "Largest first, by")
    page.keyboard.type("CROWN")
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("stStatusWidget")).to_be_hidden(timeout=MINUTE)
    tab_to(page, "input", "Open this picture")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.get_by_text(re.compile(r"^Picture \d+ \(.*proven .*crown 0\.0[0-9]+"))).to_be_visible(timeout=MINUTE)
    tab_to(page, "button", "Attack this picture", most=4)


def test_a_training_run_is_started_by_keys_and_says_what_it_lacks(open_page, url):
    page = opened(open_page, f"{url}/training", "Nothing has been trained here yet")
    tab_to(page, "button", "Start")
    page.keyboard.press("Enter")
    expect(page.get_by_text(re.compile("CIFAR-10 .*not")).first).to_be_visible(timeout=2 * MINUTE)


def press(page, key, image):
    """Until the address names this picture; a key that meets a page which is just being drawn anew is lost, and pressed again."""
    expect(page.get_by_test_id("stStatusWidget")).to_be_hidden(timeout=MINUTE)
    for seconds in (15, 15, 60):
        page.keyboard.press(key)
        for _ in range(seconds):
            if image_of(page) == image:
                return
            after_frames(page, 60)
    raise AssertionError(f"{key} does not come to picture {image}")


def test_page_keys_change_the_picture_and_play_but_not_while_one_types(open_page, url):
    page = opened(open_page, f"{url}/?{LENET}", "How FGSM works")
    player, original = page.locator(".player"), page.locator('[data-says="original"]')
    page.locator(".player[data-frame]").wait_for(timeout=MINUTE)
    for key, t in (("Home", "0"), ("ArrowRight", "1"), ("End", "2")):
        page.keyboard.press(key)
        expect(player).to_have_attribute("data-frame", t, timeout=MINUTE)
    page.get_by_role("combobox", name="Fool this model").focus()
    for key in ("Home", "PageDown"):
        page.keyboard.press(key)
    after_frames(page, 20)
    assert player.get_attribute("data-frame") == "2" and image_of(page) == "317"

    page.locator("[data-testid=stCheckbox] input").last.focus()  # takes the space bar, and no other key
    for key, t in (("Home", "0"), ("End", "2")):
        page.keyboard.press(key)
        expect(player).to_have_attribute("data-frame", t, timeout=MINUTE)

    page.evaluate("document.activeElement.blur()")
    press(page, "PageDown", "318")  # a presenter's clicker presses this
    expect(original).not_to_contain_text("frog", timeout=MINUTE)
    press(page, "PageUp", "317")


def test_the_marks_of_feature_space_and_the_pictures_are_gone_through_by_arrow_keys(open_page, url):
    page = opened(open_page, f"{url}/features?data=cifar10&model=cifar10/lenet", "How to read the map")
    cloud = page.locator(".cloud")
    page.locator(".cloud[data-frame]").wait_for(timeout=MINUTE)
    cloud.locator("canvas[data-layer=front]").first.focus()
    read = []
    for key in ("ArrowRight", "ArrowRight", "Shift+ArrowRight", "ArrowUp", "Shift+ArrowDown", "ArrowLeft"):
        page.keyboard.press(key)
        after_frames(page, 2)
        read.append(cloud.locator(".said").text_content())
    assert read[0].endswith("the centre of this class") and any("reference image" in words for words in read), read
    expect(cloud.locator(".tip")).to_be_visible()
    page.keyboard.press("Escape")
    expect(cloud.locator(".tip")).to_be_hidden()


def test_a_lesson_is_scrolled_by_keys_wherever_the_focus_is(open_page, url):
    page = opened(open_page, f"{url}/lessons?lesson=1-a-change-nobody-sees&scene=1", "Show it without an answer")
    page.set_viewport_size({"width": 853, "height": 300})
    page.evaluate("document.activeElement.blur()")
    down = "document.querySelector('[data-testid=stMain]').scrollTop > {}"
    page.keyboard.press("ArrowDown")
    page.wait_for_function(down.format(50), timeout=MINUTE)
    page.keyboard.press("ArrowUp")
    page.wait_for_function("!(" + down.format(0) + ")", timeout=MINUTE)
    page.keyboard.press("ArrowDown")
    page.wait_for_function(down.format(50), timeout=MINUTE)
    page.keyboard.press("PageDown")  # the next scene is seen from its top
    expect(page.get_by_role("heading", name="What does it see now?")).to_be_visible(timeout=MINUTE)
    page.wait_for_function("!(" + down.format(0) + ")", timeout=MINUTE)
