"""Tables to take home: pandas reads back what was measured, number for number, and the JSON has the conditions."""

import dataclasses
import io
import json

import pytest

from explorer.certify.store import Store
from explorer.core import InvalidValue
from explorer.data import dataset
from explorer.engine import AttackRequest, tables
from explorer.engine.batch_request import ManyRequest
from explorer.engine.certifying_set import CertifySetRequest, certify_set_work
from explorer.engine.compare import CompareRequest, compare_work
from explorer.engine.many import many_work

pandas = pytest.importorskip("pandas")
CLASSES = dataset("cifar10").classes


def read(table):
    frame = pandas.read_csv(io.StringIO(table.to_csv()))
    assert list(frame.columns) == list(table.columns) and len(frame) == len(table.rows)
    companion = json.loads(table.to_json())
    assert companion["rows"] == [dict(row) for row in table.rows] and companion["conditions"]
    for name in frame:
        known = [row[name] for row in table.rows]
        assert [None if pandas.isna(cell) else cell for cell in frame[name]] == known
    return frame


def last(work):
    return [item for item in work() if item is not None][-1]


def batch(engine, **changes):
    values = {"dataset": "cifar10", "model": "cifar10/tiny", "count": 6, "hyper": {"steps": 3}, "seed": 3}
    items = [item for item in many_work(engine, ManyRequest(**(values | changes)).checked())() if item is not None]
    return items[0], items[-1]


def test_one_row_a_picture_of_many(engine):
    begun, result = batch(engine, count=12)
    frame = read(tables.of_batch(result))
    assert frame["image"].tolist() == result.rows.tolist()
    assert frame["label"].tolist() == [CLASSES[k] for k in result.labels]
    words = {"wrong": "wrong before", "fooled": "fooled", "holds": "holds"}
    assert frame["verdict"].tolist() == [words[state] for state in result.states]
    attacked = frame[frame["verdict"] != "wrong before"]
    assert attacked["linf_pixel_units"].tolist() == result.verdict.linf.tolist()
    assert (frame["seed"] == 3).all() and "smallest_change_linf_pixel_units" not in frame
    with pytest.raises(InvalidValue, match="not ended"):
        tables.of_batch(begun)


def test_a_missed_target_is_called_so(engine):
    verdicts = set(read(tables.of_batch(batch(engine, target="cat")[1]))["verdict"])
    assert verdicts <= {"wrong before", "fooled", "target missed"}


def test_the_smallest_change_is_that_of_the_pictures_it_was_found_for(engine):
    _, result = batch(engine, attack="deepfool", norm="l2", hyper={}, pick="right", count=3)
    frame = read(tables.of_batch(result))
    found = frame["smallest_change_l2_pixel_units"]
    assert found.notna().tolist() == result.fooled.tolist() and result.fooled.any()
    assert found.dropna().tolist() == result.distance[result.fooled].tolist()


def test_one_row_a_lane(engine):
    attack = AttackRequest("cifar10", 17, "cifar10/tiny", hyper={"steps": 3}, seed=2)
    asked = CompareRequest(attack, ("cifar10/tiny", "cifar10/tiny-lwta"), attacks=("pgd", "fgsm")).checked()
    comparison = last(compare_work(engine, asked))
    frame = read(tables.of_comparison(comparison))
    assert frame["attack"].tolist() == ["pgd", "fgsm"] * 2 and set(frame["eps_pixel_units"]) == {8 / 255}
    assert frame["verdict"].tolist() == [lane.snapshot.result.ending for lane in comparison.lanes]
    unfinished = dataclasses.replace(comparison.lanes[0].snapshot, result=None)
    lane = dataclasses.replace(comparison.lanes[0], snapshot=unfinished)
    with pytest.raises(InvalidValue, match="under way"):
        tables.of_comparison(dataclasses.replace(comparison, lanes=(lane,)))


def test_one_row_a_certificate(engine, tmp_path):
    asked = CertifySetRequest("cifar10", "cifar10/tiny", 0.1, count=8, n0=20, n=100)
    found = last(certify_set_work(engine, asked, Store(tmp_path)))
    frame = read(tables.of_certified(found))
    counts = {
        "certified": found.counts["right"],
        "wrong": found.counts["wrong"],
        "abstained": found.counts["abstained"],
    }
    assert {word: int((frame["verdict"] == word).sum()) for word in counts} == counts
    radii = frame["certified_radius_l2_pixel_units"]
    assert radii.fillna(0).mean() == pytest.approx(found.acr.value)
    assert frame["seed"].tolist() == [c.seed for c in found.certificates]
    votes = frame["votes"].dropna()
    assert (votes <= 100).all() and votes.tolist() == [
        c.estimation[c.selected] for c in found.certificates if not c.skipped
    ]


def test_an_empty_table_has_no_columns():
    assert tables.Table((), {}).columns == ()
