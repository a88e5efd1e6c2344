"""Saving in a real browser: a table opened by pandas, a figure opened as SVG and as PNG."""

import struct
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
from playwright.sync_api import expect

APP = Path(__file__).parents[2] / "app.py"
MINUTE = 60_000  # milliseconds


def saved(page, name: str) -> Path:
    with page.expect_download(timeout=MINUTE) as download:
        page.get_by_role("button", name=name, exact=True).click()
    return Path(download.value.path())


def test_the_models_table_and_figure_are_taken_home(open_page, serve):
    page = open_page(f"{serve(APP, env={'EXPLORER_THREADS': '1'})}/models")
    page.locator(".js-plotly-plot svg.main-svg").first.wait_for(timeout=3 * MINUTE)
    page.get_by_role("button", name="Save").click()
    table = pd.read_csv(saved(page, "Table (CSV)"))
    assert {"cifar10/baseline", "cifar10/pgd-linf"} <= set(table["Name"]) and table["Clean %"].dtype == float

    figure = "Clean against robust accuracy"
    expect(page.get_by_role("button", name=f"{figure} as SVG")).to_be_visible(timeout=MINUTE)
    svg = saved(page, f"{figure} as SVG").read_text("utf-8")
    tree = ElementTree.fromstring(svg)
    words = " ".join("".join(text.itertext()) for text in tree.iter("{http://www.w3.org/2000/svg}text"))
    assert "clean accuracy, %" in words and "of several attacks the lowest number counts" in words
    png = saved(page, f"{figure} as PNG").read_bytes()
    assert png[:8] == b"\x89PNG\r\n\x1a\n" and len(png) > 10_000  # more than an empty ground
    assert struct.unpack(">I", png[16:20]) == (2 * int(float(tree.get("width"))),)

    alone = open_page()  # what a browser makes of the file
    alone.set_content(svg)
    assert alone.locator("svg").first.bounding_box()["width"] > 300
    assert alone.locator(".trace.scatter").count() >= 4


def test_a_lesson_is_taken_home_with_its_answers_and_walks(open_page, serve):
    page = open_page(f"{serve(APP)}/lessons?lesson=1-a-change-nobody-sees&scene=4")
    page.get_by_text("up to 1/255", exact=True).click(timeout=MINUTE)
    page.get_by_role("button", name="Lock").click()
    expect(page.get_by_text("White-box: the attack used")).to_be_visible(timeout=MINUTE)
    page.get_by_role("button", name="Next").click()
    expect(page.get_by_text("0 of 1 of your answers came true")).to_be_visible(timeout=MINUTE)
    home = saved(page, "Take it home (HTML)").read_text("utf-8")
    assert "You said up to 1/255, 70 % sure" in home and home.count("<iframe") == 1
