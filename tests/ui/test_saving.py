"""What is taken home: tables that pandas reads back, the player as one file."""

import io

import pandas as pd
import pytest

from explorer.engine import AttackRequest, Engine
from explorer.engine.tables import Table
from explorer.engine.tracing import attack_work
from explorer.ui.attack.saving import walk_page
from explorer.ui.components.save import as_csv

MODEL = "cifar10/lenet"


@pytest.fixture(scope="module")
def engine():
    engine = Engine(threads=1)
    yield engine
    engine.close()


def last(work):
    return [item for item in work() if item is not None][-1]


def test_a_table_is_read_back_by_pandas_with_nothing_rounded():
    table = Table(
        ({"image": 3, "label": "frog", "change": 1 / 3}, {"image": 4, "label": "Käfer", "change": None}), {"seed": 1}
    )
    back = pd.read_csv(io.BytesIO(as_csv(table)))
    assert list(back.columns) == ["image", "label", "change"] and back["label"].tolist() == ["frog", "Käfer"]
    assert back["change"][0] == 1 / 3 and pd.isna(back["change"][1])


def test_a_walk_is_one_small_page_that_says_its_conditions(engine):
    request = AttackRequest("cifar10", 3, MODEL, hyper={"steps": 10}).checked()
    snapshot = last(attack_work(engine, request))
    page = walk_page(snapshot, MODEL, request.title())
    assert len(page) < 2**20 and b"http://" not in page.replace(b"http://www.w3.org", b"")
    text = page.decode()
    assert f"model: {MODEL}" in text and "eps: 0.03137" in text and "seed: 0" in text
