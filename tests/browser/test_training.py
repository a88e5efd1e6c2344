"""The Training page in a real browser: a run is started, watched, left, found again, cancelled, resumed, and its model attacked."""

import io
import json
import os
import re
import signal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from playwright.sync_api import expect

from explorer.data import dataset
from explorer.jobs import LIVE, Store

from .layout import assert_fits_sideways
from .test_compare import APP, MINUTE

UPDATES = re.compile(r"update ([\d,]+) of ([\d,]+)")
DONE = r"Number((document.body.innerText.match(/update ([\d,]+) of/) ?? [0, '0'])[1].replaceAll(',', ''))"  # as `done`
POINTS = "document.querySelector('.js-plotly-plot')?.calcdata?.at(-1).length"  # of the loss's mean, as drawn
LONG = {
    "epochs": "999",
    "batch size (images)": "8",
    "width (channels)": "4",
}  # cancelled long before its end on any computer
SHORT = {"epochs": "2", "width (channels)": "4"}
PLANNED = 2 * 512 // 128


@pytest.fixture(scope="module")
def training_set(tmp_path_factory):
    """A folder with a CIFAR-10 training set of one plain picture a class, each 5,000 times."""
    spec, folder = dataset("cifar10"), tmp_path_factory.mktemp("data")
    pictures = []
    for k in range(len(spec.classes)):
        buffer = io.BytesIO()
        Image.fromarray(np.full((32, 32, 3), (25 * k, 255 - 25 * k, 60 + 60 * (k % 4)), np.uint8)).save(buffer, "PNG")
        pictures.append({"bytes": buffer.getvalue(), "path": f"{k}.png"})
    labels = np.arange(spec.rows["train"]) % len(spec.classes)
    names = {"info": {"features": {"label": {"names": list(spec.classes)}}}}
    table = pa.table({"image": [pictures[k] for k in labels], "label": pa.array(labels, pa.int64())})
    (folder / "cifar10").mkdir()
    table = table.replace_schema_metadata({"huggingface": json.dumps(names)})
    pq.write_table(table, folder / "cifar10" / "train-00000-of-00001.parquet")
    return folder


@pytest.fixture
def runs(tmp_path):
    """An empty folder for runs; whatever still runs there when the test is over is ended."""
    yield tmp_path / "runs"
    for run in Store(tmp_path / "runs").runs():
        process = run.state.process
        if run.state.status in LIVE and process is not None and process.alive(run.folder):
            os.killpg(process.pid, signal.SIGKILL)


def done(page) -> int:
    """Updates done, as the page says."""
    return int(UPDATES.search(page.get_by_text(UPDATES).first.inner_text())[1].replace(",", ""))


def set_up_smoke_run(page, settings) -> None:
    """Choose a smoke run, and fill these fields of the recipe's form."""
    page.get_by_test_id("stCheckbox").filter(has_text="Smoke run").locator("label").click()
    expect(page.get_by_role("spinbutton", name="epochs")).to_have_value("1", timeout=MINUTE)  # a smoke run's
    for label, value in settings.items():
        box = page.get_by_role("spinbutton", name=label)
        expect(box).to_be_visible(timeout=MINUTE)
        box.fill(value)
        box.press("Enter")
        expect(page.get_by_test_id("stStatusWidget")).to_be_hidden(timeout=MINUTE)


def points(page) -> int:
    """Points of the loss curve as it is drawn."""
    return page.evaluate(f"() => {POINTS} ?? 0")


@pytest.mark.timeout(400)  # it takes under a minute; a computer that is busy with other things gets its time
def test_a_run_is_watched_left_cancelled_resumed_and_its_model_attacked(open_page, serve, training_set, runs):
    env = {"EXPLORER_THREADS": "1", "EXPLORER_RUNS": str(runs), "EXPLORER_DATA": str(training_set)}
    url = f"{serve(APP, env=env)}/training"
    page = open_page(url)
    expect(page.get_by_text("Nothing has been trained here yet")).to_be_visible(timeout=MINUTE)
    expect(page.get_by_test_id("stStatusWidget")).to_be_hidden(timeout=MINUTE)
    set_up_smoke_run(page, LONG)
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page.get_by_text(UPDATES).first).to_be_visible(timeout=2 * MINUTE)
    page.wait_for_function(f"() => {POINTS} > 0", timeout=MINUTE)
    first = points(page)
    page.wait_for_function(f"() => {POINTS} > {first}", timeout=MINUTE)
    before = done(page)
    page.close()

    page = open_page(url)
    expect(page.get_by_text(UPDATES).first).to_be_visible(timeout=2 * MINUTE)
    page.get_by_role("button", name="Cancel", exact=True).click()
    resume = page.get_by_role("button", name="Resume", exact=True)
    expect(resume).to_be_visible(timeout=MINUTE)
    stopped = done(page)
    assert stopped >= before
    resume.click()
    page.wait_for_function(f"() => {POINTS} > 0 && {DONE} > {stopped}", timeout=2 * MINUTE)
    page.get_by_role("button", name="Cancel", exact=True).click()
    expect(resume).to_be_visible(timeout=MINUTE)

    set_up_smoke_run(page, SHORT)
    page.get_by_role("textbox", name="Call the model").fill("Watched")
    page.get_by_role("textbox", name="Call the model").press("Enter")
    page.get_by_role("button", name="Start", exact=True).click()
    attack = page.get_by_role("button", name="Attack this model", exact=True)
    expect(attack).to_be_visible(timeout=4 * MINUTE)
    assert done(page) == PLANNED
    assert_fits_sideways(page)

    attack.click()
    expect(page.get_by_text("White-box: the attack used")).to_be_visible(timeout=MINUTE)
    expect(page).to_have_url(re.compile("model=cifar10(/|%2F)watched"))
    states = [json.loads(path.read_text("utf-8")) for path in runs.glob("*/state.json")]
    seen = sorted((state["status"], state["attempt"], state["model"] or "") for state in states)
    assert seen == [("cancelled", 2, ""), ("finished", 1, "cifar10/watched")]
    assert (runs / "zoo" / "cifar10" / "watched.safetensors").is_file()
